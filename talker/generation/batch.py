"""Interface of a batch of requests, and the generation of a single request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from heads.streams import Streams
from talker.generation.request import Request


class Running(Protocol):
    """A request in a batch."""

    patches: deque[Streams]
    """Generated raw latents (n, C) per stream, oldest first; the owner of the request removes them. n is a
    multiple of the generator's `chunk_frames`. Frames after the end of the given frames are padding."""
    finish_reason: str | None
    """None while the request runs, then one of "stop", "length", "overflow", "silence", "repetition" and
    "interrupted"."""
    paused: bool
    """Whether the batch skips the request."""

    @property
    def words(self) -> list[tuple[str, int]]:
        """(word, first frame) of the words spoken so far. Empty if the model has no alignment."""
        ...

    def tail(self, frames: int) -> Streams:
        """The last `frames` generated frames (T, C) of each stream: the prefix of a following request."""
        ...


class Batch(Protocol):
    """Requests that a model advances together."""

    capacity: int

    @property
    def free(self) -> int:
        """Number of requests that can join now."""
        ...

    def prepare(self, request: Request) -> Any:
        """Convert a request to the argument of `join`. It may be called in any thread.

        Raises:
            ValueError: the request cannot be converted.
        """
        ...

    def join(self, prepared: Any) -> Any:
        """Add a result of `prepare` and return it as `Running`.

        Raises:
            ValueError: the request does not fit the model, or no row is free.
        """
        ...

    def step(self) -> None:
        """Advance all requests that are not paused."""
        ...

    def leave(self, running: Any) -> None:
        """Remove a request before its end."""
        ...


class Generation:
    """Iterator over the raw latents of one request in a batch of its own. `next` computes the next patch."""

    def __init__(self, batch: Batch, request: Request, release: Callable[[], None] = lambda: None) -> None:
        """Add the request to the batch. `release` is called once, after the batch was last used.

        Raises:
            ValueError: see `Batch.prepare` and `Batch.join`.
        """
        self._batch, self._release, self._held = batch, release, True
        try:
            self._running: Running = batch.join(batch.prepare(request))
        except BaseException:
            self._free()
            raise

    @property
    def finish_reason(self) -> str | None:
        """See `Running.finish_reason`."""
        return self._running.finish_reason

    @property
    def words(self) -> list[tuple[str, int]]:
        """See `Running.words`."""
        return self._running.words

    def tail(self, frames: int) -> Streams:
        """See `Running.tail`."""
        return self._running.tail(frames)

    def __iter__(self) -> Iterator[Streams]:
        return self

    def __next__(self) -> Streams:
        while not self._running.patches:
            if self._running.finish_reason is not None:
                self._free()
                raise StopIteration
            self._batch.step()
        return self._running.patches.popleft()

    def close(self) -> None:
        """End the request. If it still runs, its finish reason becomes "interrupted"."""
        if self._held:  # after the end, the batch may belong to another request
            self._batch.leave(self._running)
            self._free()

    def _free(self) -> None:
        if self._held:
            self._held = False
            self._release()
