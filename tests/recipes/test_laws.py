"""What holds of a training however it is shared, killed and resumed: real processes, gloo, DeepSpeed."""

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
    """Start a run, kill all of it with SIGKILL at a random step; returns how many steps were logged."""
    began, at = start(folder, processes, "--pause", "0.05", *arguments), random.randint(2, 10)
    log, deadline = folder / "log.jsonl", time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) >= at):
        assert began[0].poll() is None, began[0].communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for process in began:
        process.kill()
    for process in began:
        process.communicate()
    return len(curve(folder))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    return run(tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_follow_the_curve_of_one(tmp_path: Path, alone: list[list[float]], stage: int) -> None:
    shared = run(tmp_path, 2, "--set", f"zero={stage}", "--set", "batch.micro=2.4")
    assert len(shared) == len(alone) == 50
    for ours, theirs in zip(shared, alone, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, stage: int) -> None:
    zero = (*SHORT, "--set", f"zero={stage}")
    whole = run(tmp_path / "whole", 2, *zero)
    assert kill_somewhere(tmp_path / "cut", 2, *zero) < 14
    cut = run(tmp_path / "cut", 2, *zero)
    assert cut == whole


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_process_continues_what_two_began(tmp_path: Path, alone: list[list[float]], stage: int) -> None:
    zero = (*SHORT[2:], "--set", f"zero={stage}")
    kill_somewhere(tmp_path, 2, *zero)
    said = finish(start(tmp_path, 1, *zero))
    assert "saved by 2 process(es), continued by 1" in said
    assert len(curve(tmp_path)) == 50
    for ours, theirs in zip(values(tmp_path), alone, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("stage", [0, 2])
def test_speech_alone_trains_without_hanging(tmp_path: Path, stage: int) -> None:
    only = [f"mix.{task}={int(task == 'tts')}" for task in ("t2av", "tts", "a2v", "v2a")]
    settings = [part for name in (*only, "steps=3", f"zero={stage}") for part in ("--set", name)]
    found = run(tmp_path, 2, *settings)
    # One of the three batches holds the idle clip, which has no text to speak: it is A2V.
    assert sorted(row[PARTS.index("motion")] > 0 for row in found) == [False, False, True]
    assert all(row[PARTS.index("audio")] > 0 for row in found)
