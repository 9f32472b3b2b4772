"""Batches made ahead are those made in line, and their makers end with the training."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time

import pytest
import torch

from recipes.ahead import ahead
from recipes.launch import generator


def made(step: int) -> torch.Tensor:
    if step == 9:
        raise ValueError("nothing can be made of 9")
    return torch.randn(3, generator=generator(0, step))


@pytest.fixture(autouse=True)
def several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)


def test_the_same_in_the_same_order_without_end_and_the_trainings_random_state_stays() -> None:
    before, plain = torch.get_rng_state(), map(made, itertools.count(2))
    with ahead(made, itertools.count(2), "cuda") as batches:  # its processes need no GPU
        assert len(multiprocessing.active_children()) == 2
        for _ in range(2, 9):
            assert torch.equal(next(batches), next(plain))
        with pytest.raises(ValueError, match="nothing can be made of 9") as kept:
            next(batches)
    assert torch.equal(torch.get_rng_state(), before)
    assert kept.tb is not None
    assert not multiprocessing.active_children(), "the error's traceback keeps them alive"


def test_they_outlive_the_signal_that_asks_the_training_to_end() -> None:
    with ahead(made, range(8), "cuda") as batches:
        first = next(batches)
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGTERM)
        time.sleep(0.1)
        assert torch.equal(torch.stack([first, *batches]), torch.stack([*map(made, range(8))]))
