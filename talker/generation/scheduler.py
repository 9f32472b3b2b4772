"""Runs a batch in its own thread: accepts requests from any thread and puts patches into bounded queues."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch

from heads.streams import Streams
from talker.generation.batch import Batch, Running
from talker.generation.request import Request
from talker.stages import set_torch_threads

QUEUED_PATCHES = 4


class Ticket:
    """A submitted request: a blocking iterator over its raw latents, patch by patch.

    Its queue holds at most QUEUED_PATCHES patches. While the queue is full, the request does not advance.

    Attributes:
        prepared: the request, see `Batch.prepare`.
        queue: patches that were generated and not yet read.
        running: the request in the batch; None until it joins.
        finish_reason: see `Running.finish_reason`.
        error: the error that ended the request, or None.
        paused, cancelled: whether `pause` or `cancel` was called.
    """

    def __init__(self, scheduler: Scheduler, prepared: Any) -> None:
        """Called by `Scheduler.submit`."""
        self._scheduler, self.prepared = scheduler, prepared
        self.queue: deque[Streams] = deque()
        self.running: Running | None = None
        self.finish_reason: str | None = None
        self.error: BaseException | None = None
        self.paused = self.cancelled = False

    @property
    def words(self) -> list[tuple[str, int]]:
        """See `Running.words`. Includes words of patches that are still in the queue."""
        return [] if self.running is None else self.running.words

    def tail(self, frames: int) -> Streams:
        """See `Running.tail`. Call it only after the request has ended. Empty if it never started."""
        return Streams() if self.running is None else self.running.tail(frames)

    def __iter__(self) -> Iterator[Streams]:
        return self

    def __next__(self) -> Streams:
        """Wait for the next patch and return it.

        Raises:
            StopIteration: the request has ended; see `finish_reason`.
            Exception: the request could not be started, or the batch failed.
        """
        return self._scheduler.take(self)

    def cancel(self) -> None:
        """End the request, free its row and drop the patches in the queue."""
        self._scheduler.change(self, cancelled=True)

    close = cancel

    def pause(self) -> None:
        """Stop generating, and keep the row of the batch."""
        self._scheduler.change(self, paused=True)

    def resume(self) -> None:
        """Continue after `pause`."""
        self._scheduler.change(self, paused=False)

    @property
    def room(self) -> int:
        """Number of patches that the queue can take; 0 while paused."""
        return 0 if self.paused else QUEUED_PATCHES - len(self.queue)


class Scheduler:
    """Runs a batch in one thread. Use it as a context manager, or call `close`.

    A step runs when at least one queue is at most half full. It includes every request whose queue has room,
    because a step costs the same for one row as for all. Requests beyond the capacity wait in order of
    submission.
    """

    def __init__(self, batch: Batch, threads: int = 1) -> None:
        """Start the thread. `threads`: CPU threads per PyTorch operation."""
        self.capacity, self._batch, self._threads = batch.capacity, batch, threads
        self._threads_before = torch.get_num_threads()
        self._waiting: deque[Ticket] = deque()
        self._active: list[Ticket] = []
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Ticket:
        """Add a request to the queue and return its ticket. The text becomes token ids in the calling thread.

        Raises:
            RuntimeError: the scheduler is closed or has failed.
            ValueError: see `Batch.prepare`.
        """
        ticket = Ticket(self, self._batch.prepare(request))
        with self._changed:
            if self._closed or self._error is not None:
                raise RuntimeError("this scheduler is closed") from self._error
            self._waiting.append(ticket)
            self._changed.notify_all()
        return ticket

    @property
    def failed(self) -> bool:
        """Whether the batch raised an error, so that no request can be generated."""
        return self._error is not None

    def close(self) -> None:
        """Interrupt all requests, end the thread, and restore the number of PyTorch threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        torch.set_num_threads(self._threads_before)

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- called by tickets ---------------------------------------------------------------------------------

    def take(self, ticket: Ticket) -> Streams:
        """See `Ticket.__next__`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(ticket.queue) or ticket.finish_reason is not None)
            if ticket.queue:
                self._changed.notify_all()
                return ticket.queue.popleft()
            if ticket.error is not None:
                raise ticket.error
            raise StopIteration

    def change(self, ticket: Ticket, paused: bool | None = None, cancelled: bool = False) -> None:
        """See `Ticket.pause`, `resume` and `cancel`."""
        with self._changed:
            if paused is not None:
                ticket.paused = paused
            if cancelled:
                ticket.cancelled = True
                ticket.queue.clear()
                if ticket.finish_reason is None:
                    ticket.finish_reason = "interrupted"
            self._changed.notify_all()

    # -- the thread ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        set_torch_threads(self._threads)
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(self._has_work)
                    if self._closed:
                        break
                    admitted = self._admitted()
                for ticket in admitted:
                    self._join(ticket)
                self._release_cancelled()
                self._step()
        except BaseException as error:
            self._error = error
        finally:
            self._end()

    def _has_work(self) -> bool:
        waits = any(not ticket.cancelled for ticket in self._waiting) and self._batch.free > 0
        left = any(ticket.cancelled for ticket in self._active)
        return self._closed or waits or left or self._due()

    def _due(self) -> bool:
        return any(2 * len(t.queue) <= QUEUED_PATCHES and t.room > 0 for t in self._active)

    def _admitted(self) -> list[Ticket]:
        """Remove the requests for which rows are free from the waiting queue, and return them in order."""
        self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
        return [self._waiting.popleft() for _ in range(min(self._batch.free, len(self._waiting)))]

    def _join(self, ticket: Ticket) -> None:
        """Start a request. An error is stored in its ticket and does not affect other requests."""
        try:
            ticket.running = self._batch.join(ticket.prepared)
            self._active.append(ticket)
        except Exception as error:
            with self._changed:
                ticket.error, ticket.finish_reason = error, "interrupted"
                self._changed.notify_all()

    def _release_cancelled(self) -> None:
        for ticket in [ticket for ticket in self._active if ticket.cancelled]:
            self._batch.leave(ticket.running)
            self._active.remove(ticket)

    def _step(self) -> None:
        with self._changed:
            if not self._due():
                return
            for ticket in self._active:
                assert ticket.running is not None
                ticket.running.paused = ticket.room == 0
        self._batch.step()
        with self._changed:
            for ticket in self._active:
                assert ticket.running is not None
                while ticket.running.patches:
                    patch = ticket.running.patches.popleft()
                    if not ticket.cancelled:
                        ticket.queue.append(patch)
                if ticket.running.finish_reason is not None and not ticket.cancelled:
                    ticket.finish_reason = ticket.running.finish_reason
            self._active = [
                ticket for ticket in self._active if ticket.finish_reason is None or ticket.cancelled
            ]
            self._changed.notify_all()

    def _end(self) -> None:
        """End every request with the finish reason "interrupted", and with the error of the thread if any."""
        for ticket in self._active:
            if ticket.running is not None:
                self._batch.leave(ticket.running)
        with self._changed:
            for ticket in (*self._active, *self._waiting):
                if ticket.finish_reason is None:
                    ticket.error, ticket.finish_reason = self._error, "interrupted"
            self._active, self._waiting = [], deque()
            self._changed.notify_all()
