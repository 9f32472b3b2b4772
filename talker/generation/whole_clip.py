"""Batches for models that generate a clip as a whole instead of patch by patch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from heads.streams import Streams
from talker.generation.request import Request

Made = tuple[Streams, list[tuple[str, int]]]
"""Raw latents (T, C) of a clip, in whole patches; and its words, see `Running.words`."""


class WholeClip:
    """A request whose clip is generated in one step. It implements `talker.generation.batch.Running`."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.patches: deque[Streams] = deque()
        self.finish_reason: str | None = None
        self.paused = False
        self.words: list[tuple[str, int]] = []
        self._made = Streams()

    def tail(self, frames: int) -> Streams:
        """See `Running.tail`."""
        return self._made.map(lambda x: x[-frames:])

    def finish(self, made: Made) -> None:
        """Store the result and end the request."""
        self._made, self.words = made
        self.patches.append(self._made)
        self.finish_reason = "length" if self.request.given else "stop"


class WholeClipBatch:
    """A `Batch` of requests for a model that generates whole clips."""

    def __init__(self, make: Callable[[list[Request]], list[Made]], capacity: int) -> None:
        """`make` generates the clips of several requests at once."""
        self._make, self.capacity = make, capacity
        self._rows: list[WholeClip] = []

    @property
    def free(self) -> int:
        """See `Batch.free`."""
        return self.capacity - len(self._rows)

    def prepare(self, request: Request) -> WholeClip:
        """See `Batch.prepare`."""
        return WholeClip(request)

    def join(self, prepared: WholeClip) -> WholeClip:
        """See `Batch.join`."""
        if not self.free:
            raise ValueError("no row is free")
        self._rows.append(prepared)
        return prepared

    def step(self) -> None:
        """Generate the clips of all requests that are not paused, and remove their rows."""
        rows = [row for row in self._rows if not row.paused]
        for row, made in zip(rows, self._make([row.request for row in rows]), strict=True):
            row.finish(made)
        self._rows = [row for row in self._rows if row.paused]

    def leave(self, running: WholeClip) -> None:
        """See `Batch.leave`."""
        running.finish_reason = running.finish_reason or "interrupted"
        self._rows = [row for row in self._rows if row is not running]
