"""Progress of long commands: a bar with the remaining time, or plain lines if the output is no terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

from talker.signals import print_error

Item = TypeVar("Item")
FIRST_SECONDS, MOST_SECONDS = 2.0, 60.0  # before the first plain line; between two later ones
USUAL_SIZE = {"ncols": 80, "nrows": 24}
MEDIA_BAR = "{l_bar}{bar}| {n:.1f} of about {total:.1f} s [{elapsed}<{remaining}]"


class Progress:
    """Shows on standard error how many of `total` steps are done, and the remaining time.

    If the output is no terminal, the first line comes after FIRST_SECONDS, even if no step is done by then.

    Args:
        name: what is counted.
        total: number of steps.
        done: steps that were done before.
        shown: False: nothing is printed, for example on ranks other than 0.
        media: the steps are seconds of media, of which `total` is an estimate.
    """

    def __init__(
        self, name: str, total: float, done: float = 0, shown: bool = True, media: bool = False
    ) -> None:
        self.name, self.total, self.done, self._media = name, total, done, media
        self._first, self._began = done, time.monotonic()
        self._printed, self._interval = self._began, FIRST_SECONDS
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=name,
            total=total,
            initial=done,
            disable=not (shown and terminal),
            leave=False,
            bar_format=MEDIA_BAR if media else None,
            **_size(),
        )
        self._plain = shown and not terminal
        self._waiting = threading.Timer(FIRST_SECONDS, self._print_line)
        self._waiting.daemon = True
        if self._plain:
            self._waiting.start()

    def advance(self, steps: float = 1) -> None:
        """Count `steps` more."""
        self.done += steps
        if self._media:
            if self._first == 0:  # the time before the first chunk says nothing about the speed
                self._first, self._began = self.done, time.monotonic()
            self.total = self._bar.total = max(self.total, self.done)
        with contextlib.suppress(OSError):  # the terminal was closed
            self._bar.update(steps)
        now = time.monotonic()
        last = steps > 0 and self.done == self.total and self._printed > self._began and not self._media
        if self._plain and (now - self._printed >= self._interval or last):
            self._interval = min(2 * self._interval, MOST_SECONDS)
            self._print_line()

    def rename(self, name: str) -> None:
        """Change what is shown before the numbers."""
        self.name = name
        with contextlib.suppress(OSError):
            self._bar.set_description(name)

    def _print_line(self) -> None:
        self._waiting.cancel()
        self._printed = now = time.monotonic()
        done, total = self.done, self.total
        amount = f"{done:.1f} of about {total:.1f} s" if self._media else f"{done} of {total}"
        print_error(f"{self.name}: {amount}{self._remaining(now)}")

    def _remaining(self, now: float) -> str:
        if self.done >= self.total:
            return "" if self._media else f", took {tqdm.format_interval(now - self._began)}"
        if self.done <= self._first:
            return ""
        seconds = (now - self._began) / (self.done - self._first) * (self.total - self.done)
        return f", about {tqdm.format_interval(seconds)} left"

    def close(self) -> None:
        """Remove the bar."""
        self._waiting.cancel()
        with contextlib.suppress(OSError):
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


def _size() -> dict[str, int]:
    """A size for tqdm if the terminal does not tell its own: tqdm would print nothing."""
    try:
        return {} if os.get_terminal_size(sys.stderr.fileno()).columns > 0 else USUAL_SIZE
    except (OSError, ValueError, AttributeError):
        return USUAL_SIZE


def track(items: Iterable[Item], name: str, total: int) -> Iterator[Item]:
    """Yield `items`, of which there are `total`, and show the progress; nothing if `total` is 0."""
    with Progress(name, total, shown=total > 0) as progress:
        for item in items:
            yield item
            progress.advance()
