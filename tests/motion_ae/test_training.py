"""The motion autoencoder's losses and its recipe, on tiny pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from motion_ae.config import MotionAEConfig
from motion_ae.losses import box_weights, code_error, flow_l1, gradient_l1, pyramid_l1, weighted_l1
from recipes import train_motion_ae as recipe
from recipes.data.frame_bank import FLOW_SIZE, SURFACE, Pairs
from recipes.export import export
from talker.checkpoint import load_component

CONFIG = replace(MotionAEConfig.tiny(), resolution=32)


class Bank:
    """Stands in for a bank of rendered frames: people of noise."""

    people, frames = 300, 4

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.pictures = rng.integers(0, 256, (self.people, self.frames, 32, 32, 3), np.uint8)
        self.motion = rng.normal(size=(self.people, self.frames, CONFIG.motion_dim)).astype(np.float32)
        self.rendered = 0

    def ensure(self, people: int) -> None:
        self.rendered = max(self.rendered, people)

    def pairs(self, people: np.ndarray, source: np.ndarray, target: np.ndarray) -> Pairs:
        assert people.max() < self.rendered
        boxes = np.tile(np.int16([8, 16, 24, 30]), (len(people), 3, 1))
        flow = np.zeros((len(people), 2, FLOW_SIZE, FLOW_SIZE), np.float16)
        surface = np.zeros((len(people), SURFACE, FLOW_SIZE, FLOW_SIZE), np.float16)
        pictures, motion = self.pictures, self.motion
        return Pairs(
            pictures[people, source],
            pictures[people, target],
            motion[people, source],
            motion[people, target],
            boxes,
            boxes,
            flow,
            surface,
            surface,
        )


def test_losses_vanish_on_the_target_alone() -> None:
    target, weights = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    drawn = target + 0.1
    assert weighted_l1(target, target, weights) == 0
    assert pyramid_l1(target, target) == gradient_l1(target, target, weights) == 0
    torch.testing.assert_close(weighted_l1(drawn, target, weights), torch.tensor(0.1))
    torch.testing.assert_close(pyramid_l1(drawn, target), torch.tensor(0.1))
    assert gradient_l1(drawn, target, weights) < 1e-6, "a constant offset has no gradient"


def test_box_weights_mark_the_boxes() -> None:
    marked = box_weights(torch.tensor([[[1, 2, 3, 5], [6, 6, 8, 8]]]), 8, 4.0)
    assert marked.shape == (1, 1, 8, 8)
    assert marked.sum() == 4.0 * (2 * 3 + 2 * 2)
    assert marked[0, 0, 2, 1] == marked[0, 0, 7, 7] == 4
    assert marked[0, 0, 1, 2] == 0


def test_known_flow_costs_nothing() -> None:
    size, wide = 64, 16
    flow = torch.full((1, 2, wide, wide), 6.0)
    cells = 6.0 * wide / size
    raw = torch.full((1, 3, wide, wide), cells * 2 / (wide - 1)).atanh()
    assert flow_l1([raw], flow, size, torch.ones(1, 1, size, size)) < 1e-6
    assert flow_l1([-raw], flow, size, torch.ones(1, 1, size, size)) > 0.1


def test_code_error_is_measured_in_spreads() -> None:
    spread = torch.tensor([0.5, 2.0])
    assert code_error(torch.tensor([[0.5, 2.0]]), torch.zeros(1, 2), spread) == 1


def _train(run: Path, steps: int, bank: Bank) -> dict[str, torch.Tensor]:
    bank.ensure(8)
    heldout = recipe.to_batch(bank.pairs(np.arange(4), np.zeros(4, int), np.ones(4, int)))
    engine = recipe.train(run, CONFIG, bank, heldout, steps, minutes=10)  # type: ignore[arg-type]
    return {
        **engine.module.state_dict(),
        **{f"ema.{k}": v for k, v in engine.ema_module.state_dict().items()},
    }


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "warmup_cosine", lambda *_, **__: lambda step: 1.0)
    unbroken = _train(tmp_path / "a", 4, Bank())
    _train(tmp_path / "b", 2, Bank())
    resumed = _train(tmp_path / "b", 4, Bank())
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    export("motion_ae", tmp_path / "b", tmp_path / "out")
    assert load_component(recipe.MotionAE, MotionAEConfig, tmp_path / "out").config == CONFIG


def test_looking_measures_copies_as_copies() -> None:
    bank = Bank()
    bank.ensure(4)
    batch = recipe.to_batch(bank.pairs(np.arange(4), np.zeros(4, int), np.ones(4, int)))
    measured = recipe.look(recipe.MotionAE(CONFIG).eval(), batch)
    error = (batch.source - batch.target).div(2).square().mean()
    assert measured["psnr_copy"] == pytest.approx(-10 * float(error.log10()), abs=1e-4)
