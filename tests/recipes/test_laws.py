"""A training is the same however it is divided, killed and resumed: real processes, gloo, DeepSpeed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from tiny_talker import curve, finish, start

pytest.importorskip("deepspeed")
pytestmark = pytest.mark.long
PARTS = ("audio", "motion", "forecast_audio", "forecast_motion", "stop", "reading", "grad")
STAGES = (0, 1, 2, 3)
SHORT = ("--set", "steps=14", "--set", "save_seconds=0")


def values(folder: Path) -> list[list[float]]:
    return [[row[part] for part in PARTS] for row in curve(folder)]


def run(folder: Path, processes: int, *arguments: str) -> list[list[float]]:
    finish(start(folder, processes, *arguments))
    return values(folder)


def kill_somewhere(folder: Path, processes: int, *arguments: str) -> int:
    """Start a run and kill all its processes at a random step; returns the number of logged steps."""
    started, at = start(folder, processes, "--pause", "0.05", *arguments), random.randint(2, 10)
    log, deadline = folder / "log.jsonl", time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) >= at):
        assert started[0].poll() is None, started[0].communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for process in started:
        process.kill()
    for process in started:
        process.communicate()
    return len(curve(folder))


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    return run(tmp_path_factory.mktemp("one"), 1)


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_follow_the_curve_of_one(
    tmp_path: Path, one_process: list[list[float]], stage: int
) -> None:
    shared = run(tmp_path, 2, "--set", f"zero={stage}", "--set", "batch.micro=2.4")
    assert len(shared) == len(one_process) == 50
    for found, expected in zip(shared, one_process, strict=True):
        assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_run_resumes_to_the_bit(tmp_path: Path, stage: int) -> None:
    zero = (*SHORT, "--set", f"zero={stage}")
    whole = run(tmp_path / "whole", 2, *zero)
    assert kill_somewhere(tmp_path / "cut", 2, *zero) < 14
    cut = run(tmp_path / "cut", 2, *zero)
    assert cut == whole


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_process_continues_a_run_of_two(
    tmp_path: Path, one_process: list[list[float]], stage: int
) -> None:
    zero = (*SHORT[2:], "--set", f"zero={stage}")
    kill_somewhere(tmp_path, 2, *zero)
    output = finish(start(tmp_path, 1, *zero))
    assert "was saved by 2 process(es) and is continued by 1" in output
    assert len(curve(tmp_path)) == 50
    for found, expected in zip(values(tmp_path), one_process, strict=True):
        assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("stage", [0, 2])
def test_batches_without_motion_do_not_block_the_ranks(tmp_path: Path, stage: int) -> None:
    only = [f"mix.{task}={int(task == 'tts')}" for task in ("t2av", "tts", "a2v", "v2a")]
    settings = [part for name in (*only, "steps=3", f"zero={stage}") for part in ("--set", name)]
    found = run(tmp_path, 2, *settings)
    # One of the three batches contains the idle clip, which has no text and is therefore an A2V sample.
    assert sorted(row[PARTS.index("motion")] > 0 for row in found) == [False, False, True]
    assert all(row[PARTS.index("audio")] > 0 for row in found)
