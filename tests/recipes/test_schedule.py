"""Closed forms of learning-rate schedules, of the usual gradient norm, and of training time."""

from __future__ import annotations

import math

import pytest

from recipes.configs.run import Optim
from recipes.configs.talker import PRESETS
from recipes.schedule import GradientGuard, Stopwatch, constant, warmup_cosine, warmup_linear_decay


def test_warmup_reaches_the_full_rate_at_its_last_step() -> None:
    factor = warmup_cosine(4, 104, floor=0.1)
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_cosine_falls_to_the_floor_at_the_last_step_and_stays_there() -> None:
    factor = warmup_cosine(4, 104, floor=0.1)
    for done in (0.0, 0.25, 0.5, 1.0):
        expected = 0.1 + 0.9 * math.cos(math.pi * done / 2) ** 2
        assert factor(4 + round(100 * done)) == pytest.approx(expected, abs=1e-12)
    assert factor(1000) == pytest.approx(0.1)


def test_linear_decay_falls_over_the_last_fifth() -> None:
    factor = warmup_linear_decay(4, 100)
    assert [factor(step) for step in (0, 3, 50, 80)] == [0.25, 1.0, 1.0, 1.0]
    assert [factor(step) for step in (81, 90, 99, 100)] == pytest.approx([0.95, 0.5, 0.05, 0.0])


def test_rate_before_the_fall_does_not_depend_on_the_number_of_steps() -> None:
    optim = PRESETS["puppet"]().optim
    short, long = optim.factor(1000), optim.factor(2000)
    assert [short(step) for step in range(801)] == [long(step) for step in range(801)]


@pytest.mark.parametrize(("warmup", "length"), [(0.1, 20), (30, 30), (0, 1)])
def test_warmup_below_one_is_a_share_of_all_steps(warmup: float, length: int) -> None:
    for schedule in ("cosine", "fall"):
        factor = Optim(lr=1.0, warmup=warmup, schedule=schedule).factor(200)
        assert factor(length - 1) == 1.0
        assert length == 1 or factor(length - 2) == pytest.approx(1 - 1 / length)
    assert constant(7) == 1.0


def test_usual_norm_is_the_geometric_mean_of_the_first_norms() -> None:
    guard = GradientGuard(settled=4)
    norms = [1.0, 4.0, 16.0, 2.0, 8.0, 32.0]
    for count, norm in enumerate(norms, 1):
        assert guard.count(norm)
        assert guard.usual_norm == pytest.approx(math.prod(norms[:count]) ** (1 / count))


def test_usual_norm_forgets_at_a_constant_rate_later() -> None:
    guard = GradientGuard(settled=4)
    for _ in range(8):
        guard.count(1.0)
    for count in range(1, 5):
        guard.count(2.0)
        assert math.log2(guard.usual_norm) == pytest.approx(1 - (1 - 1 / 8) ** count)


def test_norm_above_a_hundred_usual_ones_is_refused_once_settled() -> None:
    guard = GradientGuard(settled=3)
    for norm in (1.0, 1.0, 1e9):  # the first ones are all accepted
        assert guard.count(norm)
    usual = guard.usual_norm
    assert usual == pytest.approx(1e3)
    assert guard.accepts(99.9 * usual)
    assert not guard.accepts(100.1 * usual)
    assert not guard.count(100.1 * usual)
    assert (guard.usual_norm, guard.skipped, guard.accepted) == (usual, 1, 3)


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_norm_that_is_not_finite_is_refused(norm: float) -> None:
    guard = GradientGuard()
    assert not guard.count(norm)
    assert (guard.skipped, guard.skipped_in_a_row, guard.usual_norm) == (1, 1, 0.0)
    assert guard.count(1.0)
    assert (guard.skipped, guard.skipped_in_a_row) == (1, 0)


def test_guard_resumes_from_old_checkpoints_without_a_usual_norm() -> None:
    guard = GradientGuard(settled=3)
    guard.resume(steps=10, skipped=2, usual_norm=0.0)
    assert guard.accepted == 8
    assert guard.count(1e9)
    assert guard.usual_norm == pytest.approx(1e9)


def test_training_time_adds_up_over_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = Stopwatch()
    now[0] += 7
    assert watch.seconds == 7
    watch.resume(3600.0)
    now[0] += 5
    assert watch.seconds == 3605
