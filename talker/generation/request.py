"""What to generate: a request in words and raw latents, and in the terms of an autoregressive model."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from heads.solver import Sampling
from heads.streams import NAMES, Streams
from talker.generation.guards import Guard
from talker.model.defaults import StopRule

# Standard normal noise (P, C) of a stream's patch; patches are counted from the first that is generated.
Noise = Callable[[int, str, tuple[int, int]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to generate, for any generator. Latents are raw: as codecs encode and decode them.

    Args:
        text: the words to be spoken; may be empty where audio is given.
        task: "tts", "t2av", "a2v" or "v2a"; see the generator's `tasks`.
        said: the words spoken in `prefix`, where `text` does not begin with them.
        speaker: (G,) speaker embedding; None where audio is given.
        first_motion: (M,) motion of the first frame; not needed for a task without motion.
        prefix: (T, C) per stream, whole patches that precede and are not generated again. A stream may have
            fewer frames than the other (the last ones) or be absent.
        given: (T, C) frames of the task's given streams, which follow the prefix and fix the length.
        frames: the length for a model that generates a clip as a whole, the greatest length for one that
            finds the end of the speech; None: the generator decides.
        silence: (C,) audio latent of silence. With it, speech that stays silent or repeats itself is ended,
            and a voice is silent where given motion lasts longer than the text.
        seed: decides the noise.
        sampling, stop: None: the generator's defaults.
    """

    text: str
    task: str
    said: str = ""
    speaker: Tensor | None = None
    first_motion: Tensor | None = None
    prefix: Streams | None = None
    given: Streams | None = None
    frames: int | None = None
    silence: Tensor | None = None
    seed: int = 0
    sampling: Sampling | None = None
    stop: StopRule | None = None


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """A request as an autoregressive model takes it: token ids, normalised latents, patches.

    Args:
        text_ids: token ids of the text, those of the prefix first; may be empty where audio is given.
        task: name of a row of the model's task table.
        speaker: (G,) speaker embedding.
        first_motion: (M,) motion of the first frame; not needed for a task without motion.
        seed: decides the noise.
        sampling: how a patch is drawn.
        prefix: (N, P, C) per stream, patches that precede; the text begins with theirs. A stream may have
            fewer, the last ones, or be absent (the published speech-only prefix): it has no tokens before.
        given: (T, C) frames of the task's given streams, behind the prefix; they fix the length.
        max_patches: at most so many patches are generated.
        min_patches: the stop predictor is not asked before so many patches.
        stop: when the stop predictor ends the speech; only asked where no stream is given.
        guard: ends speech of unknown length that is silent or repeats itself, and keeps a voice silent where
            given motion lasts longer than the text.
        words: each word of the text to be generated, with the index of its first token in `text_ids`.
    """

    text_ids: Sequence[int]
    task: str
    speaker: Tensor
    first_motion: Tensor | None = None
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    prefix: Streams | None = None
    given: Streams | None = None
    max_patches: int = 188
    min_patches: int = 0
    stop: StopRule = field(default_factory=StopRule)
    guard: Guard | None = None
    words: tuple[tuple[str, int], ...] = ()


@dataclass
class StopCounter:
    """The state of a stop rule while a request runs."""

    rule: StopRule
    streak: int = 0

    def ends(self, patches: int, probability: float) -> bool:
        """Whether to stop after so many patches, given the probability at the current hidden state."""
        if patches < self.rule.first:
            return False
        self.streak = self.streak + 1 if probability >= self.rule.threshold else 0
        return self.streak >= self.rule.hits


def drawn_noise(seed: int) -> Noise:
    """Noise as a function of (seed, patch index, stream) alone, drawn on the CPU."""

    def noise(patch: int, stream: str, shape: tuple[int, int]) -> Tensor:
        key = struct.pack("<qqq", seed, patch, NAMES.index(stream))
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little", signed=True)
        return torch.randn(shape, generator=torch.Generator().manual_seed(number))

    return noise
