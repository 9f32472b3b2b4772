"""One request becomes an iterator of patches."""

from __future__ import annotations

from collections.abc import Iterator

from heads.streams import Streams
from talker.generation.request import Noise, Request, StopRule
from talker.generation.running_batch import RunningBatch
from talker.model.model import TalkerModel

__all__ = ["Generation", "Noise", "Request", "StopRule", "generate"]


def generate(model: TalkerModel, request: Request, noise: Noise | None = None) -> Generation:
    """The patches of a request by itself, made as they are asked for; `noise` replaces the seed's.

    Raises:
        ValueError: the request does not fit the task or the cache.
    """
    return Generation(RunningBatch(model), request, noise)


class Generation:
    """Iterator of Streams of (P, C): the streams that the task predicts, one patch each, without the prefix.

    A request in a running batch: whoever asks for a patch moves all its rows, and what they make waits for
    whom it belongs to.
    """

    def __init__(self, batch: RunningBatch, request: Request, noise: Noise | None = None) -> None:
        """Joins the batch; raises ValueError where `RunningBatch.join` does."""
        self._batch = batch
        self._row = batch.join(request, noise)

    @property
    def finish_reason(self) -> str | None:
        """None while it runs, then why it ended, see `talker.row.Row`."""
        return self._row.finish_reason

    def __iter__(self) -> Iterator[Streams]:
        return self

    def __next__(self) -> Streams:
        while not self._row.patches:
            if self._row.finish_reason is not None:
                raise StopIteration
            self._batch.step()
        return self._row.patches.popleft()

    def close(self) -> None:
        """Leave the batch before the end."""
        self._batch.leave(self._row)
