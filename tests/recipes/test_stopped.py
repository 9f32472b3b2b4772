"""Recipes, preparation and evaluation that are stopped by a signal save, print one line, and continue."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny_talker import ROOT, free_port

from talker.signals import SIGNALS

pytestmark = pytest.mark.long
RECIPE = ("-m", "recipes.train_audio_vae", "--config", "tiny", "--run", "run")
FIRST_LINE_SECONDS = 2.0
PROGRAMS = (
    *(f"recipes.{path.stem}" for path in sorted((ROOT / "recipes").glob("train_*.py"))),
    *(f"recipes.data.{name}" for name in ("prepare", "latents", "frame_bank", "validate")),
    *("recipes.export", "recipes.plan", "evaluation.run", "evaluation.validate", "evaluation.joins"),
    *(f"puppet.{name}" for name in ("corpus", "sheet", "draw_speech", "build_head")),
)


def start(folder: Path, command: Sequence[str | Path]) -> subprocess.Popen[str]:
    """Start a program in `folder` and in its own session, with default signals; its output goes to `log`."""

    def prepare() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=prepare,
        )


def wait_for(process: subprocess.Popen[str], folder: Path, words: str, seconds: float = 240) -> None:
    """Wait until the log contains `words`."""
    deadline = time.monotonic() + seconds
    while words not in (folder / "log").read_text():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)


def stop(process: subprocess.Popen[str], folder: Path, number: signal.Signals) -> str:
    """Send the signal twice to all processes of the session; return the line that is printed."""
    for pause in (0.01, 0):
        os.killpg(process.pid, number)
        time.sleep(pause)
    assert process.wait(120) == 128 + number, (folder / "log").read_text()
    printed = (folder / "log").read_text()
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("stopped by ")]
    assert line.startswith(f"stopped by {number.name}: ")
    return line


@pytest.mark.parametrize("number", SIGNALS)
def test_stopped_recipe_continues_to_the_bit(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, [sys.executable, *RECIPE, "--set", "steps=100000"])
    wait_for(process, tmp_path, "step 2 ")
    line = stop(process, tmp_path, number)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    step = state["counters"]["step"]
    assert f"step {step} is saved in run/state.pt; continue with: " in line
    again = shlex.split(line.partition("continue with: ")[2])
    assert again == [sys.executable, *RECIPE, "--set", "steps=100000"]
    assert start(tmp_path, [*again[:-1], f"steps={step + 2}"]).wait(240) == 0
    whole = tmp_path / "whole"
    whole.mkdir()
    assert start(whole, [*again[:-1], f"steps={step + 2}"]).wait(240) == 0
    ours, theirs = (
        torch.load(at / "run" / "state.pt", weights_only=True)["module"] for at in (tmp_path, whole)
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_recipe_that_is_stopped_while_it_makes_its_data_keeps_the_finished_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.train_sync", "--config", "tiny", "--run", "run"]
    process = start(tmp_path, [*command, "--set", "clips=400"])
    while not list(tmp_path.glob("run/train/0*.npz")):
        assert process.poll() is None
        time.sleep(0.05)
    assert "finished files in run are kept; continue with: " in stop(process, tmp_path, signal.SIGTERM)
    assert [path.name for path in (tmp_path / "run" / "train").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("launcher", "number"),
    [("torchrun", signal.SIGTERM), ("torchrun", signal.SIGHUP), ("deepspeed", signal.SIGINT)],
)
def test_all_ranks_save_the_same_step(tmp_path: Path, launcher: str, number: signal.Signals) -> None:
    program = Path(sys.executable).with_name(launcher)
    options = ["--standalone", "--nproc-per-node=2", "-m", "--", RECIPE[1]]
    if launcher == "deepspeed":
        pytest.importorskip("deepspeed")
        options = ["--num_gpus=2", f"--master_port={free_port()}", "--module", RECIPE[1]]
    process = start(tmp_path, [program, *options, *RECIPE[2:], "--set", "steps=100000"])
    wait_for(process, tmp_path, "step 2 ")
    os.killpg(process.pid, number)
    assert process.wait(120) != 0
    deadline = time.monotonic() + 60  # the deepspeed command does not wait for its processes
    while "stopped by" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if "stopped by" in line]
    step = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["counters"]["step"]
    assert lines == [
        f"stopped by {number.name}: step {step} is saved in run/state.pt; continue with: the same command"
    ]


def test_stopped_evaluation_continues_without_measuring_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evaluation.run", "-n", "3", "--parts", "talker", "--name", "one"]
    process = start(tmp_path, command)
    wait_for(process, tmp_path, "1/3  PER")
    line = stop(process, tmp_path, signal.SIGINT)
    assert "measured clips are kept in runs/evaluation/one/measured.jsonl; continue with: " in line
    first = (tmp_path / "runs/evaluation/one/0000.mp4").stat().st_mtime_ns
    assert start(tmp_path, shlex.split(line.partition("continue with: ")[2])).wait(600) == 0
    assert "clips are measured already" in (tmp_path / "log").read_text()
    assert (tmp_path / "runs/evaluation/one/0000.mp4").stat().st_mtime_ns == first
    assert (tmp_path / "runs/evaluation/one/report.json").exists()
    assert not (tmp_path / "runs/evaluation/one/measured.jsonl").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_prints_its_first_line_within_two_seconds(tmp_path: Path, program: str) -> None:
    began = time.monotonic()
    process = start(tmp_path, [sys.executable, "-m", program, "--help"])
    wait_for(process, tmp_path, f"{program}: loading\n")
    assert time.monotonic() - began < FIRST_LINE_SECONDS
    assert process.wait(60) == 0
