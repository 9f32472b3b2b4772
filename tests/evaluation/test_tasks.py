"""Rows and totals of the tasks, with a talker that returns known pictures and sounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import tasks
from evaluation.heldout import Case
from evaluation.sync import Sync
from evaluation.tasks import perform_clip, task_figures
from heads.sampling import Sampling
from talker.clock import HOP
from talker.media.readers import read_audio, read_frames


class Told:
    """A talker that notes its arguments. Its output has `frames` frames and a sound of the value `level`."""

    def __init__(self, frames: int, level: float) -> None:
        self.frames, self.level, self.given = frames, level, list[tuple[Any, ...]]()

    def voice(self, path: Path) -> Path:
        return path

    def portrait(self, path: Path, crop: str) -> Path:
        assert crop == "none"
        return path

    def make(self, name: str, *given: Any, seed: int, sampling: Sampling | None, **more: Any) -> Any:
        self.given.append((name, *given, more, seed, sampling))

        def save(path: Path, seen: Callable[[Any], None]) -> Any:
            for size in (2, self.frames - 2):
                pcm = np.full(size * HOP, self.level, np.float32)
                seen(SimpleNamespace(pcm=pcm, frames=np.zeros((size, 32, 32, 3), np.uint8)))
            return SimpleNamespace(
                finish_reason="stop", rtf=0.5, duration_seconds=self.frames / 25, path=path
            )

        return SimpleNamespace(save=save)

    def say(self, *given: Any, **more: Any) -> Any:
        return self.make("say", *given, **more)

    def animate(self, *given: Any, **more: Any) -> Any:
        return self.make("animate", *given, **more)

    def dub(self, *given: Any, **more: Any) -> Any:
        return self.make("dub", *given, **more)


def test_each_task_measures_its_own_output_against_the_given_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcribe = lambda pcm: ["a"] if float(pcm[0]) == 0.25 else ["a", "b"]  # noqa: E731
    monkeypatch.setattr(tasks, "recogniser", lambda: SimpleNamespace(transcribe=transcribe))
    monkeypatch.setattr(tasks, "sync_net", lambda: None)
    monkeypatch.setattr(
        tasks, "measure", lambda net, frames, pcm: Sync(round(255 * float(frames.max())), float(pcm[0]))
    )
    pcm, prompt = torch.full((20 * HOP,), 0.5), torch.full((HOP,), -0.5)
    case = Case("7", "Hi.", pcm, ["a", "b"], prompt, np.full((32, 32, 3), 99, np.uint8))
    frames, sampling = np.full((20, 32, 32, 3), 200, np.uint8), Sampling(steps=3)
    talker = Told(20, 0.25)
    names = ("t2av", "a2v", "a2v_no_text", "v2a", "tts")
    rows = list(perform_clip(talker, (case, frames), tmp_path, names, 3, sampling))  # type: ignore[arg-type]
    sound, video, voice, face = (
        tmp_path / f"7-{name}" for name in ("given.wav", "given.mp4", "voice.wav", "face.png")
    )
    assert talker.given == [
        ("say", "Hi.", voice, face, {}, 3, sampling),
        ("animate", sound, face, {"text": "Hi."}, 3, sampling),
        ("animate", sound, face, {}, 3, sampling),
        ("dub", video, "Hi.", voice, {"crop": "none"}, 3, sampling),
        ("say", "Hi.", voice, {"audio_only": True}, 3, sampling),
    ]
    assert [row["task"] for row in rows] == list(names)
    assert [row["offset"] for row in rows] == [0, 0, 0, 200, 0], "the given video, or the generated one"
    assert all(row["confidence"] == 0.25 and row["seconds"] == 0.8 and row["end"] == "stop" for row in rows)
    assert [row.get("per") for row in rows] == [0.5, None, None, 0.5, 0.5]
    assert [row.get("exact") for row in rows] == [None, True, True, True, None]
    assert (rows[0]["edits"], rows[0]["phonemes"]) == (1, 2)
    torch.testing.assert_close(read_audio(sound), pcm, atol=1e-4, rtol=0)
    torch.testing.assert_close(read_audio(voice), prompt, atol=1e-4, rtol=0)
    assert len(list(read_frames(video))) == 20
    short = perform_clip(Told(15, 0.5), (case, frames), tmp_path, ("a2v", "v2a", "tts"))  # type: ignore[arg-type]
    for row, synced in zip(short, (False, True, False), strict=True):
        assert ("offset" in row) == synced, "15 frames are too few for an offset"
        assert row.get("exact", False) is False
        assert row.get("per", 0) == 0


def test_totals_of_each_task_sum_edits_and_count_offsets() -> None:
    rows = [
        *({"task": "a2v", "offset": offset, "exact": True} for offset in (-3, -2, -1, 0, 1, 2)),
        {"task": "v2a", "offset": 0, "exact": False, "edits": 1, "phonemes": 10},
        {"task": "v2a", "offset": 0, "exact": True, "edits": 5, "phonemes": 20},
        {"task": "tts", "edits": 2, "phonemes": 8},
    ]
    figures = task_figures(rows)
    assert figures.pop("v2a_per") == pytest.approx(6 / 30), "summed edits over summed phonemes"
    assert figures == {
        "a2v_share_offset_within_1": 0.5,
        "a2v_share_exact": 1.0,
        "v2a_share_offset_within_1": 1.0,
        "v2a_share_exact": 0.5,
        "tts_per": 0.25,
    }
