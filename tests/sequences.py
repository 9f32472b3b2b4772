"""A request of an autoregressive model, run to its end."""

from __future__ import annotations

from heads.streams import Streams
from talker.generation.request import Noise, TokenRequest
from talker.generation.running_batch import RunningBatch
from talker.generation.sequence import Sequence
from talker.model.model import TalkerModel


def finish(batch: RunningBatch, sequence: Sequence) -> list[Streams]:
    """The raw patches of a request in a batch."""
    while sequence.finish_reason is None:
        batch.step()
    return list(sequence.patches)


def generated(
    model: TalkerModel, request: TokenRequest, noise: Noise | None = None, capacity: int = 1
) -> tuple[list[Streams], str | None]:
    """The raw patches of a request alone in a batch, and why it ended."""
    batch = RunningBatch(model, capacity)
    sequence = batch.join(request, noise)
    return finish(batch, sequence), sequence.finish_reason
