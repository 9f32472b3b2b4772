"""Tracking of the face in a video: a square crop for the motion encoder that moves slowly and smoothly."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from talker.clock import FRAME_RATE
from talker.errors import UserError
from talker.media.face import (
    TURNS,
    Box,
    centre_square,
    confirm_face,
    crop_square,
    find_faces,
    find_upright_faces,
    framed,
    is_framed,
    to_tensor,
)
from talker.media.readers import VideoReader
from talker.media.tracks import damage_line

log = logging.getLogger(__name__)

DETECTION_INTERVAL = 12  # frames between two detections of the face: about half a second
SMOOTHING = 4  # detections on either side, two seconds, over which a square is the median
LARGEST = "largest"
TURNED_TRIES = 10  # detections without a face so far in which a turned face is also looked for: five seconds
WARNING_SECONDS = 2.0  # time without a detected face from which a warning is given


@dataclass(frozen=True)
class FaceTrack:
    """Where the face is in a video.

    Attributes:
        start: time of the first frame in seconds.
        seconds: time from the first frame to the end of the last frame.
        squares: the crop at every `DETECTION_INTERVAL`-th frame at 25 Hz; None for the centred square.
        turn: quarter turns, counter-clockwise, after which the face is upright. Squares are those of turned
            frames.
        seen: whether the face was detected in that frame.
    """

    start: Fraction
    seconds: Fraction
    squares: tuple[Box, ...] | None
    turn: int = 0
    seen: tuple[bool, ...] = ()

    @classmethod
    def from_video(
        cls,
        path: Path,
        crop: str = "face",
        progress: Callable[[float], object] = lambda seconds: None,
        choice: str = LARGEST,
    ) -> FaceTrack:
        """Read a whole video and track its face. While no face is detected, the crop is interpolated.

        Args:
            path: the video file.
            crop: "face" tracks the face; "none" uses the largest centred square.
            progress: called after each frame with the seconds of video that were read since the last call.
            choice: which face is tracked if there are several, see `choose_face`.

        Raises:
            UserError: the file is missing or not a video, or no face is found in it.
        """
        video = VideoReader(path)
        detections: list[Box | None] = []
        size = (0, 0)
        for number, frame in enumerate(video):
            if crop == "face" and number % DETECTION_INTERVAL == 0:
                picture = Image.fromarray(frame)
                if not any(detections) and len(detections) < TURNED_TRIES:
                    picture, faces = turn_upright(picture, video)
                    detections.append(choose_face(faces, choice, picture.size))
                else:
                    detections.append(track_face(picture, detections, choice))
                size = picture.size
            progress(1 / FRAME_RATE)
        if line := damage_line(path, video.damage):
            log.warning("%s", line)
        if crop != "face":
            return cls(video.start, video.seconds, None)
        if not any(detections):
            raise UserError(
                f"no face was found in {path}: give a video of a frontal, well-lit face, or use --crop none"
            )
        _warn_of_gaps(detections, path)
        seen = tuple(box is not None for box in detections)
        return cls(video.start, video.seconds, smooth_squares(detections, size), video.turn, seen)

    def pictures(self, path: Path, size: int) -> Iterator[Tensor]:
        """Crop each frame of the video, at 25 Hz: tensors (1, 3, size, size) float32 in [-1, 1]."""
        for number, frame in enumerate(VideoReader(path, turn=self.turn)):
            picture = Image.fromarray(frame)
            square = centre_square(picture) if self.squares is None else self.square(number)
            yield to_tensor(crop_square(picture, square, size))

    def visible(self, number: float) -> bool:
        """Whether the face was detected before and after frame `number`, counted at 25 Hz."""
        last = len(self.seen) - 1
        before = min(int(number // DETECTION_INTERVAL), last)
        after = before + (number % DETECTION_INTERVAL > 0)
        return self.seen[before] and self.seen[min(after, last)]

    def square(self, number: float) -> Box:
        """The crop of frame `number`, counted at 25 Hz: interpolated between detections."""
        assert self.squares is not None
        before = min(int(number // DETECTION_INTERVAL), len(self.squares) - 1)
        after = min(before + 1, len(self.squares) - 1)
        share = number % DETECTION_INTERVAL / DETECTION_INTERVAL
        a, b = self.squares[before], self.squares[after]
        mixed = (1 - share) * np.array([a.left, a.top, a.side]) + share * np.array([b.left, b.top, b.side])
        return Box(*mixed.tolist())


def turn_upright(picture: Image.Image, video: VideoReader) -> tuple[Image.Image, list[Box]]:
    """Turn a frame of a video, and its following frames, so that the face is upright.

    Returns the frame and the faces in it, largest first.
    """
    turn, faces = find_upright_faces(picture)
    if turn:
        video.turn = turn
        log.warning("the face in %s is not upright: its frames are read turned", video.path)
        picture = picture.transpose(TURNS[turn])
    return picture, faces


def track_face(picture: Image.Image, detections: Sequence[Box | None], choice: str = LARGEST) -> Box | None:
    """The last detected face, if it is still there, else the chosen face; None if it is not there."""
    last = next((box for box in reversed(detections) if box is not None), None)
    if last is not None and (face := confirm_face(picture, last)) is not None:
        return face
    faces = find_faces(picture)
    if last is None:
        return choose_face(faces, choice, picture.size)
    if choice == LARGEST:
        # A much smaller face is another person's, in the background.
        return faces[0] if faces and faces[0].side > 0.5 * last.side else None
    near = (face for face in faces if last.contains(face.centre) and 0.5 < face.side / last.side < 2)
    return next(near, None)


def choose_face(faces: Sequence[Box], choice: str, size: tuple[int, int]) -> Box | None:
    """Choose among the faces of a picture; None if the chosen one is not there.

    Args:
        faces: largest first.
        choice: "largest"; "first": the leftmost; "index:N": the Nth from the left, from 0; "track:X,Y": the
            closest to a point, in shares of width and height.
        size: (width, height) of the picture.
    """
    kind, _, value = choice.partition(":")
    if kind == LARGEST:
        return next(iter(faces), None)
    if kind == "track":
        x, y = (float(share) * length for share, length in zip(value.split(","), size, strict=True))
        return min(faces, key=lambda face: math.dist(face.centre, (x, y)), default=None)
    ordered = sorted(faces, key=lambda face: face.centre)
    return next(iter(ordered[int(value or 0) :]), None)


def _warn_of_gaps(detections: list[Box | None], path: Path) -> None:
    lost = sum(box is None for box in detections) * DETECTION_INTERVAL / FRAME_RATE
    if lost >= WARNING_SECONDS:
        log.warning("no face was found for %.0f s of %s: there the speech follows the text alone", lost, path)


def smooth_squares(detections: Sequence[Box | None], size: tuple[int, int]) -> tuple[Box, ...]:
    """The crop for each detection: the median over the detections around it, stable under noise and nods.

    Args:
        detections: boxes of the face, at least one of them not None; gaps are interpolated.
        size: (width, height) of the video.
    """
    found = [index for index, box in enumerate(detections) if box is not None]
    values = np.array([[box.left, box.top, box.side] for box in detections if box is not None])
    filled = np.stack([np.interp(range(len(detections)), found, column) for column in values.T], axis=1)
    whole = framed(Box(*np.median(filled, axis=0).tolist()))
    if is_framed(whole, *size):
        return (Box(0, 0, size[0]),) * len(detections)
    return tuple(
        framed(Box(*np.median(filled[max(0, k - SMOOTHING) : k + SMOOTHING + 1], axis=0).tolist()))
        for k in range(len(detections))
    )
