"""Tables, JSON files and contact sheets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.report import (
    BLUE,
    PAPER,
    TILE,
    contact_sheet,
    curve,
    spectrogram,
    strip,
    table,
    waveform,
    write_json,
)


def test_table_columns_are_aligned_and_missing_values_are_dashes() -> None:
    lines = table([{"clip": 1, "per": 0.12345}, {"clip": 10, "per": math.nan, "end": "stop"}]).splitlines()
    assert lines[0].split() == ["clip", "per", "end"]
    assert lines[1].split() == ["1", "0.123", "-"]
    assert lines[2].split() == ["10", "-", "stop"]
    assert len({len(line) for line in lines}) == 1


def test_json_replaces_nan_and_inf_by_null(tmp_path: Path) -> None:
    write_json({"a": math.nan, "b": [1.5, math.inf], "c": {"d": "ə"}}, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [1.5, None], "c": {"d": "ə"}}


def test_contact_sheet_has_one_band_per_clip() -> None:
    frames, pcm = np.zeros((10, 32, 32, 3), np.uint8), np.zeros(9_600, np.float32)
    one = contact_sheet("title", {"a": (frames, pcm, np.zeros(10, np.float32))})
    two = contact_sheet(
        "title: ə", {"a": (frames, pcm, np.zeros(10, np.float32))} | {"b": (frames, pcm, pcm)}
    )
    assert one.width == two.width
    assert two.height > 1.5 * one.height


def test_strip_shows_evenly_spaced_frames() -> None:
    frames = np.broadcast_to(np.arange(15, dtype=np.uint8)[:, None, None, None], (15, 16, 16, 3))
    picture = np.asarray(strip(np.ascontiguousarray(frames)))
    assert picture.shape == (TILE, 8 * TILE, 3)
    shown = picture.reshape(TILE, 8, TILE, 3)
    assert [int(shown[:, k].min()) for k in range(8)] == list(range(0, 15, 2))
    assert [int(shown[:, k].max()) for k in range(8)] == list(range(0, 15, 2))


def blue_rows(picture: Image.Image, column: int) -> list[int]:
    return np.flatnonzero((np.asarray(picture)[:, column] == BLUE).all(1)).tolist()


def test_curve_rises_from_the_bottom_to_the_top_value() -> None:
    picture = curve(np.linspace(0, 1.2, 121, dtype=np.float32), 121, 42, top=0.6)
    assert max(blue_rows(picture, 0)) >= 40
    assert 18 <= np.mean(blue_rows(picture, 30)) <= 22
    assert min(blue_rows(picture, 60)) <= 1
    assert blue_rows(picture, 60) == blue_rows(picture, 118), "values above the top are drawn at the top"


def test_waveform_covers_minimum_to_maximum_of_each_column() -> None:
    pcm = np.zeros(400, np.float32)
    pcm[40:80], pcm[45], pcm[120] = 0.5, -0.25, 3.0
    picture = waveform(pcm, 10, 80)
    assert blue_rows(picture, 0) == [40]
    assert blue_rows(picture, 1) == list(range(20, 51))
    assert blue_rows(picture, 3) == list(range(41))
    assert (np.asarray(picture)[0, 0] == PAPER).all()


def test_spectrogram_is_dark_at_the_time_and_pitch_of_a_tone() -> None:
    pcm = np.zeros(24_000, np.float32)
    pcm[12_000:] = 0.5 * np.sin(np.arange(12_000) * 2 * np.pi * 6000 / 24_000)
    grey = np.asarray(spectrogram(pcm, 100, 64))[..., 0].astype(int)
    row, column = divmod(int(grey.argmin()), 100)
    assert column > 50
    assert row < 32, "high pitches are at the top"
    assert grey.min() <= 5
    assert grey[:, :45].min() >= 250


def test_contact_sheet_stacks_title_and_bands() -> None:
    frames, pcm = np.full((9, 32, 32, 3), 7, np.uint8), np.zeros(9_600, np.float32)
    opening = np.full(9, 0.6, np.float32)
    sheet = contact_sheet("t", {"a": (frames, pcm, opening)})
    assert sheet.size == (8 * TILE, 18 + 18 + TILE + 96 + 48 + 40)
    shown = np.asarray(sheet)
    assert (shown[36 : 36 + TILE] == 7).all()
    assert blue_rows(sheet, 500)[0] == 36 + TILE + 96 + 24, "silence is in the middle of the waveform"
    assert blue_rows(sheet, 500)[1] - 36 - TILE - 96 - 48 <= 1
    assert (shown[:36] != PAPER).any()
