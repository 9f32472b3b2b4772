"""Many files at once, each in a process of its own: a broken file kills that process alone."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

import torch

Job = tuple[Any, ...]
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
PRELOADED = "recipes.data.prepare.encode"
SERVER_LOST = 255  # multiprocessing's exit code for a process whose server was killed; it may live on
TRIES = 2  # nobody kills the same job twice by chance


def in_processes(work: Callable[..., None], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, int]]:
    """Call `work(*job)` for each job, `workers` at a time; yields each job as it ends, with its exit code.

    0 is success; a negative code is the signal that killed it. What fails is tried again at once, so a code
    is that of a second try. Processes are forked from a server that has imported the networks already, so one
    takes milliseconds to start.

    Raises:
        OSError: the disk was full (ENOSPC), which is no job's own fault.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    waiting, running = [(job, 1) for job in reversed(jobs)], dict[Any, tuple[BaseProcess, Job, int]]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job, tries = waiting.pop()
                process = _started(context, work, job)
                running[process.sentinel] = process, job, tries
            for sentinel in wait(list(running)):
                process, job, tries = running.pop(sentinel)
                process.join()
                if process.exitcode == errno.ENOSPC:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if process.exitcode == SERVER_LOST and process.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
                if process.exitcode and tries < TRIES:
                    waiting.append((job, tries + 1))
                else:
                    yield job, process.exitcode or 0
    finally:
        for process, *_ in running.values():
            process.kill()


def _started(context: ForkServerContext, work: Callable[..., None], job: Job) -> BaseProcess:
    """A process of the job; if the server is killed meanwhile, of a new server."""
    while True:
        process = context.Process(target=_quietly, args=(work, job), daemon=True)
        # Ctrl-C is the parent's, which then ends its processes: they inherit that they ignore it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        forkserver.ensure_running()
        signal.signal(signal.SIGINT, before)
        with contextlib.suppress(EOFError, ConnectionError):
            process.start()
            return process


def _quietly(work: Callable[..., None], job: Job) -> None:
    torch.set_num_threads(1)
    try:
        work(*job)
    except OSError as error:
        if error.errno in DISK_FULL:
            sys.exit(errno.ENOSPC)  # the parent knows it by this exit code
        raise
