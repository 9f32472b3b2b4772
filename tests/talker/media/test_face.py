"""Portraits: every picture format is read, and the largest face is framed as in the training data."""

from __future__ import annotations

import logging
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from talker.errors import UserError
from talker.media import face, pictures
from talker.media.face import (
    FRAME_TO_BOX,
    Box,
    crop_square,
    face_square,
    find_faces,
    read_picture,
    read_portrait,
    upright_face,
)
from talker.media.pixels import to_uint8
from talker.shipped import shipped, shipped_names


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    """A photograph of one person from scikit-image, in the public domain: (256, 256)."""
    return Image.fromarray(data.astronaut()).resize((256, 256))


@pytest.fixture(scope="module")
def framed(astronaut: Image.Image) -> Image.Image:
    """The astronaut's face, framed: (256, 256)."""
    return crop_square(astronaut, face_square(astronaut), 256)


@pytest.mark.parametrize("side", [160, 256, 900])
def test_face_is_found_at_any_size(astronaut: Image.Image, side: int) -> None:
    found = find_faces(astronaut.resize((side, side)))[0]
    x, y = (value * 512 / side for value in found.centre)
    assert abs(x - 220) < 15
    assert abs(y - 113) < 15


def test_opencv_is_used_if_it_can_be_imported(astronaut: Image.Image, monkeypatch) -> None:
    monkeypatch.setattr(face, "_detect", lambda *_: [])
    monkeypatch.setitem(sys.modules, "cv2", None)
    face._opencv_cascade.cache_clear()
    assert find_faces(astronaut) == []
    monkeypatch.undo()
    face._opencv_cascade.cache_clear()
    pytest.importorskip("cv2", exc_type=ImportError)
    expected = find_faces(astronaut)[0]
    monkeypatch.setattr(face, "_detect", lambda *_: [])
    found = find_faces(astronaut)[0]
    assert expected.contains(found.centre)
    assert abs(found.side / expected.side - 1) < 0.25


def test_crop_has_the_face_in_its_place(framed: Image.Image) -> None:
    found = find_faces(framed)[0]
    assert framed.size == (256, 256)
    assert abs(found.side * FRAME_TO_BOX / 256 - 1) < 0.15
    assert abs(found.centre[0] - 128) < 20


def test_framed_picture_is_kept_to_the_pixel(framed: Image.Image) -> None:
    again = crop_square(framed, face_square(framed), 256)
    assert np.array_equal(np.asarray(again), np.asarray(framed))


def test_several_faces_select_the_largest_with_a_warning(astronaut: Image.Image, caplog) -> None:
    person = Image.fromarray(data.astronaut()).crop((100, 0, 356, 256))
    pair = Image.new("RGB", (700, 400), "grey")
    pair.paste(person, (0, 50))
    pair.paste(person.resize((340, 340)), (340, 30))
    with caplog.at_level(logging.WARNING):
        square = face_square(pair)
    assert square.centre[0] > 340
    assert "2 faces" in caplog.text


def test_small_faces_in_the_background_are_no_warning(
    astronaut: Image.Image, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side, warned in ((59, False), (61, True)):
        found = [Box(0, 0, 100), Box(150, 0, side), Box(200, 0, 20)]
        monkeypatch.setattr(face, "find_faces", lambda _, found=found: found)
        assert face_square(astronaut, "a.png") == face.framed(found[0])
        assert (
            caplog.messages
            == ["a.png shows 2 faces, and the largest is used: crop the picture to choose another"] * warned
        )


def test_error_without_a_face_names_the_option(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "green").save(tmp_path / "green.png")
    with pytest.raises(UserError, match="--crop none"):
        read_portrait(tmp_path / "green.png", 64)
    portrait, framing = read_portrait(tmp_path / "green.png", 64, crop="none")
    assert portrait.shape == (1, 3, 64, 64)
    assert framing == Box(15, 0, 60)
    assert np.allclose(portrait[0, :, 5, 5], [-1, 128 / 127.5 - 1, -1], atol=1e-6)


def test_crop_beyond_the_edge_repeats_the_border() -> None:
    ramp = Image.fromarray(np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 100, 0).repeat(3, 2))
    inside = np.asarray(crop_square(ramp, Box(-5, 0, 80), 80))
    assert inside[0, 0, 0] == 0
    assert inside[0, -1, 0] == 79  # moved inwards by five pixels
    wide = ramp.transpose(Image.Transpose.TRANSPOSE).resize((200, 100))
    moved = np.asarray(crop_square(wide, Box(60, 25, 80), 80))  # beyond the lower edge by five pixels
    assert (moved[0, 0, 0], moved[-1, 0, 0]) == (20, 99)
    outside = np.asarray(crop_square(ramp, Box(-40, 0, 100), 100))
    assert (outside[:, :30] == 0).all()
    assert outside[50, 40, 0] == 10
    assert crop_square(ramp, Box(-300, -300, 700), 64).size == (64, 64)


def test_every_picture_format_gives_the_same_pixels(tmp_path: Path, astronaut: Image.Image) -> None:
    person = astronaut.crop((50, 0, 178, 128))
    grey = person.convert("L")
    alpha = person.convert("RGBA")
    alpha.putalpha(Image.new("L", person.size, 255))
    turned = Image.Exif()
    turned[0x0112] = 6
    person.save(tmp_path / "a.webp", quality=95)
    person.save(tmp_path / "a.jpg", quality=95)
    person.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    person.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", quality=95, exif=turned)
    alpha.save(tmp_path / "rgba.png")
    person.quantize(256).save(tmp_path / "palette.png")
    for path in sorted(tmp_path.iterdir()):
        picture = read_picture(path)
        assert picture.mode == "RGB"
        assert picture.size == person.size
        assert np.abs(np.asarray(picture, float) - np.asarray(person)).mean() < 8, path.name
    grey.save(tmp_path / "grey.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    for name in ("grey.png", "sixteen.png"):
        assert np.array_equal(np.asarray(read_picture(tmp_path / name))[..., 1], np.asarray(grey))


@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_of_a_photograph_is_shown_upright(tmp_path: Path, value: int) -> None:
    """EXIF: 1 is upright; even values from 2 on are mirrored; 6 has its top on the right side."""
    corners = np.zeros((16, 24, 3), np.uint8)
    corners[:4, :4], corners[:4, -4:], corners[-4:, :4] = 255, (255, 0, 0), (0, 255, 0)
    stored = {
        1: corners, 2: corners[:, ::-1], 3: corners[::-1, ::-1], 4: corners[::-1],
        5: corners.swapaxes(0, 1), 6: np.rot90(corners), 7: np.rot90(corners, 2).swapaxes(0, 1),
        8: np.rot90(corners, 3),
    }[value]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.png")), corners)


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (np.asarray(read_picture(tmp_path / "clear.png")) == 255).all()
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.paste(1, (0, 0, 40, 10))
    palette.save(tmp_path / "palette.png", transparency=0)
    read = np.asarray(read_picture(tmp_path / "palette.png"))
    assert (read[0, 0].tolist(), read[-1, 0].tolist()) == ([0, 200, 0], [255] * 3)


def with_size(png: bytes, width: int, height: int) -> bytes:
    """A PNG file whose header claims another size, with a valid checksum."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


def test_damaged_and_hostile_pictures_raise_an_error_of_one_line(
    tmp_path: Path, astronaut: Image.Image
) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    astronaut.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:20_000])
    (tmp_path / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    whole = (tmp_path / "whole.png").read_bytes()
    for name, size in (("bomb", (60_000, 60_000)), ("large", (8001, 8001)), ("phone", (8192, 6144))):
        (tmp_path / f"{name}.png").write_bytes(with_size(whole, *size))
    expected = {
        "missing.png": "does not exist",
        "text.png": "not a picture",
        "empty.png": "not a picture",
        "cut.png": "damaged",
        "program.eps": "not a picture",
        "bomb.png": "too many pixels: scale it to 8000 x 8000",
        "large.png": "too many pixels: scale it to 8000 x 8000",
        "phone.png": "damaged",  # not too large: the pixels are missing
    }
    for name, words in expected.items():
        with pytest.raises(UserError) as caught:
            read_picture(tmp_path / name)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_limit_counts_the_pixels_that_are_decoded(
    tmp_path: Path, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JPEG is decoded at a fraction of its size, unless it is progressive."""
    monkeypatch.setattr(pictures, "WORKING_SIDE", 64)
    astronaut.save(tmp_path / "a.jpg")
    astronaut.save(tmp_path / "progressive.jpg", progressive=True)
    astronaut.save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.jpg", max_pixels=64 * 64).size == (64, 64)
    for name in ("progressive.jpg", "a.png"):
        assert read_picture(tmp_path / name, max_pixels=256 * 256).size == (64, 64)
        with pytest.raises(UserError, match="too many pixels: scale it to 255 x 255"):
            read_picture(tmp_path / name, max_pixels=256 * 256 - 1)
    for side, reduced in ((127, (127, 20)), (128, (64, 10)), (300, (75, 5))):  # the longer side counts
        Image.new("RGB", (side, 20)).save(tmp_path / "wide.png")
        assert read_picture(tmp_path / "wide.png").size == reduced


@pytest.mark.long
@pytest.mark.parametrize(("name", "side"), [("a.jpg", 12_000), ("b.jpg", 7000), ("b.png", 7000)])
def test_large_photographs_are_read(
    tmp_path: Path, astronaut: Image.Image, framed: Image.Image, name: str, side: int
) -> None:
    astronaut.resize((side, side), Image.Resampling.NEAREST).save(tmp_path / name, compress_level=1)
    difference = bytes_of(read_portrait(tmp_path / name, 256)[0]).astype(float) - np.asarray(framed)
    assert np.abs(difference).mean() < 20


def bytes_of(portrait: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] -> (H, W, 3) uint8."""
    return to_uint8(portrait)[0].permute(1, 2, 0).numpy()


FIRST, *OTHERS = shipped_names("portraits")


@pytest.mark.parametrize("name", [FIRST, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)])
def test_shipped_portrait_is_kept_to_the_pixel(name: str) -> None:
    path = shipped("portraits", name)
    assert np.array_equal(bytes_of(read_portrait(path, 256)[0]), np.asarray(Image.open(path)))


def test_shipped_portrait_inside_a_larger_picture_is_found() -> None:
    portrait = Image.open(shipped("portraits", None))
    wide = Image.new("RGB", (900, 600), portrait.getpixel((3, 3)))
    wide.paste(portrait.resize((400, 400)), (250, 200))
    square = face_square(wide)
    assert abs(square.side - 400) < 60
    assert abs(square.left - 250) < 40
    assert abs(square.top - 200) < 40


def test_sideways_picture_is_turned(astronaut: Image.Image, caplog) -> None:
    person = astronaut.crop((50, 0, 178, 128))
    turned = person.transpose(Image.Transpose.ROTATE_90)
    with caplog.at_level(logging.WARNING):
        upright, square = upright_face(turned, "a.png")
    assert np.array_equal(np.asarray(upright), np.asarray(person))
    assert square == face_square(person)
    assert caplog.messages == ["the face in a.png is not upright: the picture was turned"]


@pytest.mark.parametrize(
    ("upright", "turned", "turn"),
    [
        (None, (48, 32, 24), 1),
        (None, (24, 48, 32), 3),
        (None, (24, 32, 48), 2),
        (None, (0, 16, 0), 0),
        (16, (24, 24, 24), 0),
        (16, (24, 32, 32), 3),
    ],
)
def test_a_picture_is_turned_to_the_clearest_face(
    monkeypatch: pytest.MonkeyPatch, upright: int | None, turned: tuple[int, ...], turn: int
) -> None:
    """The clearest face is in the picture itself or after 1, 3 or 2 quarter turns."""
    clarities = iter((upright or 0, *turned))
    monkeypatch.setattr(face, "find_faces", lambda _: [] if upright is None else [Box(0, 0, 9)])
    monkeypatch.setattr(face, "_windows_agree", lambda *_: False)
    monkeypatch.setattr(face, "_clarity", lambda *_: next(clarities))
    assert face.find_upright_faces(Image.new("RGB", (9, 9)))[0] == turn


@pytest.mark.long
@pytest.mark.parametrize("turn", ["upright", "ROTATE_90", "ROTATE_180", "ROTATE_270"])
@pytest.mark.parametrize("name", ["astronaut", *shipped_names("portraits"), "small"])
def test_face_is_found_in_every_position(name: str, turn: str) -> None:
    if name == "astronaut":
        picture = Image.fromarray(data.astronaut())
    else:
        portrait = Image.open(shipped("portraits", FIRST if name == "small" else name)).convert("RGB")
        picture = portrait
        if name == "small":
            picture = Image.new("RGB", (600, 800), portrait.getpixel((3, 3)))
            picture.paste(portrait.resize((400, 400)), (120, 100))
    turned = picture if turn == "upright" else picture.transpose(Image.Transpose[turn])
    upright, square = upright_face(turned)
    assert np.array_equal(np.asarray(upright), np.asarray(picture))
    assert square == face_square(picture)


@pytest.mark.long
def test_case_of_a_sideways_portrait_is_framed_upright(shared: Path) -> None:
    portrait, framing = read_portrait(shared / "cases/sideways.png", 256)
    (found, *_) = find_faces(Image.fromarray(bytes_of(portrait)))
    assert abs(found.centre[0] - 128) < 20
    assert abs(found.side * FRAME_TO_BOX / 256 - 1) < 0.15
    assert abs(framing.side - 373) < 40


TEXTURES = {"brick": (256, 0), "grass": (0, 0), "gravel": (256, 256), "clock": (0, 0)}


@pytest.mark.parametrize("name", TEXTURES)
def test_candidates_that_no_close_up_confirms_are_dropped(name: str) -> None:
    """The cascade finds a candidate in each of these textures."""
    left, top = TEXTURES[name]
    picture = Image.fromarray(getattr(data, name)()).convert("RGB").crop((left, top, left + 256, top + 256))
    with pytest.raises(UserError, match="--crop none"):
        face_square(picture)


def test_only_a_crop_close_to_the_whole_picture_is_framed() -> None:
    assert face.framed(face.Box(0, 0, 200)) == face.Box(-87, -92, 374)
    assert face.is_framed(face.Box(10, -10, 90), 100, 100)
    for square in (face.Box(0, 0, 30), face.Box(-30, 0, 100), face.Box(0, -30, 100), face.Box(0, 0, 130)):
        assert not face.is_framed(square, 100, 100)
    assert not face.is_framed(face.Box(0, 0, 100), 100, 101)
