"""Jobs in parallel processes, one process per job: a crash ends its own job only."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from talker.processes import SERVER_LOST, start_process

Job = tuple[Any, ...]
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
PRELOADED = "recipes.data.prepare.encode"
TRIES = 2
POLL_SECONDS = 1.0


def in_processes(
    work: Callable[..., None],
    jobs: Sequence[Job],
    workers: int,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Job, int]]:
    """Call `work(*job)` for each job in a process of its own, and yield each job when it ends.

    A job that fails is tried again at once, TRIES times in all. Processes are forked from a server that has
    already imported the networks, so they start within milliseconds.

    Args:
        work: a function that can be pickled.
        jobs: its positional arguments, once per job.
        workers: number of processes that run at the same time.
        meanwhile: is called about once a second while the jobs run.

    Yields:
        The job and the exit code of its last try: 0 for success, negative for the signal that killed it.

    Raises:
        OSError: the disk is full (ENOSPC); the remaining jobs are stopped.
    """
    waiting, running = [(job, 1) for job in reversed(jobs)], dict[Any, tuple[BaseProcess, Job, int]]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job, tries = waiting.pop()
                process = start_process(_run, (work, job), PRELOADED)
                running[process.sentinel] = process, job, tries
            ended = wait(list(running), POLL_SECONDS)
            if not ended:
                meanwhile()
            for sentinel in ended:
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


def _run(work: Callable[..., None], job: Job) -> None:
    """Run a job; a full disk becomes the exit code ENOSPC instead of a traceback."""
    torch.set_num_threads(1)
    try:
        work(*job)
    except OSError as error:
        if error.errno in DISK_FULL:
            sys.exit(errno.ENOSPC)
        raise
