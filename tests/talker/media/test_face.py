"""Pictures: every kind is read, the largest face is framed as the corpus frames it, a framed one is kept."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from talker.errors import UserError
from talker.media import face
from talker.media.face import (
    FRAME_TO_BOX,
    Box,
    cut,
    face_square,
    find_faces,
    read_picture,
    read_portrait,
)
from talker.shipped import shipped, shipped_names


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    """A photograph of one person, public domain, that scikit-image's wheel carries."""
    return Image.fromarray(data.astronaut())


def test_the_face_is_found_at_any_size(astronaut: Image.Image) -> None:
    for side in (200, 512, 1500):
        found = find_faces(astronaut.resize((side, side)))[0]
        x, y = (value * 512 / side for value in found.centre)
        assert abs(x - 220) < 15
        assert abs(y - 113) < 15


def test_opencv_is_asked_where_it_imports(astronaut: Image.Image, monkeypatch) -> None:
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
    assert expected.holds(found.centre)
    assert abs(found.side / expected.side - 1) < 0.25


def test_the_crop_has_the_face_in_place(astronaut: Image.Image) -> None:
    crop = cut(astronaut, face_square(astronaut), 256)
    found = find_faces(crop)[0]
    assert crop.size == (256, 256)
    assert abs(found.side * FRAME_TO_BOX / 256 - 1) < 0.15
    assert abs(found.centre[0] - 128) < 20


def test_a_framed_picture_is_kept_to_the_pixel(astronaut: Image.Image) -> None:
    crop = cut(astronaut, face_square(astronaut), 256)
    assert np.array_equal(np.asarray(cut(crop, face_square(crop), 256)), np.asarray(crop))


def test_several_faces_give_the_largest_and_a_warning(astronaut: Image.Image, caplog) -> None:
    person = astronaut.crop((100, 0, 356, 256))
    pair = Image.new("RGB", (700, 400), "grey")
    pair.paste(person, (0, 50))
    pair.paste(person.resize((340, 340)), (340, 30))
    with caplog.at_level(logging.WARNING):
        square = face_square(pair)
    assert square.centre[0] > 340
    assert "2 faces" in caplog.text


def test_no_face_names_the_way_out(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "green").save(tmp_path / "green.png")
    with pytest.raises(UserError, match="--crop none"):
        read_portrait(tmp_path / "green.png", 64)
    portrait = read_portrait(tmp_path / "green.png", 64, crop="none")
    assert portrait.shape == (1, 3, 64, 64)
    assert np.allclose(portrait[0, :, 5, 5], [-1, 128 / 127.5 - 1, -1], atol=1e-6)


def test_a_crop_over_the_edge_repeats_the_border() -> None:
    ramp = Image.fromarray(np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 100, 0).repeat(3, 2))
    inside = np.asarray(cut(ramp, Box(-5, 0, 80), 80))
    assert inside[0, 0, 0] == 0
    assert inside[0, -1, 0] == 79  # slid back by five
    outside = np.asarray(cut(ramp, Box(-40, 0, 100), 100))
    assert (outside[:, :30] == 0).all()
    assert outside[50, 40, 0] == 10
    assert cut(ramp, Box(-300, -300, 700), 64).size == (64, 64)


def test_every_kind_of_picture_shows_the_same(tmp_path: Path, astronaut: Image.Image) -> None:
    person = astronaut.crop((100, 0, 356, 256))
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


def test_transparent_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (np.asarray(read_picture(tmp_path / "clear.png")) == 255).all()


def test_broken_or_hostile_pictures_are_refused_in_one_line(tmp_path: Path, astronaut: Image.Image) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    astronaut.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:20_000])
    (tmp_path / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    bomb = bytearray((tmp_path / "whole.png").read_bytes())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(bomb)
    expected = {
        "missing.png": "does not exist",
        "text.png": "not a picture",
        "empty.png": "not a picture",
        "cut.png": "damaged",
        "program.eps": "not a picture",
        "bomb.png": "",
    }
    for name, words in expected.items():
        with pytest.raises(UserError) as caught:
            read_picture(tmp_path / name)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.long
def test_a_twelve_thousand_pixel_picture_is_read(tmp_path: Path, astronaut: Image.Image) -> None:
    for name in ("large.jpg", "large.png"):
        astronaut.resize((12_000, 12_000), Image.Resampling.NEAREST).save(tmp_path / name, compress_level=1)
        portrait = read_portrait(tmp_path / name, 256)
        expected = cut(astronaut, face_square(astronaut), 256)
        difference = (portrait[0].permute(1, 2, 0).numpy() + 1) * 127.5 - np.asarray(expected)
        assert np.abs(difference).mean() < 20


@pytest.mark.parametrize("name", shipped_names("portraits"))
def test_a_shipped_portrait_comes_through_to_the_pixel(name: str) -> None:
    path = shipped("portraits", name)
    pixels = (read_portrait(path, 256)[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(pixels - np.asarray(Image.open(path))).max() < 0.01


def test_a_shipped_portrait_in_a_larger_picture_is_framed_as_it_was() -> None:
    portrait = Image.open(shipped("portraits", None))
    wide = Image.new("RGB", (900, 600), portrait.getpixel((3, 3)))
    wide.paste(portrait.resize((400, 400)), (250, 200))
    square = face_square(wide)
    assert abs(square.side - 400) < 60
    assert abs(square.left - 250) < 40
    assert abs(square.top - 200) < 40


LONG = (pytest.param(name, marks=pytest.mark.long) for name in ("grass", "gravel", "clock"))


@pytest.mark.parametrize("name", ["brick", *LONG])
def test_what_only_one_look_takes_for_a_face_is_none(name: str) -> None:
    """The cascade guesses a face in each of them."""
    picture = Image.fromarray(getattr(data, name)()).convert("RGB")
    with pytest.raises(UserError, match="--crop none"):
        face_square(picture)
