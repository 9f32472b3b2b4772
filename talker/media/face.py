"""From any picture a user has to the square the renderer was trained on."""

from __future__ import annotations

import functools
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image
from skimage import data
from skimage.feature import Cascade
from torch import Tensor

from talker.errors import UserError
from talker.media.audio import readable

log = logging.getLogger(__name__)

# None of them runs another program, as PostScript does.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "PPM")
MOST_PIXELS = 170_000_000  # 12,000 x 12,000 and some; decoded it is half a gigabyte
WORKING_SIDE = 3072  # longer pictures are reduced to this as they are read
SEARCH_SIDE = 400  # the detector looks at a picture of this size
LOOK_SIDE = 160  # and then, closely, at the face alone
CLOSENESS = (2.2, 2.5, 2.8)  # as many times, at pictures so many faces wide
SMALLEST_FACE = 0.06  # of the longer side
# Where the corpus's frames have the cascade's box: side of the frame / side of the box, and the centre of the
# frame relative to the centre of the box, in box sides (down is positive).
FRAME_TO_BOX = 1.87
FRAME_BELOW_BOX = -0.025
HAAR_TO_LBP = 1.16  # how much larger OpenCV draws its box
# A crop this close to a square picture means that the picture is framed already.
FRAMED = 0.25
ORIENTATION = ExifTags.Base.Orientation
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Box:
    """A square in pixels: left, top, side."""

    left: float
    top: float
    side: float

    @property
    def centre(self) -> tuple[float, float]:
        return self.left + self.side / 2, self.top + self.side / 2

    def holds(self, point: tuple[float, float]) -> bool:
        """Whether a point is inside."""
        return 0 <= point[0] - self.left <= self.side and 0 <= point[1] - self.top <= self.side


def read_portrait(path: str | Path, size: int, crop: str = "face") -> Tensor:
    """A picture file as the renderer's input (1, 3, size, size) float32 in [-1, 1].

    Args:
        crop: "face" finds the face and frames it as the corpus does; "none" takes the largest centred square.

    Raises:
        UserError: missing, not a picture, too large, or without a face that can be found.
    """
    picture = read_picture(path)
    square = face_square(picture, str(path)) if crop == "face" else centre_square(picture)
    return to_tensor(cut(picture, square, size))


def read_picture(path: str | Path) -> Image.Image:
    """An upright 8-bit RGB picture, at most 3072 pixels long; transparency becomes white.

    Raises:
        UserError: missing, not a picture, damaged, or of more than 170 megapixels.
    """
    path = readable(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MOST_PIXELS decides
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                picture.draft("RGB", (WORKING_SIDE, WORKING_SIDE))
                turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
                upright = _on_white(_reduced(_eight_bits(picture)))
                return upright if turn is None else upright.transpose(turn)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has too many pixels: scale it to 12,000 a side or less") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture that can be read: give a PNG, JPEG or WebP file") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged ({error}): save it again as PNG or JPEG") from error


def face_square(picture: Image.Image, name: str = "the picture") -> Box:
    """Where to cut so that the largest face sits as in the corpus; a picture framed like that is kept whole.

    Raises:
        UserError: no face is found.
    """
    faces = find_faces(picture)
    if not faces:
        raise UserError(
            f"no face is found in {name}: give a frontal, well lit face, or --crop none to use it as it is"
        )
    face = faces[0]
    several = sum(other.side > 0.6 * face.side for other in faces)
    if several > 1:
        log.warning(
            "%s shows %d faces: the largest is used; crop the picture to choose another", name, several
        )
    square = framed(face)
    return Box(0, 0, picture.width) if is_framed(square, *picture.size) else square


def framed(face: Box) -> Box:
    """Where to cut so that a face, as the detector draws it, sits as in the corpus."""
    side = face.side * FRAME_TO_BOX
    x, y = face.centre
    return Box(x - side / 2, y + FRAME_BELOW_BOX * face.side - side / 2, side)


def is_framed(square: Box, width: int, height: int) -> bool:
    """Whether a picture of that size is so close to where it would be cut that it is better kept whole."""
    differences = (square.left, square.top, square.side - width)
    return width == height and max(map(abs, differences)) < FRAMED * width


def centre_square(picture: Image.Image) -> Box:
    """The largest square in the middle."""
    side = min(picture.size)
    return Box((picture.width - side) / 2, (picture.height - side) / 2, side)


def find_faces(picture: Image.Image) -> list[Box]:
    """Frontal faces, largest first: scikit-image's LBP cascade needs no system library and no download.

    Where it sees none OpenCV's is asked, if OpenCV imports here. What closer looks do not confirm is left
    out.
    """
    guesses = _guesses(picture)
    confirmed = [box for guess in guesses if (box := look_closer(picture, guess, len(CLOSENESS))) is not None]
    return sorted(confirmed, key=lambda box: -box.side)


def look_closer(picture: Image.Image, face: Box, least: int = 2) -> Box | None:
    """The face where one was guessed or seen before, free of the search's grid; None if it is not there, in
    `least` of three looks."""
    seen = _closer(picture, face)
    return Box(*np.median(seen, axis=0).tolist()) if len(seen) >= least else None


def _guesses(picture: Image.Image) -> list[Box]:
    """Up to six boxes of a first search, largest first; none has its centre in a larger one."""
    for side, step in ((SEARCH_SIDE, 1.2), (1.6 * SEARCH_SIDE, 1.1)):
        scale = max(1.0, max(picture.size) / side)
        width, height = (max(1, round(length / scale)) for length in picture.size)
        small = picture.resize((width, height), Image.Resampling.BOX)
        found: list[Box] = []
        for box in _detect(small, round(SMALLEST_FACE * max(small.size)), step):
            if not any(other.holds(box.centre) for other in found):
                found.append(box)
        found = found or (_second_opinion(small) if step == 1.1 else [])
        if found:
            return [Box(box.left * scale, box.top * scale, box.side * scale) for box in found[:6]]
    return []


def _closer(picture: Image.Image, face: Box) -> list[tuple[float, float, float]]:
    """What three closer looks see of a face (left, top, side)."""
    x, y = face.centre
    seen = []
    for closeness in CLOSENESS:
        around = face.side * closeness
        left, top, scale = x - around / 2, y - around / 2, around / LOOK_SIDE
        look = cut(picture, Box(left, top, around), LOOK_SIDE, slide=False)
        for box in _detect(look, LOOK_SIDE // 4, 1.1) or _second_opinion(look):
            found = Box(left + box.left * scale, top + box.top * scale, box.side * scale)
            if face.holds(found.centre) and found.side < 1.35 * face.side:
                seen.append((found.left, found.top, found.side))
                break
    return seen


def _detect(picture: Image.Image, smallest: int, step: float) -> list[Box]:
    """The cascade's boxes in pixels of `picture`, largest first; it knows no face below 24 pixels."""
    if min(picture.size) < 24:
        return []
    least = max(24, smallest)
    found = _cascade().detect_multi_scale(
        img=np.asarray(picture),
        scale_factor=step,
        step_ratio=1,
        min_size=(least, least),
        max_size=picture.size,
    )
    boxes = [Box(float(box["c"]), float(box["r"]), float(box["width"])) for box in found]
    return sorted(boxes, key=lambda box: (-box.side, box.left, box.top))


def _second_opinion(picture: Image.Image) -> list[Box]:
    """OpenCV's frontal cascade, which sees some tilted faces that the other does not; largest first."""
    cascade = _opencv_cascade()
    if cascade is None:
        return []
    grey = np.asarray(picture.convert("L"))
    boxes = []
    for x, y, width, _ in cascade.detectMultiScale(grey, 1.1, 5, minSize=(24, 24)):
        side = float(width) / HAAR_TO_LBP
        boxes.append(Box(x + (width - side) / 2, y + (width - side) / 2, side))
    return sorted(boxes, key=lambda box: (-box.side, box.left, box.top))


@functools.cache
def _opencv_cascade() -> Any:
    """None where OpenCV does not import: it wants libGL and libglib from the system."""
    try:
        import cv2.data
    except ImportError:
        return None
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"))


@functools.cache
def _cascade() -> Cascade:
    return Cascade(data.lbp_frontal_face_cascade_filename())


def cut(picture: Image.Image, square: Box, size: int, slide: bool = True) -> Image.Image:
    """The square, resized to `size` (by area where it shrinks).

    A square that leaves the picture slides back by up to a tenth of its side; what is still missing repeats
    the border.
    """
    left, top = square.left, square.top
    if slide:
        left, top = _slid(left, square.side, picture.width), _slid(top, square.side, picture.height)
    right, bottom = left + square.side, top + square.side
    missing = [
        max(0, -int(left // 1)),
        max(0, -int(top // 1)),
        max(0, -int(-right // 1) - picture.width),
        max(0, -int(-bottom // 1) - picture.height),
    ]
    if any(missing):
        before_x, before_y, after_x, after_y = missing
        padded = np.pad(np.asarray(picture), ((before_y, after_y), (before_x, after_x), (0, 0)), mode="edge")
        picture, left, top = Image.fromarray(padded), left + before_x, top + before_y
    method = Image.Resampling.BOX if square.side >= size else Image.Resampling.BICUBIC
    return picture.resize((size, size), method, box=(left, top, left + square.side, top + square.side))


def to_tensor(picture: Image.Image) -> Tensor:
    """RGB picture -> (1, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.asarray(picture, np.float32) / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def _slid(start: float, side: float, length: int) -> float:
    """`start` moved towards the inside of 0..length by at most a tenth of `side`."""
    most = side / 10
    inside = min(max(start, 0.0), max(length - side, 0.0)) if side <= length else (length - side) / 2
    return start + min(max(inside - start, -most), most)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Any mode as L, LA, RGB or RGBA."""
    if picture.mode in ("L", "LA", "RGB", "RGBA"):
        return picture
    if picture.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip
        return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return picture.convert("RGBA" if picture.mode in ("P", "PA", "La", "RGBa") else "RGB")


def _reduced(picture: Image.Image) -> Image.Image:
    """Shrunk by a whole factor if it is longer than the working side."""
    factor = max(picture.size) // WORKING_SIDE
    return picture.reduce(factor) if factor > 1 else picture


def _on_white(picture: Image.Image) -> Image.Image:
    """RGB, what is transparent in white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
