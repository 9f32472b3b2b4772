"""Requests: in words and raw latents, and in tokens and normalised latents for autoregressive models."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from heads.sampling import Sampling
from heads.streams import NAMES, Streams
from talker.generation.guards import Guard
from talker.model.defaults import StopRule

# (patch index, stream, (P, C)) -> standard normal noise (P, C). Index 0 is the first generated patch.
Noise = Callable[[int, str, tuple[int, int]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request for any generator. Latents are raw, as the codecs encode and decode them.

    Args:
        text: the text to speak; may be empty if audio is given.
        task: "tts", "t2av", "a2v" or "v2a"; see `tasks` of the generator.
        said: transcript of `prefix`, if `text` does not begin with it.
        speaker: (G,) speaker embedding; None if audio is given.
        first_motion: (M,) motion code of the first frame; None for a task without motion.
        prefix: (T, C) per stream, whole patches that precede the generated ones. A stream may be absent, or
            hold only the last frames of the prefix.
        given: (T, C) frames of the task's given streams. They follow the prefix and determine the length.
        frames: length of the clip. For a model with a stop predictor: greatest length. None: the generator
            decides.
        silence: (C,) audio latent of silence. If it is set, the guards are active: they end speech that is
            silent or repeats itself, and silence the speech where given motion lasts longer than the text.
        seed: seed of the noise.
        sampling, stop: None: the defaults of the generator.
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
    """A request for an autoregressive model: token ids, normalised latents, patches.

    Args:
        text_ids: token ids of the text, including those of the prefix; may be empty if audio is given.
        task: name of a task of the model.
        speaker: (G,) speaker embedding.
        first_motion: (M,) normalised motion code of the first frame; None for a task without motion.
        seed: seed of the noise.
        sampling: settings of the solver.
        prefix: (N, P, C) per stream, patches that precede the generated ones. A stream may be absent (as in
            the published speech-only prefix) or hold only the last patches of the prefix. Its missing patches
            add nothing to the input embeddings.
        given: (T, C) frames of the task's given streams. They follow the prefix and determine the length.
        max_patches: greatest number of generated patches.
        min_patches: number of generated patches before the stop predictor is used.
        stop: rule that ends the speech; used only if no stream is given.
        guard: ends speech of unknown length that is silent or repeats itself, and silences speech where given
            motion lasts longer than the text. None: no guard.
        words: each word of the text to generate, with the index of its first token in `text_ids`.
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
    """State of the stop rule of one request.

    Attributes:
        rule: the rule.
        streak: consecutive hits so far.
    """

    rule: StopRule
    streak: int = 0

    def ends(self, patches: int, probability: float) -> bool:
        """Whether speech ends after `patches` generated patches, given the predicted stop `probability`."""
        if patches < self.rule.first:
            return False
        self.streak = self.streak + 1 if probability >= self.rule.threshold else 0
        return self.streak >= self.rule.hits


def drawn_noise(seed: int) -> Noise:
    """Noise that depends only on the seed, the patch index and the stream. Drawn on the CPU."""

    def noise(patch: int, stream: str, shape: tuple[int, int]) -> Tensor:
        key = struct.pack("<qqq", seed, patch, NAMES.index(stream))
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little", signed=True)
        return torch.randn(shape, generator=torch.Generator().manual_seed(number))

    return noise
