"""Frames of a video file at exactly 25 a second, by timestamps."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

from talker.errors import UserError
from talker.media.audio import CLOSED, readable, reason

FRAME_RATE = 25
# Stamps are rounded, to milliseconds for instance; a frame is not shown for the sake of such a remainder.
SLACK = Fraction(1, 10)
LONGEST_STILL = 600  # seconds that frames stand beyond one each, all of a file together


def films(container: av.container.InputContainer) -> bool:
    """Whether there is a video track that is no cover picture."""
    return any(Disposition.attached_pic not in track.disposition for track in container.streams.video)


class Reel:
    """A video file's frames (H, W, 3) uint8 RGB, upright, number n being what a viewer sees at n/25 s.

    Frame rates other than 25, and variable ones, are read by their timestamps: a frame stays until the next.
    One frame is held at a time; iterating again reads the file again.

    Attributes:
        start: time of the first frame in seconds, as far as it has been read.
        seconds: from there to the end of the last frame that has been read.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises UserError where there is no such file."""
        self.path = readable(path)
        self.start = self.seconds = Fraction(0)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Raises UserError where the file is unreadable, or has no picture."""
        sent = 0
        try:
            with self.path.open("rb") as file, av.open(file, "r", options=CLOSED) as container:
                if not films(container):
                    raise UserError(f"{self.path} holds no video track: give a video file")
                for frame, until in self._spans(container):
                    pixels = _upright(frame) if sent < until else None
                    while pixels is not None and sent < until:
                        yield pixels
                        sent += 1
        except (av.FFmpegError, OSError) as error:
            raise UserError(
                f"{self.path} cannot be read as a video ({reason(error)}): convert it to mp4 first"
            ) from error
        if not sent:
            raise UserError(f"{self.path} holds no frame that can be decoded: convert it to mp4 first")

    def _spans(self, container: av.container.InputContainer) -> Iterator[tuple[av.VideoFrame, int]]:
        """Each decoded frame with the index (at 25 a second) of the first moment that it no longer covers."""
        stream = container.streams.video[0]
        held: av.VideoFrame | None = None
        shown = stood = Fraction(0)
        usual = 1 / Fraction(stream.average_rate or FRAME_RATE)
        for frame in _decoded(container):
            time = Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)
            if held is None:
                self.start = time
            time -= self.start
            stood += max(Fraction(0), time - shown - 1)
            if time < shown or stood > LONGEST_STILL:
                raise UserError(f"{self.path} holds timestamps that jump: convert it to mp4 first")
            if held is not None:
                yield held, ceil(time * FRAME_RATE - SLACK)
            held, shown = frame, time
            lasts = Fraction(frame.duration or 0) * Fraction(frame.time_base or 0)
            self.seconds = shown + (lasts if usual / 2 <= lasts < 10 * usual else usual)
        if held is not None:
            yield held, max(1, ceil(self.seconds * FRAME_RATE - SLACK))


def read_frames(path: str | Path, seconds: float = float("inf")) -> Iterator[np.ndarray]:
    """The frames of a `Reel` of the first `seconds`, one at a time.

    Raises:
        UserError: the file is missing, unreadable, or has no picture.
    """
    for number, frame in enumerate(Reel(path)):
        if number >= seconds * FRAME_RATE:
            return
        yield frame


def _decoded(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """Frames with the time they are shown at; packets that cannot be decoded are left out."""
    track = container.streams.video[0]
    # AVI says when H.264 is decoded and not when it is shown: at the same times, in another order.
    ordered = container.format.name != "avi" or track.codec_context.codec.canonical_name != "h264"
    due: list[int] = []
    for packet in container.demux(track):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        if not ordered and packet.size and packet.pts is not None:
            heapq.heappush(due, packet.pts)
        for frame in frames:
            if due:
                frame.pts = heapq.heappop(due)
            yield frame


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Pixels (H, W, 3) as they are meant to be seen: telephones film lying and note the rotation."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
