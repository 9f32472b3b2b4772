"""Tables, JSON files and contact sheets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from evaluation.report import contact_sheet, table, write_json


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
