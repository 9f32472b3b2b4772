"""Reading of portraits: any picture file -> the square crop of the face that the renderer was trained on."""

from __future__ import annotations

import functools
import itertools
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data
from skimage.feature import Cascade
from torch import Tensor

from talker.errors import UserError
from talker.media.pictures import MAX_PIXELS, read_picture
from talker.media.pixels import from_uint8

log = logging.getLogger(__name__)

SEARCH_SIDE = 400  # longer side of the reduced picture in which faces are searched for
CLOSE_UP_SIDE = 160  # side of the close-ups in which a face is confirmed
CLOSE_UP_WIDTHS = (2.2, 2.5, 2.8)  # widths of the close-ups, in widths of the face
MIN_FACE = 0.06  # side of the smallest face, as a share of the picture's longer side
# The training frames relative to the detector's box: side of the frame / side of the box, and the distance of
# the frame's centre below the box's centre, in sides of the box.
FRAME_TO_BOX = 1.87
FRAME_BELOW_BOX = -0.025
# Detection windows that agree on a face. In 44 pictures the upright face had 24 or more; what the cascade
# found in their turned copies had up to 24, mostly below 16.
AGREEING_WINDOWS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
CLEAR_WINDOWS, TURNED_WINDOWS = 32, 24  # of a face that needs no comparison; least number of a turned face
HAAR_TO_LBP = 1.16  # side of OpenCV's box / side of scikit-image's box
# A square picture is already framed if its crop would differ by less than this share of the side.
FRAMED_TOLERANCE = 0.25


@dataclass(frozen=True)
class Box:
    """A square in pixels: left, top, side."""

    left: float
    top: float
    side: float

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return self.left + self.side / 2, self.top + self.side / 2

    def contains(self, point: tuple[float, float]) -> bool:
        """Whether a point (x, y) is inside."""
        return 0 <= point[0] - self.left <= self.side and 0 <= point[1] - self.top <= self.side


TURNS = {1: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_270, 2: Image.Transpose.ROTATE_180}


def read_portrait(
    path: str | Path, size: int, crop: str = "face", max_pixels: int = MAX_PIXELS
) -> tuple[Tensor, Box]:
    """Read a picture file as the renderer's input, (1, 3, size, size) float32 in [-1, 1], and its framing.

    The framing is the square of the picture that the input shows, in pixels of `read_picture` or, if the face
    lies on its side or upside down there, of the turned picture.

    Args:
        path: the picture file.
        size: side of the result in pixels.
        crop: "face" finds the face and frames it as the training data do; "none" takes the largest centred
            square.
        max_pixels: as for `read_picture`.

    Raises:
        UserError: the file is missing, not a picture or too large, or no face is found in it.
    """
    picture = read_picture(path, max_pixels)
    if crop == "face":
        picture, square = upright_face(picture, str(path))
    else:
        square = centre_square(picture)
    return to_tensor(crop_square(picture, square, size)), square


def upright_face(picture: Image.Image, name: str = "the picture") -> tuple[Image.Image, Box]:
    """Turn a picture so that its face is upright, and frame the face.

    A picture is turned, with a warning, if no face is found in it or a doubtful one, and the face in the
    turned picture is much clearer.

    Args:
        picture: an RGB picture.
        name: the name of the picture in messages.

    Returns:
        The picture and the square, as `face_square`.

    Raises:
        UserError: no face is found in any of the four positions.
    """
    turn, faces = find_upright_faces(picture)
    if turn:
        log.warning("the face in %s is not upright: the picture was turned", name)
        picture = picture.transpose(TURNS[turn])
    return picture, _square_of(faces, picture, name)


def find_upright_faces(picture: Image.Image) -> tuple[int, list[Box]]:
    """Quarter turns, counter-clockwise, after which the face in a picture is upright; and the faces then.

    The number of turns is 0 unless no face is found in the picture or a doubtful one, and the face in the
    turned picture is much clearer. The faces are those of `find_faces` in the turned picture.
    """
    faces = find_faces(picture)
    if faces and _windows_agree(picture, faces[0], CLEAR_WINDOWS):
        return 0, faces
    best, least = (0, faces), max(TURNED_WINDOWS, 2 * _clarity(picture, faces))
    for turn, transpose in TURNS.items():
        turned = picture.transpose(transpose)
        found = find_faces(turned)
        clarity = _clarity(turned, found)
        if clarity >= least:
            best, least = (turn, found), clarity + 1
    return best


def face_square(picture: Image.Image, name: str = "the picture") -> Box:
    """The square that frames the largest face as the training data do.

    A square picture that is already framed like that is kept whole. If several faces are of similar size, a
    warning says so.

    Args:
        picture: an RGB picture.
        name: the name of the picture in messages.

    Raises:
        UserError: no face is found.
    """
    return _square_of(find_faces(picture), picture, name)


def _square_of(faces: list[Box], picture: Image.Image, name: str) -> Box:
    """`face_square` for the result of `find_faces`."""
    if not faces:
        raise UserError(
            f"no face was found in {name}: give a picture of a frontal, well-lit face, or use --crop none"
        )
    face = faces[0]
    several = sum(other.side > 0.6 * face.side for other in faces)
    if several > 1:
        log.warning(
            "%s shows %d faces, and the largest is used: crop the picture to choose another", name, several
        )
    square = framed(face)
    return Box(0, 0, picture.width) if is_framed(square, *picture.size) else square


def _clarity(picture: Image.Image, faces: list[Box]) -> int:
    """The number of AGREEING_WINDOWS that the largest face has; 0 without a face."""
    if not faces:
        return 0
    reached = itertools.takewhile(lambda count: _windows_agree(picture, faces[0], count), AGREEING_WINDOWS)
    return max(reached, default=0)


def _windows_agree(picture: Image.Image, face: Box, number: int) -> bool:
    """Whether at least `number` windows of the cascade agree on a face, in a close-up of 2.5 widths."""
    width = 2.5 * face.side
    x, y = face.centre
    square = Box(x - width / 2, y - width / 2, width)
    close_up = crop_square(picture, square, CLOSE_UP_SIDE, slide=False)
    found = _detect(close_up, CLOSE_UP_SIDE // 4, 1.05, number)
    middle = (CLOSE_UP_SIDE / 2, CLOSE_UP_SIDE / 2)
    return any(math.dist(box.centre, middle) < CLOSE_UP_SIDE / 8 for box in found)


def framed(face: Box) -> Box:
    """The square that frames a detected face as the training data do."""
    side = face.side * FRAME_TO_BOX
    x, y = face.centre
    return Box(x - side / 2, y + FRAME_BELOW_BOX * face.side - side / 2, side)


def is_framed(square: Box, width: int, height: int) -> bool:
    """Whether a picture (width, height) is square and so close to its crop `square` that it is kept whole."""
    differences = (square.left, square.top, square.side - width)
    return width == height and max(map(abs, differences)) < FRAMED_TOLERANCE * width


def centre_square(picture: Image.Image) -> Box:
    """The largest square in the middle of a picture."""
    side = min(picture.size)
    return Box((picture.width - side) / 2, (picture.height - side) / 2, side)


def find_faces(picture: Image.Image) -> list[Box]:
    """Detect frontal faces: their boxes, largest first.

    Candidates come from scikit-image's LBP cascade, which needs no system library and no download, or, if it
    finds none, from OpenCV's cascade, if OpenCV is installed. Candidates that the close-ups do not confirm
    are dropped.
    """
    every = len(CLOSE_UP_WIDTHS)
    confirmed = [
        face for box in _candidates(picture) if (face := confirm_face(picture, box, every)) is not None
    ]
    return sorted(confirmed, key=lambda box: -box.side)


def confirm_face(picture: Image.Image, face: Box, votes: int = 2) -> Box | None:
    """Detect a face again, in close-ups of the place where it was: its median box.

    The result does not depend on the grid of the first search. None if fewer than `votes` of the three
    close-ups show a face.
    """
    found = _detect_in_close_ups(picture, face)
    return Box(*np.median(found, axis=0).tolist()) if len(found) >= votes else None


def _candidates(picture: Image.Image) -> list[Box]:
    """Up to six boxes of the first search, largest first; no box has its centre inside a larger one."""
    for side, step in ((SEARCH_SIDE, 1.2), (1.6 * SEARCH_SIDE, 1.1)):
        scale = max(1.0, max(picture.size) / side)
        width, height = (max(1, round(length / scale)) for length in picture.size)
        small = picture.resize((width, height), Image.Resampling.BOX)
        found: list[Box] = []
        for box in _detect(small, round(MIN_FACE * max(small.size)), step):
            if not any(other.contains(box.centre) for other in found):
                found.append(box)
        found = found or (_detect_with_opencv(small) if step == 1.1 else [])
        if found:
            return [Box(box.left * scale, box.top * scale, box.side * scale) for box in found[:6]]
    return []


def _detect_in_close_ups(picture: Image.Image, face: Box) -> list[tuple[float, float, float]]:
    """The face (left, top, side) in each close-up that shows it."""
    x, y = face.centre
    boxes = []
    for widths in CLOSE_UP_WIDTHS:
        width = face.side * widths
        left, top, scale = x - width / 2, y - width / 2, width / CLOSE_UP_SIDE
        close_up = crop_square(picture, Box(left, top, width), CLOSE_UP_SIDE, slide=False)
        for box in _detect(close_up, CLOSE_UP_SIDE // 4, 1.1) or _detect_with_opencv(close_up):
            found = Box(left + box.left * scale, top + box.top * scale, box.side * scale)
            if face.contains(found.centre) and found.side < 1.35 * face.side:
                boxes.append((found.left, found.top, found.side))
                break
    return boxes


def _detect(picture: Image.Image, min_side: int, step: float, agreeing: int = 4) -> list[Box]:
    """Boxes that scikit-image's cascade finds, largest first.

    Args:
        picture: an RGB picture.
        min_side: side of the smallest box in pixels.
        step: ratio of the sizes that are tried.
        agreeing: number of detection windows that a box needs.
    """
    if min(picture.size) < 24:  # the cascade's window
        return []
    least = max(24, min_side)
    found = _cascade().detect_multi_scale(
        img=np.asarray(picture),
        scale_factor=step,
        step_ratio=1,
        min_size=(least, least),
        max_size=picture.size,
        min_neighbor_number=agreeing,
    )
    boxes = [Box(float(box["c"]), float(box["r"]), float(box["width"])) for box in found]
    return sorted(boxes, key=lambda box: (-box.side, box.left, box.top))


def _detect_with_opencv(picture: Image.Image) -> list[Box]:
    """Boxes that OpenCV's cascade finds, largest first; it finds some tilted faces that the other misses."""
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
    """None if OpenCV cannot be imported: it needs the system libraries libGL and libglib."""
    try:
        import cv2.data
    except ImportError:
        return None
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"))


@functools.cache
def _cascade() -> Cascade:
    return Cascade(data.lbp_frontal_face_cascade_filename())


def crop_square(picture: Image.Image, square: Box, size: int, slide: bool = True) -> Image.Image:
    """Crop a square and resize it to (size, size): by area if it shrinks, else bicubic.

    With `slide`, a square that extends beyond the picture first moves inwards by up to a tenth of its side.
    Pixels that are still outside repeat the border.
    """
    left, top = square.left, square.top
    if slide:
        left, top = slid(left, square.side, picture.width), slid(top, square.side, picture.height)
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
    return from_uint8(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].contiguous())


def slid(start: float, side: float, length: int) -> float:
    """`start`, moved by at most a tenth of `side` so that start..start + side is inside 0..length."""
    most = side / 10
    inside = min(max(start, 0.0), max(length - side, 0.0)) if side <= length else (length - side) / 2
    return start + min(max(inside - start, -most), most)
