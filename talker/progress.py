"""Progress of long commands: a bar with the remaining time, or plain lines if the output is no terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

from talker.signals import print_error

Item = TypeVar("Item")
FIRST_SECONDS, MOST_SECONDS = 2.0, 60.0  # before the first plain line; between two later ones


class Progress:
    """Shows on standard error how many of `total` steps are done, and the remaining time.

    Args:
        name: what is counted.
        total: number of steps.
        done: steps that were done before.
        shown: False: nothing is printed, for example on ranks other than 0.
    """

    def __init__(self, name: str, total: int, done: int = 0, shown: bool = True) -> None:
        self.name, self.total, self.done = name, total, done
        self._first, self._began = done, time.monotonic()
        self._printed, self._interval = self._began, FIRST_SECONDS
        terminal = sys.stderr.isatty()
        self._bar = tqdm(desc=name, total=total, initial=done, disable=not (shown and terminal), leave=False)
        self._plain = shown and not terminal

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more."""
        self.done += steps
        with contextlib.suppress(OSError):  # the terminal was closed
            self._bar.update(steps)
        now = time.monotonic()
        last = self.done == self.total and self._printed > self._began
        if self._plain and (now - self._printed >= self._interval or last):
            self._printed, self._interval = now, min(2 * self._interval, MOST_SECONDS)
            print_error(f"{self.name}: {self.done} of {self.total}, {self._remaining(now)}")

    def _remaining(self, now: float) -> str:
        if self.done >= self.total:
            return f"took {tqdm.format_interval(now - self._began)}"
        seconds = (now - self._began) / max(1, self.done - self._first) * (self.total - self.done)
        return f"about {tqdm.format_interval(seconds)} left"

    def close(self) -> None:
        """Remove the bar."""
        with contextlib.suppress(OSError):
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


def track(items: Iterable[Item], name: str, total: int) -> Iterator[Item]:
    """Yield `items`, of which there are `total`, and show the progress; nothing if `total` is 0."""
    with Progress(name, total, shown=total > 0) as progress:
        for item in items:
            yield item
            progress.advance()
