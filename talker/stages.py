"""Groups of worker threads that are connected by bounded queues and end together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")


class Cancelled(Exception):  # noqa: N818 - not an error
    """Raised by `put`, by iteration and by `raise_if_cancelled` after a channel or group was cancelled."""


_worker = threading.local()


def raise_if_cancelled() -> None:
    """Raise Cancelled in a worker whose group has been cancelled. Long computations call it regularly.

    Outside of a worker of `Stages` it does nothing.
    """
    stages = getattr(_worker, "stages", None)
    if stages is not None and stages.ended:
        raise Cancelled


def set_torch_threads(count: int) -> None:
    """Set how many CPU threads torch's operations use in the calling thread.

    In a new thread, PyTorch's first call replaces the number of threads by the number that any thread set
    last. `get_num_threads` is that first call here, so that the following setting remains.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


class Channel(Generic[Item]):
    """A queue of at most `capacity` items between two threads. Iteration takes items until it is closed."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[Item] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._closed = self._cancelled = False

    def put(self, item: Item) -> None:
        """Append `item`. Waits while the queue is full.

        Raises:
            Cancelled: the channel was cancelled.
            ValueError: the channel is closed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._cancelled or self._closed or len(self._items) < self._capacity
            )
            if self._cancelled:
                raise Cancelled
            if self._closed:
                raise ValueError("this channel is closed: call put before close")
            self._items.append(item)
            self._changed.notify_all()

    def offer(self, item: Item) -> bool:
        """Append `item` without waiting; False if the queue is full. Raises what `put` raises."""
        with self._changed:
            if not self._cancelled and not self._closed and len(self._items) >= self._capacity:
                return False
            self.put(item)
            return True

    def close(self) -> None:
        """Mark the end of the items. Iteration ends after the remaining ones."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop all items. Waiting and later calls raise Cancelled."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` until taking an item would not wait; returns whether it would not."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._cancelled or self._closed or bool(self._items), seconds
            )

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

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
    """A group of worker threads, used as a context manager.

    The end of the block cancels all channels, joins the workers, restores the number of PyTorch threads and
    raises the first error of a worker. An error of a worker also cancels all channels.
    """

    def __init__(self) -> None:
        self._channels: list[Channel] = []
        self._workers: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._torch_threads = torch.get_num_threads()
        self.ended = False

    def channel(self, capacity: int) -> Channel:
        """A new channel that is cancelled with the group."""
        return self.adopt(Channel(capacity))

    def adopt(self, channel: Channel[Item]) -> Channel[Item]:
        """Add an existing channel, so that it is cancelled with the group. Returns it."""
        self._channels.append(channel)
        return channel

    def feed(
        self, produce: Callable[[], Iterable[Item]], *outputs: Channel[Item], torch_threads: int = 1
    ) -> None:
        """Run `produce()` in a new worker, put each item into all outputs, and close them at the end.

        `torch_threads`: CPU threads per PyTorch operation. Operations of small networks are too short to be
        split, and workers that all use every core wait for each other.
        """

        def work() -> None:
            _worker.stages = self
            set_torch_threads(max(1, torch_threads))
            try:
                for item in produce():
                    for output in outputs:
                        output.put(item)
                for output in outputs:
                    output.close()
            except Cancelled:
                self.cancel()
            except BaseException as error:
                self._error = self._error or error
                self.cancel()

        self._workers.append(threading.Thread(target=work, daemon=True))
        self._workers[-1].start()

    def cancel(self) -> None:
        """Cancel all channels. Workers stop at their next use of a channel."""
        self.ended = True
        for channel in self._channels:
            channel.cancel()

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        for worker in self._workers:
            worker.join()
        torch.set_num_threads(self._torch_threads)
        if self._error is not None and (kind is None or kind is Cancelled):
            raise self._error
