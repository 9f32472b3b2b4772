"""The log of a run, speed and memory, peak speeds of devices, and exports."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from recipes import export, runlog
from recipes.device import bfloat16_autocast, peak_flops, to_device
from recipes.runlog import Meter, RunLog


def test_line_has_step_and_minutes_and_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers: list[tuple[str, float, int]] = []

    class Board:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            numbers.append((name, value, step))

    opened: list[tuple[Path, int]] = []
    monkeypatch.setattr(runlog, "tensorboard", lambda *given: opened.append(given) or Board())
    log = RunLog(tmp_path / "run")
    log.write(3, 90.0, loss=0.123456, note="text")
    log.write(4, 96.0, loss=2)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first = {"step": 3, "minutes": 1.5, "loss": 0.123456, "note": "text"}
    assert rows == [first, {"step": 4, "minutes": 1.6, "loss": 2}]
    assert opened == [(tmp_path / "run" / "tensorboard", 3)]
    assert numbers == [("loss", 0.123456, 3), ("loss", 2, 4)]
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["step 3  minutes 1.5  loss 0.1235  note text", "step 4  minutes 1.6  loss 2"]
    monkeypatch.setattr(runlog.ranks, "rank", lambda: 1)
    log.write(5, 100.0, loss=1.0)
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2, "rank 0 alone writes"


def test_meter_divides_samples_and_flops_by_the_time_since_the_last_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(runlog.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    meter = Meter()
    meter.restart(10)
    now[0] += 4
    assert meter.read(16, samples=8)["samples_s"] == 12
    now[0] += 2
    shown = meter.read(17, samples=8, flops=1e12)
    assert shown["samples_s"] == 4
    assert 0.01 < shown["memory_gib"] < 100
    assert "mfu" not in shown
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100-SXM4-80GB")
    now[0] += 2
    assert meter.read(18, 8, flops=312e12) == {"samples_s": 4, "memory_gib": 3, "mfu": 0.5}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Toy")
    now[0] += 2
    assert meter.read(19, 8, flops=312e12).keys() == {"samples_s", "memory_gib"}
    assert peak_flops() is None


def test_batch_moves_to_a_device_as_a_copy() -> None:
    @dataclass(frozen=True)
    class Pair:
        one: torch.Tensor
        two: torch.Tensor

    moved = to_device("meta", Pair(torch.ones(2), torch.ones(3)))
    assert (moved.one.device.type, moved.two.shape) == ("meta", (3,))


def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda fast=fast: {"avx512_bf16": fast})
        with bfloat16_autocast("cpu"):
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if fast else torch.float32)


def test_export_refuses_other_runs_and_components_outside_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["export", *arguments])
        with pytest.raises(SystemExit) as ended:
            export.main()
        return f"{ended.value} {capsys.readouterr().err}"

    run = tmp_path / "run"
    assert "state.pt is missing: train first" in main("speaker", str(run), str(tmp_path / "out"))
    run.mkdir()
    (run / "state.pt").touch()
    (run / "run.json").write_text('{"recipe": "sync", "config": {}}')
    assert "is a run of train_sync: export sync instead of speaker" in main("speaker", str(run), "out")
    assert "does not contain audio_vae_adversarial: name a folder" in main("audio_vae_adversarial", str(run))
    made: list[tuple[str, Path, Path]] = []
    monkeypatch.setattr(export, "export", lambda *given: made.append(given))
    monkeypatch.setattr(sys, "argv", ["export", "sync", str(run)])
    export.main()
    assert made == [("sync", run, export.SYNC)]
