"""A video's face, framed as the motion autoencoder wants it: one steady square that follows slowly."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from talker.errors import UserError
from talker.media.audio import readable
from talker.media.face import Box, centre_square, cut, find_faces, framed, is_framed, look_closer, to_tensor
from talker.media.video import FRAME_RATE, Reel

log = logging.getLogger(__name__)

EVERY = 12  # frames between two looks for the face: about half a second
STEADY = 4  # looks to either side that a square is the median of: two seconds
LOST_SECONDS = 2.0


@dataclass(frozen=True)
class FaceTrack:
    """Where the face is in a video, and how long that is.

    Attributes:
        start: time of the first picture, in seconds.
        seconds: from the first picture to the end of the last.
        squares: where to cut, one every `EVERY` frames at 25 a second; None: the centred square.
    """

    start: Fraction
    seconds: Fraction
    squares: tuple[Box, ...] | None

    @classmethod
    def of(cls, path: Path, crop: str = "face") -> FaceTrack:
        """Watch a whole video once. Where the face is lost its last place is kept.

        Raises:
            UserError: no such file, not a video, or no face in it.
        """
        reel = Reel(readable(path))
        looks: list[Box | None] = []
        size = (0, 0)
        for number, frame in enumerate(reel):
            if number == 0:
                size = (frame.shape[1], frame.shape[0])
            if crop == "face" and number % EVERY == 0:
                looks.append(followed(Image.fromarray(frame), looks))
        if crop != "face":
            return cls(reel.start, reel.seconds, None)
        if not any(looks):
            raise UserError(
                f"no face is found in {path}: give a video of a frontal, well lit face, or --crop none"
            )
        _report_gaps(looks, path)
        return cls(reel.start, reel.seconds, steady(looks, size))

    def pictures(self, path: Path, size: int) -> Iterator[Tensor]:
        """The face at 25 frames a second: (1, 3, size, size) in [-1, 1] each."""
        for number, frame in enumerate(Reel(readable(path))):
            picture = Image.fromarray(frame)
            square = centre_square(picture) if self.squares is None else self.square(number)
            yield to_tensor(cut(picture, square, size))

    def square(self, number: int) -> Box:
        """Where to cut frame `number`, counted at 25 a second."""
        assert self.squares is not None
        before = min(number // EVERY, len(self.squares) - 1)
        after, share = min(before + 1, len(self.squares) - 1), number % EVERY / EVERY
        a, b = self.squares[before], self.squares[after]
        mixed = (1 - share) * np.array([a.left, a.top, a.side]) + share * np.array([b.left, b.top, b.side])
        return Box(*mixed.tolist())


def followed(picture: Image.Image, looks: Sequence[Box | None]) -> Box | None:
    """The face that was seen before, if it is still there; else the largest."""
    last = next((look for look in reversed(looks) if look is not None), None)
    if last is not None and (face := look_closer(picture, last)) is not None:
        return face
    faces = find_faces(picture)
    # A much smaller face is not the one that went; it is somebody in the background.
    return faces[0] if faces and (last is None or faces[0].side > 0.5 * last.side) else None


def _report_gaps(looks: list[Box | None], path: Path) -> None:
    lost = sum(look is None for look in looks) * EVERY / FRAME_RATE
    if lost >= LOST_SECONDS:
        log.warning("no face is found for %.0f s of %s: there the speech follows the text alone", lost, path)


def steady(looks: Sequence[Box | None], size: tuple[int, int]) -> tuple[Box, ...]:
    """A square for each look: the median of those around it, so that neither noise nor a nod moves it.

    One look at least saw a face; `size` is the picture's, (width, height).
    """
    seen = [index for index, look in enumerate(looks) if look is not None]
    values = np.array([[look.left, look.top, look.side] for look in looks if look is not None])
    filled = np.stack([np.interp(range(len(looks)), seen, column) for column in values.T], axis=1)
    whole = framed(Box(*np.median(filled, axis=0).tolist()))
    if is_framed(whole, *size):
        return (Box(0, 0, size[0]),) * len(looks)
    return tuple(
        framed(Box(*np.median(filled[max(0, k - STEADY) : k + STEADY + 1], axis=0).tolist()))
        for k in range(len(looks))
    )
