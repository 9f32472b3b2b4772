"""Pasting a face: its place in every orientation, shape of pixels and format, and the bits around it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import ORIENTATIONS, person, write_hdr, write_video
from PIL import Image

from talker.media.display import display_matrix, displayed, oriented, pixel_aspect
from talker.media.face import Box, crop_square
from talker.media.paste import FULL_RANGE, LOWER_FACE, copied, paste, planes_of

SIZE = 64
MASK = LOWER_FACE.draw(SIZE)


def first_frame(path: Path) -> tuple[av.VideoFrame, Fraction | None]:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)), pixel_aspect(container.streams.video[0])


def scene(width: int = 200, height: int = 150) -> np.ndarray:
    picture = np.asarray(Image.fromarray(person(256)).resize((width, height), Image.Resampling.LANCZOS))
    return np.ascontiguousarray(picture)


def cropped(
    frame: av.VideoFrame, square: Box, aspect: Fraction | None, like: av.VideoFrame | None = None
) -> np.ndarray:
    """The displayed square of a frame. A pasted frame has no display matrix: that of `like` is used."""
    pixels = displayed(frame, aspect)
    pixels = pixels if like is None else np.ascontiguousarray(oriented(pixels, display_matrix(like)))
    return np.asarray(crop_square(Image.fromarray(pixels), square, SIZE))


CASES = [
    *({"matrix": matrix} for matrix in ORIENTATIONS),
    {"aspect": Fraction(4, 3)},
    {"aspect": Fraction(2, 3), "matrix": list(ORIENTATIONS)[5]},
    {"codec": "prores"},
    {"codec": "mjpeg"},
]


@pytest.mark.parametrize("how", CASES, ids=lambda how: "-".join(str(value)[:22] for value in how.values()))
@pytest.mark.parametrize("square", [Box(40.3, 30.7, 71.5), Box(-5, 60, 90)])
def test_a_face_is_pasted_where_it_was_cropped(tmp_path: Path, how: dict, square: Box) -> None:
    suffix = ".mov" if how.get("codec") == "prores" else ".mkv"
    path = write_video(tmp_path / f"a{suffix}", [scene()] * 2, **({"options": {"crf": "4"}} | how))
    frame, aspect = first_frame(path)
    before = cropped(frame, square, aspect)
    # A marked face: a bright and a dark spot show the place and the orientation.
    face = before.copy()
    face[40:46, 22:30], face[44:50, 36:42] = 255, 0
    after = cropped(paste(frame, face, square, MASK, aspect), square, aspect, frame)
    inside = MASK > 0.99
    wanted = np.abs(face.astype(int) - before)[inside].mean()
    assert wanted > 5
    assert np.abs(after.astype(int) - face)[inside].mean() < 0.45 * wanted
    unchanged = cropped(paste(frame, before, square, MASK, aspect), square, aspect, frame)
    assert np.abs(unchanged.astype(int) - before).mean() < 2.5


@pytest.mark.parametrize("width", [200, 201])
def test_samples_outside_of_the_mask_keep_their_bits(tmp_path: Path, width: int) -> None:
    codec = {"codec": "ffv1"} if width % 2 else {}
    path = write_video(tmp_path / "a.mkv", [scene(width, 151 if width % 2 else 150)] * 2, **codec)
    frame, aspect = first_frame(path)
    square = Box(50.4, 40.2, 80.0)
    made = paste(frame, np.full((SIZE, SIZE, 3), 200, np.uint8), square, MASK, aspect)
    x, y = (np.arange(plane) for plane in (frame.width, frame.height))
    for before, after in zip(planes_of(copied(frame)), planes_of(made), strict=True):
        step_x, step_y = -(-frame.width // before.shape[1]), -(-frame.height // before.shape[0])
        xs, ys = (x[::step_x] + step_x / 2 - 50.4) / 80, (y[::step_y] + step_y / 2 - 40.2) / 80
        away = np.hypot((xs[None] - 0.5) / 0.25, (ys[:, None] - 0.69) / 0.22)
        dilated = away < 1 + 4 * 2 / 80 / 0.22
        assert np.array_equal(before[~dilated], after[~dilated])
        assert (before != after)[away < 0.5].mean() > 0.5
    assert (made.pts, made.time_base, made.colorspace) == (frame.pts, frame.time_base, frame.colorspace)


def test_the_colour_of_the_face_follows_the_frame(tmp_path: Path) -> None:
    frame, aspect = first_frame(write_video(tmp_path / "a.mkv", [scene()] * 2))
    square = Box(50, 40, 80)
    before = cropped(frame, square, aspect).astype(int)
    tinted = (before * [0.7, 1.0, 0.9] + [5, -10, 25]).clip(0, 255).astype(np.uint8)
    after = cropped(paste(frame, tinted, square, MASK, aspect), square, aspect)
    inside = MASK > 0.5
    assert np.abs(tinted - before)[inside].mean() > 15
    assert np.abs((after - before)[inside].mean(0)).max() < 6


def test_a_face_without_an_edge_has_the_mean_colour_of_the_frame(tmp_path: Path) -> None:
    grey = np.full((64, 64, 3), 90, np.uint8)
    frame, aspect = first_frame(write_video(tmp_path / "a.mkv", [grey] * 2))
    face = np.full((SIZE, SIZE, 3), 250, np.uint8)
    made = paste(frame, face, Box(8, 8, 32), np.ones((SIZE, SIZE), np.float32), aspect)
    assert np.abs(displayed(made, aspect).astype(int) - 90).max() <= 3
    faint = paste(frame, face, Box(8, 8, 32), np.full((SIZE, SIZE), 0.9 / 255, np.float32), aspect)
    assert all(map(np.array_equal, planes_of(faint), planes_of(frame)))


def test_frames_that_are_not_yuv_are_converted(tmp_path: Path) -> None:
    frame, aspect = first_frame(write_video(tmp_path / "a.mkv", [scene()] * 2))
    face = cropped(frame, Box(50, 40, 80), aspect)
    for name, expected in (("rgb24", "yuv420p"), ("nv12", "yuv420p"), ("yuvj444p", "yuv444p")):
        assert paste(frame.reformat(format=name), face, Box(50, 40, 80), MASK, aspect).format.name == expected
    full = frame.reformat(format="yuvj444p")
    full.color_range, full.duration = 0, 3  # the name says it
    made = copied(full)
    assert (made.color_range, made.duration) == (FULL_RANGE, 3)


def test_an_hdr_frame_keeps_its_light(tmp_path: Path) -> None:
    path = write_hdr(tmp_path / "a.mkv", scene(), 16, 203.0, count=2)
    frame, aspect = first_frame(path)
    square = Box(50, 40, 80)
    made = paste(frame, cropped(frame, square, aspect), square, MASK, aspect)
    assert made.format.name == "yuv420p10le"
    assert (made.color_trc, made.color_primaries) == (frame.color_trc, frame.color_primaries)
    for before, after in zip(planes_of(frame), planes_of(made), strict=True):
        changed = before != after
        assert changed.any()
        assert np.abs(before.astype(int) - after)[changed].mean() < 40  # of 1023
