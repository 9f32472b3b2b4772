"""Steps at the joins between sentences and windows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import joins
from evaluation.joins import HOP, KINDS, Made, dubbed, moved, report, smooth, spoken, steps
from heads.streams import Streams


def test_step_is_measured_at_its_frame_border() -> None:
    """Sound and head are constant except at one frame border."""
    pcm, motion = np.zeros(10 * HOP, np.float32), np.zeros((10, 24), np.float32)
    pcm[4 * HOP :], motion[4:, 0], motion[4:, 3:5] = 0.5, 0.2, 0.3
    found = steps(pcm, motion)
    assert set(found) == set(KINDS)
    for name, size in {"sample": 0.5, "yaw": 0.2, "pitch": 0.0, "shift": 0.3 * 2**0.5}.items():
        assert found[name][3] == pytest.approx(size)
        assert np.delete(found[name], 3).max() == 0
    assert found["loudness"].argmax() == 3
    downwards = steps(-pcm, -motion)
    assert all(np.array_equal(downwards[name], found[name]) for name in KINDS)


def test_join_is_smooth_below_the_percentile_of_other_borders() -> None:
    """The share counts only joins that are smooth in every kind of step."""
    rng = np.random.default_rng(0)
    found = {"yaw": rng.uniform(0, 1, 2000), "pitch": rng.uniform(0, 1, 2000)}
    joins = [100, 200, 300, 400]
    for frame in joins:
        found["yaw"][frame - 1] = found["pitch"][frame - 1] = 0.5
    found["yaw"][99], found["pitch"][199] = 1.2, 0.9999
    rows, share = smooth(found, joins)
    assert [row["smooth"] for row in rows] == [0.75, 0.75]
    assert share == 0.5


def test_joins_do_not_raise_the_bound_that_they_are_measured_by() -> None:
    values = np.arange(1.0, 12.0)
    values[[2, 6, 9]] = 50, 70, 90
    (row,), share = smooth({"yaw": values}, [3, 7, 10])
    inside = np.delete(values, [2, 6, 9])
    assert row["inside_median"] == np.median(inside)
    assert row["inside_995"] == pytest.approx(np.percentile(inside, 99.5))
    assert (row["step"], row["joins_median"], row["joins_worst"]) == ("yaw", 70, 90)
    assert row["smooth"] == share == 0


def test_loudness_is_measured_over_20_ms_on_both_sides_of_a_border() -> None:
    pcm = np.full(4 * HOP, 0.1, np.float32)
    pcm[2 * HOP : 2 * HOP + 480] = 1.0
    found = steps(pcm, np.zeros((4, 24), np.float32))["loudness"]
    assert found == pytest.approx([0, 20, 0], abs=1e-3)
    pcm[2 * HOP : 2 * HOP + 480] = 0
    assert steps(pcm, np.zeros((4, 24), np.float32))["loudness"][1] == pytest.approx(50, abs=1e-3)


def test_joins_are_the_starts_of_all_parts_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch of this system has 4 frames, and its sound has the value of the audio latent."""
    patches = [Streams(audio=torch.full((4, 1), k), motion=torch.full((4, 24), k)) for k in range(3)]

    def decode(audio: Any) -> Any:
        return (latents.repeat_interleave(HOP).numpy() for latents in audio)

    clip = SimpleNamespace(system=SimpleNamespace(patch_frames=4, decode=decode), source="given.wav")
    take = SimpleNamespace(clip=clip, starts=[0, 1, 2], latents=lambda: iter(patches))
    clip.take, clip.motion = lambda: take, lambda: torch.ones(10, 24)
    monkeypatch.setattr(joins, "stream_audio", lambda source: [torch.ones(9 * HOP), torch.ones(HOP + 7)])
    values = np.repeat(np.arange(3.0), 4)
    for made in (spoken(clip), moved(clip), dubbed(clip)):  # type: ignore[arg-type]
        assert made.joins == [4, 8]
        assert len(made.pcm) == HOP * len(made.motion)
    assert np.array_equal(spoken(clip).pcm[::HOP], values)  # type: ignore[arg-type]
    assert np.array_equal(moved(clip).motion[:, 0], values)  # type: ignore[arg-type]
    assert moved(clip).pcm.sum() == 10 * HOP + 7, "silence after the recording"  # type: ignore[arg-type]
    assert np.array_equal(dubbed(clip).pcm[::HOP], values[:10])  # type: ignore[arg-type]


def test_report_counts_joins_and_smooth_ones(capsys: pytest.CaptureFixture[str]) -> None:
    motion = np.cumsum(np.full((50, 24), 0.1), axis=0, dtype=np.float32)
    motion[20:] += 1
    report("windows", Made(np.zeros(50 * HOP, np.float32), motion, [10, 20]), ("yaw", "sample"))
    first, *rows, last, _ = capsys.readouterr().out.splitlines()
    assert first == "windows: 2 joins in 2 s"
    assert [row.split()[0] for row in rows] == ["step", "yaw", "sample"]
    assert last == "50% of the joins are smooth in every step"
