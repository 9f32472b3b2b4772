"""Batches made ahead are those made in line."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal

import pytest
import torch

from recipes.ahead import ahead
from recipes.launch import generator


def made(step: int) -> torch.Tensor:
    if step == 9:
        raise ValueError("nothing can be made of 9")
    return torch.randn(3, generator=generator(0, step))


def test_the_same_in_the_same_order_without_end_and_the_trainings_random_state_stays() -> None:
    before = torch.get_rng_state()
    workers = ahead(made, itertools.count(2), "cuda")  # its processes need no GPU
    assert torch.equal(torch.get_rng_state(), before)
    for step, plain in zip(range(2, 9), ahead(made, itertools.count(2), "cpu"), strict=False):
        assert torch.equal(next(workers), plain), step
    with pytest.raises(ValueError, match="nothing can be made of 9"):
        next(workers)


def test_workers_outlive_the_signal_that_asks_the_training_to_end() -> None:
    workers = ahead(made, range(8), "cuda")
    first = next(workers)
    processes = multiprocessing.active_children()
    assert processes
    for process in processes:
        os.kill(process.pid or 0, signal.SIGTERM)
    assert torch.equal(torch.stack([first, *workers]), torch.stack([made(step) for step in range(8)]))
