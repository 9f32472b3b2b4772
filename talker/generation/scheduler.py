"""The one owner of a running batch: requests come from any thread, patches go to bounded queues."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType

import torch

from heads.streams import Streams
from talker.generation.batch import Batch, Running
from talker.generation.request import Request
from talker.stages import set_torch_threads

QUEUED_PATCHES = 4


class Ticket:
    """A submitted request: an iterator over its raw latents, a patch at a time, that waits for them.

    At most QUEUED_PATCHES wait in it; then the request stands still until one is taken.
    """

    def __init__(self, scheduler: Scheduler, request: Request) -> None:
        self._scheduler, self.request = scheduler, request
        self.queue: deque[Streams] = deque()
        self.running: Running | None = None
        self.finish_reason: str | None = None
        self.error: BaseException | None = None
        self.paused = self.cancelled = False

    @property
    def words(self) -> list[tuple[str, int]]:
        """See `Running.words`; includes words of patches that still wait to be taken."""
        return [] if self.running is None else self.running.words

    def tail(self, frames: int) -> Streams:
        """See `Running.tail`; only after the end."""
        assert self.running is not None
        return self.running.tail(frames)

    def __iter__(self) -> Iterator[Streams]:
        return self

    def __next__(self) -> Streams:
        """The next patch, waiting for it.

        Raises:
            StopIteration: there is none; `finish_reason` says why.
            Exception: the request could not be started, or the batch failed.
        """
        return self._scheduler.take(self)

    def cancel(self) -> None:
        """End the request and free its row; patches that wait are dropped."""
        self._scheduler.change(self, cancelled=True)

    close = cancel

    def pause(self) -> None:
        """Stand still, keeping the row."""
        self._scheduler.change(self, paused=True)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._scheduler.change(self, paused=False)

    @property
    def room(self) -> int:
        """Patches that can be computed now; 0 while paused."""
        return 0 if self.paused else QUEUED_PATCHES - len(self.queue)


class Scheduler:
    """Runs a batch in one thread; `with` it, or `close` it.

    A step is taken when any queue is at most half full, so the request closest to starving decides when.
    Every request whose queue has room takes part, because a step costs the same for one row as for all.
    Requests beyond the capacity wait in the order of their submission.
    """

    def __init__(self, batch: Batch, threads: int = 1) -> None:
        """`threads`: CPU threads of a step."""
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
        """Queue a request.

        Raises:
            RuntimeError: the scheduler is closed or has failed.
        """
        ticket = Ticket(self, request)
        with self._changed:
            if self._closed or self._error is not None:
                raise RuntimeError("this scheduler is closed") from self._error
            self._waiting.append(ticket)
            self._changed.notify_all()
        return ticket

    def close(self) -> None:
        """Interrupt all requests and end the thread; the number of torch's threads is then what it was."""
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
        """The waiting requests for which there are rows, in order."""
        self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
        return [self._waiting.popleft() for _ in range(min(self._batch.free, len(self._waiting)))]

    def _join(self, ticket: Ticket) -> None:
        """Start a request; an error is the ticket's alone."""
        try:
            ticket.running = self._batch.join(ticket.request)
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
        """Give every request that has not ended the error, or the reason "interrupted"."""
        for ticket in self._active:
            if ticket.running is not None:
                self._batch.leave(ticket.running)
        with self._changed:
            for ticket in (*self._active, *self._waiting):
                if ticket.finish_reason is None:
                    ticket.error, ticket.finish_reason = self._error, "interrupted"
            self._active, self._waiting = [], deque()
            self._changed.notify_all()
