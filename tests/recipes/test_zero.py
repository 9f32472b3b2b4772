"""In one process the DeepSpeed backend equals the plain one; each continues the other's checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recipes.draws import generator
from recipes.engine import Engine
from recipes.schedule import warmup_cosine

pytest.importorskip("deepspeed")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore what the backend sets: two variables and, for stage 3, the linear function of every module."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(F, "linear", F.linear)


def engine_in(folder: Path, stage: int, precision: str = "float32") -> Engine:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 80), nn.SiLU(), nn.Linear(80, 40), nn.Linear(40, 1))
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01)
    return Engine(net, optimiser, folder, warmup_cosine(2, 20), precision=precision, zero=stage)


def train(trainer: Engine, steps: int) -> dict[str, torch.Tensor]:
    """Continue to `steps`, with two passes a step; returns the weights and the averaged ones."""
    for step in trainer.steps(steps):
        for part in torch.randn(2, 8, 4, generator=generator(0, step)):
            trainer.backward((trainer(part).square().mean() - 1).square())
        trainer.step()
    averaged = {f"ema.{name}": value for name, value in trainer.ema_module.state_dict().items()}
    return {**torch.load(trainer.run / "state.pt", weights_only=True)["module"], **averaged}


# DeepSpeed has one class for stages 1 and 2.
STAGES = [1, pytest.param(2, marks=pytest.mark.long), 3]


@pytest.mark.parametrize("stage", STAGES)
def test_any_stage_continues_a_run_of_any_other(tmp_path: Path, stage: int) -> None:
    plain = train(engine_in(tmp_path / "plain", 0), 6)
    for path in ((0, stage), (stage, stage), (stage, 0)):
        folder = tmp_path / f"{path}"
        train(engine_in(folder, path[0]), 3)
        second = engine_in(folder, path[1])
        assert second.load() == 3
        found = train(second, 6)
        for name, value in plain.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7, msg=f"{path} {name}")


@pytest.mark.parametrize("stage", STAGES)
def test_unusable_gradients_are_skipped_and_counted(tmp_path: Path, stage: int) -> None:
    trainer = engine_in(tmp_path, stage)
    trainer.guard.settled = 2
    train(trainer, 3)
    before = {name: value.clone() for name, value in trainer.backend.weights().items()}
    for factor in (torch.nan, 1e9):
        trainer.backward(trainer(torch.ones(2, 4)).sum() * factor)
        trainer.step()
    assert trainer.skipped == 2
    assert all(torch.equal(value, before[name]) for name, value in trainer.backend.weights().items())
    train(trainer, 6)
    assert trainer.skipped == 2


def test_forward_pass_is_in_bfloat16(tmp_path: Path) -> None:
    found = [engine_in(tmp_path, stage, "bfloat16")(torch.ones(2, 4)) for stage in (0, 1, 2)]
    assert all(value.dtype == torch.bfloat16 for value in found)


def test_stage_four_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no ZeRO stage 4: choose zero=0"):
        engine_in(tmp_path, 4)
