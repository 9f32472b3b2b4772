"""The two verbs of every head: what training asks (`errors`) and what generation asks (`sample`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from heads.flow import Draws
from heads.solver import Sampling
from heads.streams import NO_STREAMS, Streams

__all__ = ["Condition", "Draws", "Head", "HeadConfig", "Sampling"]


@dataclass(frozen=True)
class Condition:
    """What a head knows about the patches that it predicts; B rows, P frames a patch.

    Attributes:
        hidden: (B, D) state of the language model at the position before the patch.
        context: (B, P, C) latents of the previous patch of each stream; zeros where there is none.
        global_: (B, G) per stream: the speaker embedding, the motion of the first frame (normalised).
        predicted: (B,) bool per stream: rows whose patch of that stream is predicted; None: all rows.
        known: (B,) bool per stream: rows whose patch of that stream is given instead; None: no row. A row
            may have neither: the stream is absent there.
        text: (B, P, D) encoding of the text spoken at each frame, for heads that read it.
    """

    hidden: Tensor
    context: Streams
    global_: Streams
    predicted: Streams | None = None
    known: Streams | None = None
    text: Tensor | None = None


class HeadConfig(Protocol):
    """Sizes of a head that the talker needs to know."""

    @property
    def widths(self) -> dict[str, int]:
        """Latent channels (C) of each stream."""
        ...

    @property
    def global_widths(self) -> dict[str, int]:
        """Width (G) of each stream's global condition."""
        ...

    @property
    def joint(self) -> bool:
        """Whether both streams must be predicted from the same hidden state."""
        ...


class Head(Protocol):
    """One hidden state -> the next patch of every stream. Weighting and reducing errors is up to recipes."""

    def errors(
        self, condition: Condition, target: Streams, draws: Draws, given: Streams = NO_STREAMS
    ) -> Streams:
        """Unreduced training errors (B, P) of each stream of `target`; 0 in rows not `predicted`.

        target, given: (B, P, C) per stream; `given` holds the patch itself in rows where it is `known`.
        """
        ...

    def constants(self, sampling: Sampling) -> Any:
        """What `sample` needs that depends on the weights and these settings only."""
        ...

    def sample(
        self,
        condition: Condition,
        noise: Streams,
        sampling: Sampling,
        given: Streams = NO_STREAMS,
        constants: Any = None,
    ) -> Streams:
        """The next patch (B, P, C) of each stream of `noise`, float32; rows not `predicted` are arbitrary.

        noise: (B, P, C) standard normal per stream; given: see `errors`; constants: see above, computed
        here where None.
        """
        ...
