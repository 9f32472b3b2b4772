"""The engine: a run that is cut and resumed is bit for bit the run that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from recipes import ranks
from recipes.launch import Engine, generator, warmup_cosine


def engine_in(folder: Path) -> Engine:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    return Engine(net, torch.optim.AdamW(net.parameters(), lr=0.1), folder, schedule=warmup_cosine(2, 20))


def train(engine: Engine, steps: int, save_seconds: float = 60.0) -> None:
    for step in engine.steps(steps, save_seconds=save_seconds):
        x = torch.randn(8, 4, generator=generator(0, step))
        loss = engine.module(x).square().mean()
        engine.backward(loss)
        engine.step(loss=loss)


def test_resume_is_bit_identical(tmp_path: Path) -> None:
    whole = engine_in(tmp_path / "whole")
    train(whole, 6)
    first = engine_in(tmp_path / "cut")
    train(first, 3)
    second = engine_in(tmp_path / "cut")
    assert second.load() == 3
    train(second, 6)
    for ours, theirs in ((second.module, whole.module), (second.ema_module, whole.ema_module)):
        assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    assert second.means() == whole.means(), "steps before the cut count in the line that is logged after it"


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    train(engine_in(tmp_path), 5, save_seconds=-1.0)
    newest = tmp_path / "state.pt"
    newest.write_bytes(newest.read_bytes()[:1000])  # of both its names
    assert engine_in(tmp_path).load() == 4
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint that can be read"):
        engine_in(tmp_path).load()


def test_a_run_whose_time_is_over_saves_and_ends(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    assert list(engine.steps(5, minutes=0)) == []
    assert (tmp_path / "state.pt").exists()


def test_a_step_without_finite_gradient_is_skipped(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    before = {k: v.clone() for k, v in engine.module.state_dict().items()}
    engine.backward(sum(p.sum() for p in engine.module.parameters()) * torch.nan)
    engine.step()
    assert engine.skipped == engine.step_count == 1
    assert all(torch.equal(v, before[k]) for k, v in engine.module.state_dict().items())


def test_means_leave_out_what_was_skipped(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    for value in (1.0, torch.nan, 3.0):
        engine.backward(sum(p.sum() for p in engine.module.parameters()) * value)
        engine.step(part=torch.tensor(value), **({"seldom": torch.tensor(5.0)} if value == 3 else {}))
    means = engine.means()
    assert (means["part"], means["seldom"]) == (2.0, 5.0)
    assert means["grad"] > 0
    engine.backward(sum(p.sum() for p in engine.module.parameters()) * torch.nan)
    engine.step(part=torch.tensor(torch.nan))
    assert engine.means() == {}


def test_a_skipped_step_leaves_no_trace_in_batch_norms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    engine = Engine(net, torch.optim.SGD(net.parameters(), 0.1), tmp_path)
    kept = {}
    for step in engine.steps(4):
        x = torch.randn(5, 3) * (torch.nan if step == 2 else 1.0)
        kept[step] = {name: buffer.clone() for name, buffer in net.named_buffers()}
        engine.backward(engine(x).square().sum())
        engine.step()
    assert engine.skipped == 1
    assert all(torch.equal(value, kept[3][name]) for name, value in kept[2].items())
    assert all(torch.isfinite(value).all() for value in engine.ema_module.state_dict().values())


def test_an_exploding_step_is_skipped(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    train(engine, 60)
    before = {k: v.clone() for k, v in engine.module.state_dict().items()}
    engine.backward(sum(p.sum() for p in engine.module.parameters()) * 1e6)
    assert engine.step() > 1e6
    assert engine.skipped == 1
    assert all(torch.equal(v, before[k]) for k, v in engine.module.state_dict().items())


def test_an_early_explosion_does_not_excuse_later_ones(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    for step, factor in enumerate([*[1.0] * 10, 1e6, *[1.0] * 50, 3e5, 1.0]):
        engine.backward(sum(p.sum() for p in engine.module.parameters()) * factor)
        engine.step()
        assert engine.skipped == (step >= 61)


def test_many_bad_steps_end_the_run_with_the_batch_saved(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)

    def train_on(batch: object) -> None:
        for _ in range(30):
            engine.backward(sum(p.sum() for p in engine.module.parameters()) * torch.nan)
            engine.step(batch)

    with pytest.raises(RuntimeError, match="lower the learning rate"):
        train_on([{"pcm": torch.ones(3)}])
    assert engine.skipped == 20
    (path,) = tmp_path.glob("bad_step_*.pt")
    assert torch.load(path, weights_only=True)[0]["pcm"].sum() == 3
    assert engine_in(tmp_path).load() == 19, "there is a checkpoint to continue from"


def test_a_checkpoint_without_the_newer_counters_continues(tmp_path: Path) -> None:
    train(engine_in(tmp_path), 60)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["counters"] = {name: state["counters"][name] for name in ("step", "skipped", "seconds")}
    torch.save(state, tmp_path / "state.pt")
    engine = engine_in(tmp_path)
    assert engine.load() == 60
    train(engine, 70)
    assert engine.skipped == 0


def test_a_terminated_run_saves_first(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    engine.schedule = lambda step: os.kill(os.getpid(), signal.SIGTERM) or 1.0 if step == 3 else 1.0
    with pytest.raises(SystemExit):
        train(engine, 10)
    assert engine_in(tmp_path).load() == 4


def test_old_checkpoints_go(tmp_path: Path) -> None:
    train(engine_in(tmp_path), 5, save_seconds=-1.0)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["00000004.pt", "00000005.pt"]
    assert engine_in(tmp_path).load() == 5


def test_what_no_rank_used_has_no_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros would be steps to Adam: a layer that a later stage adds would not begin as in one process."""
    engine = engine_in(tmp_path)
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "total", lambda values: 2 * values.detach())
    engine.backward(engine.module[0].weight.sum())
    engine._share_gradients()
    used = {name for name, p in engine.module.named_parameters() if p.grad is not None}
    assert used == {"0.weight"}
    assert engine.module[0].weight.grad.eq(1).all()


def test_every_parameter_must_be_optimised(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="bias"):
        Engine(net, torch.optim.SGD([net.weight], lr=1.0), tmp_path)


def test_another_model_is_refused(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    engine.save()
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="another model"):
        Engine(net, torch.optim.AdamW(net.parameters()), tmp_path).load()


@pytest.mark.long
def test_a_killed_run_keeps_a_whole_checkpoint(tmp_path: Path) -> None:
    code = """
        import sys, torch
        from pathlib import Path
        from torch import nn
        from recipes.launch import Engine
        net = nn.Linear(500, 500)
        engine = Engine(net, torch.optim.AdamW(net.parameters()), Path(sys.argv[1]))
        while True:
            engine.backward(net(torch.ones(1, 500)).sum()); engine.step(); engine.save()
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    process.kill()
    process.wait()
    net = nn.Linear(500, 500)
    assert Engine(net, torch.optim.AdamW(net.parameters()), tmp_path).load() >= 1
