"""Closed forms of the moving average of weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from recipes.average import Average


class Count(nn.Module):
    """One weight, and a buffer of integers."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.register_buffer("steps", torch.tensor(0))


def weights(value: float, steps: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.tensor([value], dtype=torch.float64), "steps": torch.tensor(steps)}


def test_first_updates_forget_the_initial_weights_quickly() -> None:
    average = Average(Count(1.0), decay=0.999)
    for step in range(20):
        average.update(weights(0.0, step + 1), step)
        # The product of (1 + s) / (10 + s) over s = 0 ... n - 1 is n! 9! / (n + 9)!.
        share = 1 / math.comb(step + 10, 9)
        assert float(average.module.weight) == pytest.approx(share, rel=1e-12)


def test_later_updates_have_the_given_decay() -> None:
    average = Average(Count(0.0), decay=0.9)
    first = 80  # from here on (1 + step) / (10 + step) is 0.9 or more
    for count in range(1, 6):
        average.update(weights(1.0, count), first + count)
        assert float(average.module.weight) == pytest.approx(1 - 0.9**count, rel=1e-12)


def test_integers_are_copied() -> None:
    average = Average(Count(0.0), decay=0.9)
    average.update(weights(1.0, 17), 0)
    assert int(average.module.steps) == 17


def test_average_of_a_part_ignores_the_rest() -> None:
    module = nn.ModuleDict({"model": Count(1.0), "rival": Count(5.0)})
    average = Average(module, 0.9, "model")
    average.update({f"{part}.{k}": v for part in module for k, v in weights(0.0, 3).items()}, 0)
    assert float(average.module.weight) == pytest.approx(0.1)
    assert isinstance(average.module, Count)
    assert not average.module.training
    assert not average.module.weight.requires_grad


def test_average_loads_weights_of_the_part_and_of_the_whole() -> None:
    average = Average(nn.ModuleDict({"model": Count(1.0)}), 0.9, "model")
    average.load(weights(2.0, 1))
    assert float(average.module.weight) == 2.0
    average.load({f"model.{name}": value for name, value in weights(3.0, 1).items()})
    assert float(average.module.weight) == 3.0
