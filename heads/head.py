"""The interface of heads: `errors` for training and `sample` for generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from heads.flow import Draws
from heads.sampling import Sampling
from heads.streams import NO_STREAMS, Streams

__all__ = ["Condition", "Draws", "Head", "HeadConfig", "Sampling"]


@dataclass(frozen=True)
class Condition:
    """Conditions of B patches of P frames. Latents are normalised.

    Attributes:
        hidden: (B, D) hidden state of the language model at the position before the patch.
        context: (B, P, C) per stream, the previous patch; zeros if there is none.
        global_: (B, G) per stream, the speaker embedding and the motion code of the first frame.
        predicted: (B,) bool per stream, rows whose patch of the stream is predicted; None: all rows.
        known: (B,) bool per stream, rows whose patch of the stream is given; None: no row. In rows that are
            neither, the stream is absent.
        text: (B, P, D) encoding of the text spoken at each frame, for heads that use it; None otherwise.
    """

    hidden: Tensor
    context: Streams
    global_: Streams
    predicted: Streams | None = None
    known: Streams | None = None
    text: Tensor | None = None


class HeadConfig(Protocol):
    """The properties of a head's config that the talker uses."""

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
    """Predicts the next patch of every stream from one hidden state. Recipes weight and reduce the errors."""

    def errors(
        self, condition: Condition, target: Streams, draws: Draws, given: Streams = NO_STREAMS
    ) -> Streams:
        """Compute unreduced training errors.

        Args:
            condition: the conditions of B patches.
            target: (B, P, C) per stream, the true patches.
            draws: times, noise and dropped conditions.
            given: (B, P, C) per stream, the given patches in rows where the stream is `condition.known`.

        Returns:
            (B, P) errors of each stream of `target`; 0 in rows that are not `condition.predicted`.
        """
        ...

    def constants(self, sampling: Sampling) -> Any:
        """Compute the values for `sample` that depend only on the weights and the settings."""
        ...

    def sample(
        self,
        condition: Condition,
        noise: Streams,
        sampling: Sampling,
        given: Streams = NO_STREAMS,
        constants: Any = None,
    ) -> Streams:
        """Sample the next patch of each stream.

        Args:
            condition: the conditions of B patches.
            noise: (B, P, C) per stream, standard normal.
            sampling: settings of the solver.
            given: see `errors`.
            constants: the result of `constants(sampling)`; None: computed here.

        Returns:
            (B, P, C) float32 of each stream of `noise`; arbitrary in rows that are not `predicted`.
        """
        ...
