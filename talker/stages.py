"""Worker threads joined by bounded queues; they end together: at the end, at an error, or unheard."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Cancelled(Exception):  # noqa: N818 - not an error: the others have ended
    """Raised in a worker that still wants to put or get after the group has ended."""


_worker = threading.local()


def still_wanted() -> None:
    """For long work between two items: in a worker of `Stages` whose group has ended, raise Cancelled."""
    stages = getattr(_worker, "stages", None)
    if stages is not None and stages.ended:
        raise Cancelled


class Channel(Generic[Item]):
    """A queue of at most `capacity` items between two workers; iterating takes items until it is closed."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[Item] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._closed = self._cancelled = False

    def put(self, item: Item) -> None:
        """Append, waiting while the queue is full."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or len(self._items) < self._capacity)
            if self._cancelled:
                raise Cancelled
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """No more items will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Wake everybody who waits here, and refuse further use."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._cancelled or self._closed or bool(self._items))
                if self._cancelled:
                    raise Cancelled
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


class Stages:
    """`with Stages() as stages:` a group of worker threads that share one fate.

    The first error of any worker cancels all channels; leaving the block waits for the workers and raises it.
    Leaving the block early, by an error or because a generator is closed, cancels them too: none is left.
    """

    def __init__(self) -> None:
        self._channels: list[Channel] = []
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self.ended = False

    def channel(self, capacity: int) -> Channel:
        """A queue that ends with the group."""
        self._channels.append(Channel(capacity))
        return self._channels[-1]

    def feed(self, produce: Callable[[], Iterable[Item]], *outputs: Channel[Item]) -> None:
        """Run `produce()` in a thread: each item goes into every output; they are closed after the last."""

        def work() -> None:
            _worker.stages = self
            try:
                for item in produce():
                    for output in outputs:
                        output.put(item)
                for output in outputs:
                    output.close()
            except Cancelled:
                pass
            except BaseException as error:
                self._error = self._error or error
                self._cancel()

        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _cancel(self) -> None:
        self.ended = True
        for channel in self._channels:
            channel.cancel()

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel()
        for thread in self._threads:
            thread.join()
        if self._error is not None and (kind is None or kind is Cancelled):
            raise self._error
