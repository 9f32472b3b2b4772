"""Prefetched batches equal those made one after the other, and the workers end with the training."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal

import pytest
import torch

from recipes.draws import generator
from recipes.prefetch import prefetch


def make(step: int) -> torch.Tensor:
    if step == 9:
        raise ValueError("nothing can be made of 9")
    return torch.randn(3, generator=generator(0, step))


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)


def test_prefetch_equals_map_and_leaves_the_random_state() -> None:
    state, expected = torch.get_rng_state(), map(make, itertools.count(2))
    with prefetch(make, itertools.count(2), "cuda") as batches:  # the workers need no GPU
        assert len(multiprocessing.active_children()) == 2
        for _ in range(2, 9):
            assert torch.equal(next(batches), next(expected))
    assert torch.equal(torch.get_rng_state(), state)


def test_error_in_a_worker_is_raised_and_ends_the_workers() -> None:
    failing = pytest.raises(ValueError, match="nothing can be made of 9")
    with failing as caught, prefetch(make, itertools.count(9), "cuda") as batches:
        next(batches)
    assert caught.tb is not None, "a kept traceback must not keep the workers"
    assert not multiprocessing.active_children()


def test_workers_ignore_the_signals_that_end_the_training() -> None:
    with prefetch(make, range(8), "cuda") as batches:
        for process in multiprocessing.active_children():  # they may still be starting
            for number in (signal.SIGTERM, signal.SIGINT):
                os.kill(process.pid or 0, number)
        assert torch.equal(torch.stack([*batches]), torch.stack([*map(make, range(8))]))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set(), "this process still gets signals"


def test_cpu_training_starts_no_worker() -> None:
    with prefetch(make, range(2), "cpu") as batches:
        assert not multiprocessing.active_children()
        assert len([*batches]) == 2
