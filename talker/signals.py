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

    During the imports SIGNALS end the process with one line and without a traceback. Of several ranks only
    rank 0 prints.
    """
    first_rank = os.environ.get("RANK", "0") == "0"
    _install(lambda number, _: _exit_now(number, "nothing was started" if first_rank else ""))
    if first_rank:
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
    handler = _First(saved)
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
        _print_stopped(handler.received, getattr(error, "line", "") or saved)
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
    """Signal handler that raises Interrupted on the first signal and ignores the others.

    During an import it ends the process instead: an exception in the initialisation of a library written in
    C++ would abort it.
    """

    def __init__(self, saved: str) -> None:
        """`saved`: see `exit_on_signals`."""
        self.received, self._saved = 0, saved

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            return
        self.received = number
        if _is_import(frame):
            _exit_now(number, self._saved)
        raise Interrupted(number)


def _is_import(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _print_stopped(number: int, line: str) -> None:
    if line:
        print_error(f"stopped by {signal.Signals(number).name}: {line}")


def _exit_now(number: int, line: str) -> None:
    """Print the line and end the process without any cleanup."""
    _print_stopped(number, line)
    os._exit(128 + number)


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
