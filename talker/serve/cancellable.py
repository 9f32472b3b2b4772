"""A generation that another thread can end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from talker.generation.request import Request
from talker.generation.scheduler import Ticket
from talker.stages import Cancelled


class Cancellable:
    """Starts the generations of a take, for `Take.chunks`, until it is cancelled."""

    def __init__(self, generate: Callable[[Request], Ticket]) -> None:
        """`generate`: starts a generation, `Scheduler.submit`."""
        self._generate, self._lock = generate, threading.Lock()
        self._ticket: Ticket | None = None
        self.cancelled = False

    def __call__(self, request: Request) -> Ticket:
        """Start the generation of a request. Raises Cancelled after `cancel`."""
        with self._lock:
            if self.cancelled:
                raise Cancelled
            self._ticket = self._generate(request)
            return self._ticket

    def cancel(self) -> None:
        """End the running generation: its row is free at the next patch."""
        with self._lock:
            self.cancelled = True
            if self._ticket is not None:
                self._ticket.cancel()
