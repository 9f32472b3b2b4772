"""DeepSpeed's engine in one process does what the plain one does; each continues the other's checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from recipes import launch
from recipes.launch import Engine, engine, generator, warmup_cosine

pytest.importorskip("deepspeed")


def engine_in(folder: Path, stage: int, precision: str = "float32") -> Engine:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 80), nn.SiLU(), nn.Linear(80, 40), nn.Linear(40, 1))
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01)
    return engine(stage, net, optimiser, folder, schedule=warmup_cosine(2, 20), precision=precision)


def train(trainer: Engine, steps: int) -> dict[str, torch.Tensor]:
    """Go on to `steps`, two passes a step; the weights, and the averaged ones."""
    for step in trainer.steps(steps):
        for part in torch.randn(2, 8, 4, generator=generator(0, step)):
            trainer.backward((trainer(part).square().mean() - 1).square())
        trainer.step()
    averaged = {f"ema.{name}": value for name, value in trainer.ema_module.state_dict().items()}
    return {**torch.load(trainer.run / "state.pt", weights_only=True)["module"], **averaged}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_any_stage_continues_what_any_other_began(tmp_path: Path, stage: int) -> None:
    plain = train(engine_in(tmp_path / "plain", 0), 6)
    for path in ((0, stage), (stage, stage), (stage, 0)):
        folder = tmp_path / f"{path}"
        train(engine_in(folder, path[0]), 3)
        second = engine_in(folder, path[1])
        assert second.load() == 3
        found = train(second, 6)
        for name, value in plain.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7, msg=f"{path} {name}")


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bad_steps_are_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    monkeypatch.setattr(launch, "SETTLED", 2)
    trainer = engine_in(tmp_path, stage)
    train(trainer, 3)
    kept = {name: value.clone() for name, value in trainer._weights().items()}
    for factor in (torch.nan, 1e9):
        trainer.backward(trainer(torch.ones(2, 4)).sum() * factor)
        trainer.step()
    assert trainer.skipped == 2
    assert all(torch.equal(value, kept[name]) for name, value in trainer._weights().items())
    train(trainer, 6)
    assert trainer.skipped == 2


def test_bfloat16_reaches_the_forward_pass(tmp_path: Path) -> None:
    found = [engine_in(tmp_path, stage, "bfloat16")(torch.ones(2, 4)) for stage in (0, 1, 2)]
    assert all(value.dtype == torch.bfloat16 for value in found)


def test_there_is_no_fourth_stage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose 0"):
        engine_in(tmp_path, 4)
