"""SIGINT, SIGTERM and SIGHUP in long-running programs: print one line and exit with 128 + number."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The process received the signal `number`. `line` is a message about what was saved, or empty."""

    def __init__(self, number: int, line: str = "") -> None:
        super().__init__(number, line)
        self.number, self.line = signal.Signals(number), line


def announce(program: str) -> None:
    """Print the first line of a program. Call it before imports that take seconds.

    During the imports Ctrl-C ends the process without a traceback. Of several ranks only rank 0 prints.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.environ.get("RANK", "0") == "0":
        print_error(f"{program}: loading")


def command() -> str:
    """Return the command line that started this process; in a launcher's process, "the same command"."""
    if "WORLD_SIZE" in os.environ:
        return "the same command"
    return shlex.join(sys.orig_argv)


def print_error(line: str) -> None:
    """Print `line` to standard error, unless the terminal or the reader of the pipe is gone."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


@contextmanager
def exit_on_signals(saved: str) -> Iterator[None]:
    """Raise Interrupted in the body on the first of SIGNALS; print a line and exit with 128 + its number.

    Later signals are ignored, so that they cannot interrupt the cleanup. A signal that the process ignores
    (as under `nohup`) stays ignored. Outside of the main thread the context does nothing.

    Args:
        saved: end of the line, after "stopped by SIGINT: "; the line of a raised Interrupted replaces it.

    Raises:
        SystemExit: a signal arrived.
    """
    handler = _First()
    before = _install(handler)
    try:
        yield
    except (Interrupted, OSError) as error:
        if isinstance(error, Interrupted):
            handler.received = error.number
        elif not handler.received:
            raise
        for number in before:  # Python's exit restores the default of handlers, but keeps ignored signals
            signal.signal(number, signal.SIG_IGN)
        # An OSError: the terminal or pipe was closed with the signal, and the cleanup printed something.
        if line := getattr(error, "line", "") or saved:
            print_error(f"stopped by {signal.Signals(handler.received).name}: {line}")
        discard_unwritable_output()
        raise SystemExit(128 + handler.received) from None
    finally:
        if not handler.received:
            _restore(before)


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect SIGNALS in a list instead of ending the process.

    If there were any, an enclosing `exit_on_signals` ignores later ones. Outside of the main thread the list
    stays empty.
    """
    requests: list[int] = []
    before = _install(lambda number, _: requests.append(number))
    try:
        yield requests
    finally:
        if requests:
            for handler in before.values():
                if isinstance(handler, _First):
                    handler.received = requests[0]
        _restore(before)


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Block SIGNALS: processes that start in the body never receive them, this process does afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_in_worker(*_: Any) -> None:
    """Ignore Ctrl-C and a closed terminal, in a worker process whose parent ends it by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _First:
    """Signal handler that raises Interrupted on the first signal and ignores the others."""

    def __init__(self) -> None:
        self.received = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received = number
            raise Interrupted(number)


def _install(handler: Any) -> dict[int, Any]:
    """Set the handler of those SIGNALS that are not ignored; returns the handlers before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    wanted = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in wanted}


def _restore(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def discard_unwritable_output() -> None:
    """Redirect output that cannot be written (its terminal is gone), so that Python's exit does not fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
