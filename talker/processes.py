"""Starting of worker processes: forked from a server that has already imported what they need."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from talker.signals import blocked_signals

# multiprocessing's exit code for a process whose fork server was killed; the process may still be running.
SERVER_LOST = 255


def start_process(work: Callable[..., None], arguments: Sequence[Any], preloaded: str) -> BaseProcess:
    """Call `work(*arguments)` in a new process, which receives no signals that the parent handles.

    If the fork server has been killed, a new one is started.

    Args:
        work: a function that can be pickled.
        arguments: its positional arguments.
        preloaded: module that the server imports, so that processes start within milliseconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preloaded])
    while True:
        process = context.Process(target=work, args=tuple(arguments), daemon=True)
        # The server and its processes inherit the blocked signals: the parent handles them and ends them.
        # The start of the resource tracker unblocks them, so it must be running before the server starts.
        with blocked_signals():
            resource_tracker.ensure_running()
        with blocked_signals(), contextlib.suppress(EOFError, ConnectionError):
            process.start()
            return process
