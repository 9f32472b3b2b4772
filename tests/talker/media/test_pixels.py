"""Pixels as bytes and as floats: exact round trips, and the same bits as the usual formulas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from talker.media.pixels import from_uint8, to_uint8

BYTES = torch.arange(256, dtype=torch.uint8)


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_bytes_survive_a_round_trip(low: float) -> None:
    pixels = from_uint8(BYTES, low)
    assert (pixels[0], pixels[255], pixels.dtype) == (low, 1.0, torch.float32)
    assert torch.equal(to_uint8(pixels, low), BYTES)
    assert torch.equal(to_uint8(pixels.half(), low), BYTES)


def test_floats_have_the_bits_of_the_usual_formulas() -> None:
    grey = np.arange(256, dtype=np.uint8)
    assert np.array_equal(from_uint8(BYTES).numpy(), grey.astype(np.float32) / 127.5 - 1)
    assert np.array_equal(from_uint8(BYTES, low=0).numpy(), grey.astype(np.float32) / 255)
    assert torch.equal(from_uint8(BYTES), 2 * from_uint8(BYTES, low=0) - 1)


def test_bytes_are_rounded_and_clamped() -> None:
    pixels = torch.rand(10_000) * 2 - 1
    assert torch.equal(to_uint8(pixels), ((pixels + 1) * 127.5).round().byte())
    assert torch.equal(to_uint8(pixels), to_uint8((pixels + 1) / 2, low=0))
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_conversions_keep_their_argument() -> None:
    pixels = torch.tensor([-1.0, 0.5])
    to_uint8(pixels)
    to_uint8(pixels, low=0)
    assert pixels.tolist() == [-1.0, 0.5]


def test_import_loads_no_media_library() -> None:
    code = (
        "import sys, types; torch = types.ModuleType('torch'); torch.Tensor = object; "
        "sys.modules['torch'] = torch; import talker.media.pixels, talker.media.files; "
        "sys.exit(any(name in sys.modules for name in ('av', 'PIL', 'skimage')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
