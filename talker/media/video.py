"""Frames of a video file at exactly 25 a second, by timestamps."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from talker.errors import UserError
from talker.media.audio import CLOSED, readable

FRAME_RATE = 25


def read_frames(path: str | Path, seconds: float = float("inf")) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8 RGB, number n being what a viewer sees at n/25 s; one at a time.

    Frame rates other than 25, and variable ones, are read by their timestamps: a frame stays until the next.

    Raises:
        UserError: the file is missing, unreadable, or has no picture.
    """
    path = readable(path)
    sent = 0
    try:
        with path.open("rb") as file, av.open(file, "r", options=CLOSED) as container:
            if not container.streams.video:
                raise UserError(f"{path} holds no video track: give a video file")
            for frame, until in _spans(container):
                while sent < until and sent < seconds * FRAME_RATE:
                    yield frame.to_ndarray(format="rgb24")
                    sent += 1
                if sent >= seconds * FRAME_RATE:
                    return
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} cannot be read as a video: convert it to mp4 first") from error
    if not sent:
        raise UserError(f"{path} holds no frame that can be decoded: convert it to mp4 first")


def _spans(container: av.container.InputContainer) -> Iterator[tuple[av.VideoFrame, int]]:
    """Each decoded frame with the index (at 25 a second) of the first moment that it no longer covers."""
    stream = container.streams.video[0]
    held: av.VideoFrame | None = None
    start = end = Fraction(0)
    for frame in container.decode(stream):
        time = Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)
        if held is None:
            start = time
        else:
            yield held, _ceil((time - start) * FRAME_RATE)
        held, end = frame, time - start
    if held is not None:
        last = 1 / Fraction(stream.average_rate or FRAME_RATE)
        yield held, max(1, round((end + last) * FRAME_RATE))


def _ceil(value: Fraction) -> int:
    return -int(-value // 1)
