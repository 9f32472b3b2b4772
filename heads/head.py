"""The two verbs of every head: what training asks (`errors`) and what generation asks (`sample`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from heads.flow import Draws
from heads.solver import Sampling
from heads.streams import Streams

__all__ = ["Condition", "Draws", "Head", "Sampling"]


@dataclass(frozen=True)
class Condition:
    """What a head knows about the patch it makes.

    Attributes:
        hidden: (B, D) state of the language model at the position before the patch.
        context: (B, P, C) latents of the previous patch of each stream; zeros where there is none.
        global_: (B, G) per stream: the speaker embedding, the first motion frame (normalised).
    """

    hidden: Tensor
    context: Streams
    global_: Streams


class Head(Protocol):
    """Weights, reduction and mixing of the errors belong to the recipe."""

    def errors(
        self, condition: Condition, target: Streams, draws: Draws, given: tuple[str, ...] = ()
    ) -> Streams:
        """Unreduced training errors (B, P) of the streams of `target` (B, P, C) that are not `given`."""
        ...

    def sample(
        self, condition: Condition, noise: Streams, sampling: Sampling, given: tuple[str, ...] = ()
    ) -> Streams:
        """The next patch (B, P, C) of each stream of `noise` (standard normal, B, P, C) not `given`."""
        ...
