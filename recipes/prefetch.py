"""Batches are made in worker processes before a GPU needs them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from talker.signals import SIGNALS, blocked_signals

Input = TypeVar("Input")
Output = TypeVar("Output")
MAX_WORKERS = 8  # for one GPU


@contextmanager
def prefetch(
    make: Callable[[Input], Output], inputs: Iterable[Input], device: torch.device | str
) -> Iterator[Iterator[Output]]:
    """Yield an iterator equal to `map(make, inputs)`, computed in worker processes if `device` is a GPU.

    On a CPU, or with one core for each GPU, it is `map` itself. The workers end with the context.

    Args:
        make: a function of its input alone; it runs in forked copies of this process.
        inputs: may be endless.
        device: the device of the training.
    """
    cores = (os.cpu_count() or 1) // max(1, torch.cuda.device_count())
    if torch.device(device).type == "cpu" or cores == 1:
        yield map(make, inputs)
        return
    loader = DataLoader(
        _Outputs(make),
        batch_size=None,
        sampler=inputs,
        num_workers=min(MAX_WORKERS, cores - 1),
        collate_fn=lambda output: output,
        generator=torch.Generator(),  # the global one belongs to the training
        worker_init_fn=_ignore_signals,
        multiprocessing_context="fork",
    )
    # A signal often goes to the whole process group. A worker must not end by it: this process still has to
    # save. Workers start with the signals blocked, so that none arrives before they ignore them.
    with blocked_signals():
        batches: Any = iter(loader)
    try:
        yield batches
    finally:
        batches._shutdown_workers()  # the traceback of an error would keep them, and Python's exit would hang


def _ignore_signals(worker: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class _Outputs(Dataset[Output], Generic[Input, Output]):
    """Outputs of `make` as a data set whose indices are the inputs."""

    def __init__(self, make: Callable[[Input], Output]) -> None:
        self.make = make

    def __getitem__(self, key: Input) -> Output:
        return self.make(key)
