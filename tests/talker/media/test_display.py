"""Frames as a viewer sees them: orientation, shape of the pixels, colour."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import LAST, ORIENTATIONS, person, write_hdr, write_video

from talker.errors import UserError
from talker.media.display import (
    BT2020_TO_BT709,
    HLG,
    KNEE,
    PQ,
    _light,
    display_matrix,
    displayed,
    orientation,
    oriented,
    reference_white,
    square_size,
)
from talker.media.readers import VideoReader
from talker.media.remux import DubWriter, check_dub

WIDE = person(96)[:64]  # (64, 96, 3)


def first_frame(path: Path) -> np.ndarray:
    return next(iter(VideoReader(path)))


def dubbed(video: Path, path: Path) -> Path:
    """The video with a silent track, its packets copied."""
    with DubWriter(path, video, Fraction(0)) as writer:
        writer.write(np.zeros(960, np.float32), np.zeros(0))
    return path


@pytest.mark.parametrize(
    "matrix", ORIENTATIONS, ids=lambda matrix: "".join(str(int(np.sign(v))) for v in matrix[:5])
)
def test_every_orientation_is_shown_and_copied(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    path = write_video(tmp_path / "a.mp4", [WIDE] * 3, matrix=matrix)
    expected = ORIENTATIONS[matrix](WIDE)
    for shown in (path, dubbed(path, tmp_path / "b.mp4"), dubbed(path, tmp_path / "c.mkv")):
        pixels = first_frame(shown)
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(float) - expected).mean() < 8


def test_any_angle_is_rounded_to_a_quarter_turn() -> None:
    for quarter, turn in enumerate((0, 90, 180, 270)):
        for angle in (turn - 40, turn, turn + 40):
            cos, sin = (round(65536 * f(math.radians(angle))) for f in (math.cos, math.sin))
            pixels = oriented(WIDE, (cos, sin, 0, -sin, cos, *LAST))
            assert np.array_equal(pixels, np.rot90(WIDE, -quarter))
            mirrored = oriented(WIDE, (-cos, sin, 0, sin, cos, *LAST))
            assert np.array_equal(mirrored, np.fliplr(np.rot90(WIDE, -quarter)))
    assert orientation((0,) * 9) == orientation(None) == (False, False, False)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(2), (192, 64)),
        (Fraction(1, 2), (96, 128)),
        (Fraction(64, 45), (137, 64)),
        (Fraction(8, 9), (96, 72)),
        (Fraction(4), (384, 64)),
        (Fraction(1, 4), (96, 256)),
        (Fraction(1001, 1000), (96, 64)),
        (Fraction(1000), (96, 64)),
        (Fraction(1, 1000), (96, 64)),
        (None, (96, 64)),
    ],
)
def test_pixels_become_square_and_the_copy_keeps_their_shape(
    tmp_path: Path, aspect: Fraction | None, size: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "a.mp4", [WIDE] * 3, aspect=aspect)
    for shown in (path, dubbed(path, tmp_path / "b.mp4")):
        pixels = first_frame(shown)
        assert pixels.shape[1::-1] == size
        assert np.abs(pixels.mean((0, 1)) - WIDE.mean((0, 1))).max() < 3


@pytest.mark.parametrize(
    ("ratio", "width"), [((0, 1), 192), ((1, 0), 192), ((1000, 1), 192), ((4, 3), 128), ((1, 1), 96)]
)
def test_ratio_of_the_container_precedes_that_of_the_codec_if_possible(
    tmp_path: Path, ratio: tuple[int, int], width: int
) -> None:
    path = write_video(tmp_path / "a.mp4", [WIDE] * 3, aspect=Fraction(2))
    data = bytearray(path.read_bytes())
    at = data.index(b"pasp") + 4
    data[at : at + 8] = struct.pack(">2I", *ratio)
    path.write_bytes(data)
    for shown in (path, dubbed(path, tmp_path / "b.mp4")):
        assert first_frame(shown).shape == (64, width, 3)


def test_container_that_would_lose_the_shape_of_the_pixels_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [WIDE] * 3, aspect=Fraction(2), codec="libvpx-vp9")
    with pytest.raises(UserError, match=r"cannot be copied to \.mkv.*name the output b\.mp4"):
        check_dub(tmp_path / "b.mkv", path)


def test_a_ratio_that_is_one_but_for_rounding_changes_no_size() -> None:
    for ratio, width in ((Fraction(1001, 1000), 1920), (Fraction(99, 98), 1940), (None, 1920)):
        assert square_size(1920, 1080, ratio) == (width, 1080)
    assert square_size(1920, 1080, Fraction(98, 99)) == (1920, 1091)


def test_turned_frames_have_square_pixels(tmp_path: Path) -> None:
    matrix = next(matrix for matrix in ORIENTATIONS if matrix[0] == 0)
    path = write_video(tmp_path / "a.mp4", [WIDE] * 3, matrix=matrix, aspect=Fraction(2))
    assert first_frame(path).shape == (192, 64, 3)


def test_limit_counts_square_pixels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [WIDE] * 3, aspect=Fraction(2))
    assert len(list(VideoReader(path, max_pixels=192 * 64))) == 3
    with pytest.raises(UserError, match="192 x 64 pixels"):
        list(VideoReader(path, max_pixels=192 * 64 - 1))


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 100), (PQ, 203), (PQ, 150), (HLG, 100), (HLG, 203)])
def test_hdr_has_the_brightness_and_colour_of_the_same_picture_in_sdr(
    tmp_path: Path, transfer: int, white: int
) -> None:
    picture = person(96).copy()
    picture[:, -4:] = 255
    pixels = first_frame(write_hdr(tmp_path / "a.mp4", picture, transfer, white)).astype(float)
    assert np.abs(pixels.mean((0, 1)) - picture.mean((0, 1))).max() < 6
    middle = picture.max(-1) < 255 * KNEE ** (1 / 2.4)  # the curve compresses only lighter pixels
    assert np.abs(pixels - picture)[middle].mean() < 6  # 8 bits, and colour at half the resolution


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_without_other_tags_is_bt2020(transfer: int) -> None:
    frame = av.VideoFrame.from_ndarray(person(64).astype(np.uint16) * 200, format="rgb48le")
    frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
    frame.color_trc = transfer
    shown = []
    for primaries, coefficients in ((9, 9), (2, 9), (9, 2), (1, 9), (9, 1)):
        frame.color_primaries, frame.colorspace = primaries, coefficients
        shown.append(displayed(frame, None))
    assert [np.array_equal(one, shown[0]) for one in shown] == [True, True, True, False, False]


def test_white_of_a_coloured_picture_is_its_largest_component() -> None:
    level = round(65535 * np.interp(203, _light(axis := np.linspace(0, 1, 1000), PQ), axis))
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), (level, level, 0), np.uint16), format="rgb48le")
    frame.color_trc = PQ
    assert reference_white([frame]) == pytest.approx(203, rel=0.05)


def test_hdr_highlights_are_compressed_in_order_and_keep_their_hue() -> None:
    """A ramp of orange from 0 to 10,000 cd/m2."""
    signal = np.zeros((8, 512, 3), np.uint16)
    signal[..., 0], signal[..., 1] = np.linspace(0, 65535, 512), np.linspace(0, 62000, 512)
    frame = av.VideoFrame.from_ndarray(signal, format="rgb48le")
    frame.color_trc, frame.color_primaries = PQ, 1
    shown = displayed(frame, None)[0].astype(int)
    assert (np.diff(shown[:, 0]) >= 0).all()
    assert shown[0].tolist() == [0, 0, 0]
    assert 250 < shown[-1, 0] <= 255
    ratio = _light(signal[0] / 65535, PQ)
    for column in (250, 350, 450):
        expected = ratio[column, 1] / ratio[column, 0]
        assert (shown[column, 1] / shown[column, 0]) ** 2.4 == pytest.approx(expected, abs=0.06)


def test_white_and_grey_stay_neutral_between_the_primaries() -> None:
    assert np.abs(BT2020_TO_BT709.sum(1) - 1).max() < 2e-3


@pytest.mark.parametrize(
    ("width", "height", "tagged", "coefficients"),
    [(1280, 720, 2, 1), (96, 720, 2, 1), (96, 718, 2, 5), (1280, 720, 5, 5), (96, 64, 1, 1), (96, 64, 5, 5)],
)
def test_untagged_video_is_bt709_from_720_lines(
    width: int, height: int, tagged: int, coefficients: int
) -> None:
    colour = np.broadcast_to(np.array([200, 60, 40], np.uint8), (height, width, 3))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(colour), format="rgb24")
    frame = frame.reformat(format="yuv444p", dst_colorspace=coefficients)
    frame.colorspace = tagged
    assert np.abs(displayed(frame, None).astype(int) - colour).max() <= 3


@pytest.mark.parametrize("tagged", [1, 2])
def test_tagged_value_range_is_used(tagged: int) -> None:
    """Luma 16 is black in limited range (1), and dark grey in full range (2)."""
    frame = av.VideoFrame.from_ndarray(np.full((96, 64), 128, np.uint8), format="yuv420p")
    frame.planes[0].update(bytes([16]) * frame.planes[0].buffer_size)
    frame.color_range = tagged
    assert np.abs(displayed(frame, None).astype(int) - (0 if tagged == 1 else 16)).max() <= 1


def test_a_frame_without_a_display_matrix_is_not_rotated() -> None:
    assert display_matrix(av.VideoFrame.from_ndarray(WIDE, format="rgb24")) is None
