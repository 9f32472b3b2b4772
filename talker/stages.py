"""Worker threads joined by bounded queues: a group that ends together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")


class Cancelled(Exception):  # noqa: N818 - no error: the group has ended
    """Raised by `put`, by iteration and by `raise_if_cancelled` after the group has ended."""


_worker = threading.local()


def raise_if_cancelled() -> None:
    """For long work between two items: raise Cancelled in a worker of `Stages` whose group has ended."""
    stages = getattr(_worker, "stages", None)
    if stages is not None and stages.ended:
        raise Cancelled


def set_torch_threads(count: int) -> None:
    """Set how many CPU threads torch's operations use in the calling thread.

    `torch.set_num_threads` alone is not enough: the first operation of a thread replaces its setting by the
    one that any thread made last, so that results would depend on timing. Asking for the number comes first,
    and counts as that operation.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


class Channel(Generic[Item]):
    """A queue of at most `capacity` items between two threads; iterating takes items until it is closed."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[Item] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._closed = self._cancelled = False

    def put(self, item: Item) -> None:
        """Append, waiting while the queue is full.

        Raises:
            Cancelled: nobody reads any more.
            ValueError: the channel is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or len(self._items) < self._capacity)
            if self._cancelled:
                raise Cancelled
            if self._closed:
                raise ValueError("this channel is closed: nothing can be put into it")
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """No more items will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop all items; whoever waits here, and every later use, gets Cancelled."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

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
    """`with Stages() as stages:` a group of worker threads.

    The first error of a worker cancels all channels; leaving the block joins the workers and raises it.
    Leaving the block early, by an error or because a generator is closed, cancels the channels too: no worker
    outlives the block. The number of threads of torch's operations is then what it was before.
    """

    def __init__(self) -> None:
        self._channels: list[Channel] = []
        self._workers: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._torch_threads = torch.get_num_threads()
        self.ended = False

    def channel(self, capacity: int) -> Channel:
        """A queue that ends with the group."""
        return self.adopt(Channel(capacity))

    def adopt(self, channel: Channel[Item]) -> Channel[Item]:
        """Let a channel from outside end with the group."""
        self._channels.append(channel)
        return channel

    def feed(
        self, produce: Callable[[], Iterable[Item]], *outputs: Channel[Item], torch_threads: int = 1
    ) -> None:
        """Run `produce()` in a worker: each item goes into every output; they are closed after the last.

        `torch_threads`: CPU threads within one operation. Operations of small networks are too short to
        share, and with all cores for every worker, workers would wait for each other.
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
        """End the group; workers stop at their next use of a channel."""
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
