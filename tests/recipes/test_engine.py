"""The engine: learning rates, budgets, skipped steps, and checkpoints from which a run resumes to the bit."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from recipes import ranks
from recipes.backend import PlainBackend
from recipes.checkpoints import Checkpoints
from recipes.draws import generator
from recipes.engine import Engine
from recipes.schedule import warmup_cosine
from talker.signals import Interrupted


def engine_in(folder: Path) -> Engine:
    """An engine with the same small network every time."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    return Engine(net, torch.optim.AdamW(net.parameters(), lr=0.1), folder, schedule=warmup_cosine(2, 20))


def train(engine: Engine, steps: int, save_seconds: float = 60.0) -> None:
    for step in engine.steps(steps, save_seconds=save_seconds):
        x = torch.randn(8, 4, generator=generator(0, step))
        loss = engine.module(x).square().mean()
        engine.backward(loss)
        engine.step(loss=loss)


def fail(engine: Engine, factor: float = torch.nan) -> None:
    """Compute a gradient of `factor` in every parameter."""
    engine.backward(sum(p.sum() for p in engine.module.parameters()) * factor)


def state_of(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in engine.module.state_dict().items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_each_step_has_the_rate_of_its_schedule(tmp_path: Path) -> None:
    """Gradient descent with gradient 1 moves a weight by the sum of the rates."""
    net = nn.Linear(1, 1, bias=False)
    optimiser, schedule = torch.optim.SGD(net.parameters(), lr=0.5), warmup_cosine(4, 8, floor=0.0)
    engine, start = Engine(net, optimiser, tmp_path, schedule, clip=math.inf), net.weight.item()
    rates = [0.125, 0.25, 0.375, 0.5, *(0.25 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]
    for step in engine.steps(8):
        engine.backward(net.weight.sum())
        assert engine.step() == 1.0
        assert net.weight.item() == pytest.approx(start - sum(rates[: step + 1]), rel=1e-5)


def test_groups_of_parameters_keep_their_own_rates(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    groups = [{"params": [net.weight], "lr": 0.1}, {"params": [net.bias], "lr": 0.4}]
    engine = Engine(net, torch.optim.SGD(groups), tmp_path, lambda step: 0.5, clip=math.inf)
    before = net.weight.item(), net.bias.item()
    engine.backward(net.weight.sum() + net.bias.sum())
    engine.step()
    moved = before[0] - net.weight.item(), before[1] - net.bias.item()
    assert moved == pytest.approx((0.05, 0.2), rel=1e-5)


def test_gradient_is_clipped_to_the_given_norm(tmp_path: Path) -> None:
    net = nn.Linear(1, 1, bias=False)
    engine, start = Engine(net, torch.optim.SGD(net.parameters(), 1.0), tmp_path, clip=2.0), net.weight.item()
    for gradient, moved in ((8.0, 2.0), (1.0, 1.0)):
        engine.backward(gradient * net.weight.sum())
        assert engine.step() == gradient
        assert net.weight.item() == pytest.approx(start - moved, rel=1e-5)
        start -= moved


def test_average_follows_the_weights_of_each_step(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    expected = {name: value.clone() for name, value in engine.ema_module.named_parameters()}
    for step in range(3):
        train(engine, step + 1)
        decay = (1 + step) / (10 + step)
        for name, value in engine.module.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach()
            torch.testing.assert_close(engine.ema_module.get_parameter(name).data, expected[name])


def test_resume_is_bit_identical(tmp_path: Path) -> None:
    whole = engine_in(tmp_path / "whole")
    train(whole, 6)
    first = engine_in(tmp_path / "cut")
    train(first, 3)
    second = engine_in(tmp_path / "cut")
    assert second.load() == 3
    train(second, 6)
    assert_equal(second.module.state_dict(), whole.module.state_dict())
    assert_equal(second.ema_module.state_dict(), whole.ema_module.state_dict())
    assert second.guard.usual_norm == whole.guard.usual_norm > 0
    assert second.means() == whole.means(), "the next line of the log includes the steps before the resume"


def test_damaged_checkpoint_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    train(engine_in(tmp_path), 5, save_seconds=-1.0)
    newest = tmp_path / "state.pt"
    newest.write_bytes(newest.read_bytes()[:1000])  # also checkpoints/00000005.pt: the same file
    assert engine_in(tmp_path).load() == 4
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint that can be read: remove the folder"):
        engine_in(tmp_path).load()


def test_damaged_copy_of_the_newest_checkpoint_is_replaced_by_the_newest(tmp_path: Path) -> None:
    """On a file system without hard links, state.pt is a file of its own."""
    train(engine_in(tmp_path), 5, save_seconds=-1.0)
    (tmp_path / "state.pt").unlink()
    (tmp_path / "state.pt").write_bytes(b"")
    assert engine_in(tmp_path).load() == 5


def test_run_ends_after_its_minutes_and_saves(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    assert list(engine.steps(5, minutes=0)) == []
    assert (tmp_path / "state.pt").exists()


def test_minutes_include_the_time_before_a_resume(tmp_path: Path) -> None:
    first = engine_in(tmp_path)
    first.stopwatch.resume(600.0)  # ten minutes have passed
    train(first, 1)
    second = engine_in(tmp_path)
    second.load()
    assert 600 <= second.seconds < 660
    assert list(second.steps(5, minutes=10)) == []
    assert next(second.steps(5, minutes=12)) == 1


def test_step_with_a_gradient_that_is_not_finite_is_skipped(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    before = state_of(engine)
    fail(engine)
    engine.step()
    assert engine.skipped == engine.step_count == 1
    assert_equal(engine.module.state_dict(), before)


def test_means_exclude_skipped_steps(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    for value in (1.0, torch.nan, 3.0):
        fail(engine, value)
        engine.step(part=torch.tensor(value), **({"seldom": torch.tensor(5.0)} if value == 3 else {}))
    means = engine.means()
    assert (means["part"], means["seldom"]) == (2.0, 5.0)
    assert means["grad"] > 0
    fail(engine)
    engine.step(part=torch.tensor(torch.nan))
    assert engine.means() == {}


def test_skipped_step_does_not_change_batch_norms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    engine = Engine(net, torch.optim.SGD(net.parameters(), 0.1), tmp_path)
    before = {}
    for step in engine.steps(4):
        x = torch.randn(5, 3) * (torch.nan if step == 2 else 1.0)
        before[step] = {name: buffer.clone() for name, buffer in net.named_buffers()}
        engine.backward(engine(x).square().sum())
        engine.step()
    assert engine.skipped == 1
    assert_equal(before[2], before[3])
    assert all(torch.isfinite(value).all() for value in engine.ema_module.state_dict().values())


def test_exploding_gradient_is_skipped(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    train(engine, 60)
    before = state_of(engine)
    fail(engine, 1e6)
    assert engine.step() > 1e6
    assert engine.skipped == 1
    assert_equal(engine.module.state_dict(), before)


def test_early_explosion_does_not_permit_later_ones(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    for step, factor in enumerate([*[1.0] * 10, 1e6, *[1.0] * 50, 3e5, 1.0]):
        fail(engine, factor)
        engine.step()
        assert engine.skipped == (step >= 61)


def test_many_skipped_steps_end_the_run_and_save_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_in(tmp_path)

    def train_on(batch: object) -> None:
        for _ in range(30):
            fail(engine)
            engine.step(batch)

    with pytest.raises(RuntimeError, match="lower the learning rate"):
        train_on([{"pcm": torch.ones(3)}])
    assert engine.skipped == 20
    (path,) = tmp_path.glob("bad_step_*.pt")
    assert torch.load(path, weights_only=True)[0]["pcm"].sum() == 3
    monkeypatch.setattr(ranks, "rank", lambda: 3)
    assert engine.checkpoints.write_bad_batch([], 5).name == "bad_step_5_rank_3.pt"
    monkeypatch.undo()
    assert engine_in(tmp_path).load() == 19, "the last checkpoint is of the step before"


def test_checkpoint_without_the_newer_counters_continues(tmp_path: Path) -> None:
    train(engine_in(tmp_path), 52)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["counters"] = {name: state["counters"][name] for name in ("step", "skipped", "seconds")}
    torch.save(state, tmp_path / "state.pt")
    engine = engine_in(tmp_path)
    assert engine.load() == 52
    train(engine, 54)
    assert engine.skipped == 0


def test_terminated_run_saves_a_checkpoint(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    engine.schedule = lambda step: os.kill(os.getpid(), signal.SIGTERM) or 1.0 if step == 3 else 1.0
    with pytest.raises(Interrupted):
        train(engine, 10)
    assert engine_in(tmp_path).load() == 4


def test_checkpoints_are_copied_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", link)
    engine_in(tmp_path).save()
    (stored,) = (tmp_path / "checkpoints").glob("*.pt")
    assert (tmp_path / "state.pt").read_bytes() == stored.read_bytes()


def test_a_run_begins_from_the_weights_of_its_averaged_part(tmp_path: Path) -> None:
    given = nn.Linear(2, 2)
    tmp_path.joinpath("run").mkdir()
    save_file(given.state_dict(), tmp_path / "run" / "begin.safetensors")
    net = nn.ModuleDict({"vae": nn.Linear(2, 2), "judge": nn.Linear(2, 2)})
    judge = net["judge"].weight.clone()
    engine = Engine(net, torch.optim.SGD(net.parameters(), 0.1), tmp_path / "run", averaged="vae")
    assert engine.load() == 0
    assert engine.begun
    assert_equal(net["vae"].state_dict(), given.state_dict())
    assert_equal(engine.ema_module.state_dict(), given.state_dict())
    assert net["judge"].weight.equal(judge)


def test_old_checkpoints_are_deleted(tmp_path: Path) -> None:
    train(engine_in(tmp_path), 5, save_seconds=-1.0)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["00000004.pt", "00000005.pt"]
    assert engine_in(tmp_path).load() == 5


def test_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for name in (".state.pt.abc", "checkpoints/.00000001.pt.abc"):
        (tmp_path / name).write_bytes(b"half")
    checkpoints.write({"step": 2}, 2)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["checkpoints/00000002.pt", "state.pt"]


def test_parameter_without_gradient_on_any_rank_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam would count zeros as a step, so a layer that a later stage adds would start otherwise."""
    engine = engine_in(tmp_path)
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "total", lambda values: 2 * values.detach())
    engine.backward(engine.module[0].weight.sum())
    assert isinstance(engine.backend, PlainBackend)
    engine.backend.average_gradients()
    used = {name for name, p in engine.module.named_parameters() if p.grad is not None}
    assert used == {"0.weight"}
    assert engine.module[0].weight.grad.eq(1).all()


def test_parameter_missing_in_the_optimiser_is_an_error(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="bias"):
        Engine(net, torch.optim.SGD([net.weight], lr=1.0), tmp_path)


def test_checkpoint_of_another_model_is_an_error(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    engine.save()
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="is of another model: choose another --run"):
        Engine(net, torch.optim.AdamW(net.parameters()), tmp_path).load()


@pytest.mark.long
def test_killed_run_keeps_a_complete_checkpoint(tmp_path: Path) -> None:
    code = """
        import sys, torch
        from pathlib import Path
        from torch import nn
        from recipes.engine import Engine
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


def test_each_save_restarts_the_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, saves = engine_in(tmp_path), []
    monkeypatch.setattr("recipes.engine.time", SimpleNamespace(monotonic=lambda: 10.0 * engine.step_count))
    monkeypatch.setattr(engine, "save", lambda: saves.append(engine.step_count))
    train(engine, 10, save_seconds=35.0)
    assert saves == [4, 8, 10]


def test_meter_of_a_resumed_run_counts_only_new_steps(tmp_path: Path) -> None:
    train(engine_in(tmp_path), 3)
    engine = engine_in(tmp_path)
    engine.load()
    assert engine.meter(samples=8)["samples_s"] == 0.0
