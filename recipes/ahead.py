"""Batches are made ahead of the steps that use them, by other processes, where a GPU would wait for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

Input = TypeVar("Input")
Made = TypeVar("Made")
WORKERS = 8  # at most, a GPU


@contextmanager
def ahead(
    make: Callable[[Input], Made], inputs: Iterable[Input], device: torch.device | str
) -> Iterator[Iterator[Made]]:
    """`map(make, inputs)`, which on a GPU's behalf runs ahead in worker processes. `inputs` may be endless.

    `make` must be a function of its input alone: workers are copies of this process.
    """
    cores = (os.cpu_count() or 1) // max(1, torch.cuda.device_count())
    if torch.device(device).type == "cpu" or cores == 1:
        yield map(make, inputs)
        return
    loader = DataLoader(
        _Made(make),
        batch_size=None,
        sampler=inputs,
        num_workers=min(WORKERS, cores - 1),
        collate_fn=lambda made: made,
        generator=torch.Generator(),  # not the global one, whose state belongs to the training
        worker_init_fn=_ignore_signals,
        multiprocessing_context="fork",
    )
    batches: Any = iter(loader)
    try:
        yield batches
    finally:
        batches._shutdown_workers()  # an error's traceback would keep them, and Python's end wait for them


def _ignore_signals(worker: int) -> None:
    # Who asks a training to end often asks all of its processes: this one ends when its parent has saved.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Made(Dataset[Made], Generic[Input, Made]):
    """What `make` makes of an input, as if it stood in a list under that index."""

    def __init__(self, make: Callable[[Input], Made]) -> None:
        self.make = make

    def __getitem__(self, key: Input) -> Made:
        return self.make(key)
