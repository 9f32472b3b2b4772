"""What to generate: a request, when it may stop, and its noise."""

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

# Standard normal noise (P, C) of a patch, counted from the first that is generated, and a stream.
Noise = Callable[[int, str, tuple[int, int]], Tensor]


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When the stop predictor is believed.

    Args:
        threshold: probability from which on an answer counts.
        hits: how many in a row end the speech; one miss starts the count anew.
        first: patches made before the predictor is asked at all.
    """

    threshold: float = 0.5
    hits: int = 1
    first: int = 0

    @classmethod
    def paper(cls) -> StopRule:
        """The first time p exceeds one half."""
        return cls()

    @classmethod
    def release(cls) -> StopRule:
        """Three times in a row, asked after seven patches: so never before patch nine."""
        return cls(hits=3, first=7)

    @classmethod
    def never(cls) -> StopRule:
        """Run to the limit."""
        return cls(threshold=2.0)


STOP_RULES = {"paper": StopRule.paper(), "release": StopRule.release()}


@dataclass
class StopCounter:
    """The state of a stop rule while a request runs."""

    rule: StopRule
    streak: int = 0

    def ends(self, patches: int, probability: float) -> bool:
        """Whether to stop now, after so many patches, given the probability at the current hidden state."""
        if patches < self.rule.first:
            return False
        self.streak = self.streak + 1 if probability >= self.rule.threshold else 0
        return self.streak >= self.rule.hits


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to generate. All latents are normalised.

    Args:
        text_ids: token ids of the text; may be empty where audio is given.
        task: name of a row of the model's task table.
        speaker: (G,) speaker embedding.
        first_motion: (M,) motion of the first frame; not needed for a task without motion.
        seed: decides the noise.
        sampling: how a patch is drawn.
        prefix: (N, P, C) per stream, patches that precede; the text begins with theirs. A stream may have
            fewer, the last ones, or be left out (the published speech-only prefix): it has no tokens before.
        given: (T, C) frames of the task's given streams, behind the prefix; they fix the length.
        max_patches: at most so many patches are generated.
        min_patches: the stop rule is not asked before so many.
        stop: when to believe the stop predictor; only asked where no stream is given.
        guard: what else ends speech whose length is not given.
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


def drawn_noise(seed: int) -> Noise:
    """Noise as a function of (seed, patch index, stream) alone, made on the CPU."""

    def noise(patch: int, stream: str, shape: tuple[int, int]) -> Tensor:
        key = struct.pack("<qqq", seed, patch, NAMES.index(stream))
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little", signed=True)
        return torch.randn(shape, generator=torch.Generator().manual_seed(number))

    return noise
