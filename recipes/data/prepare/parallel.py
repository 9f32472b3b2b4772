"""Many files at once, each in a process of its own: a broken file kills that process alone."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

Job = tuple[Any, ...]
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
PRELOADED = "recipes.data.prepare.encode"


def in_processes(work: Callable[..., None], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, int]]:
    """Call `work(*job)` for each job, `workers` at a time; yields each job as it ends, with its exit code.

    0 is success; a negative code is the signal that killed it. Processes are forked from a server that has
    imported the networks already, so one takes milliseconds to start.

    Raises:
        OSError: the disk was full (ENOSPC), which is no job's own fault.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    waiting, running = list(reversed(jobs)), dict[Any, tuple[BaseProcess, Job]]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                process: BaseProcess = context.Process(target=_quietly, args=(work, job), daemon=True)
                process.start()
                running[process.sentinel] = process, job
            for sentinel in wait(list(running)):
                process, job = running.pop(sentinel)
                process.join()
                if process.exitcode == errno.ENOSPC:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                yield job, process.exitcode or 0
    finally:
        for process, _ in running.values():
            process.kill()


def _quietly(work: Callable[..., None], job: Job) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends its processes
    try:
        work(*job)
    except OSError as error:
        if error.errno in DISK_FULL:
            sys.exit(errno.ENOSPC)  # the parent knows it by this exit code
        raise
