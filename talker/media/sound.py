"""The decoded sound of a file with its timestamps. Imports no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from talker.errors import UserError
from talker.media.files import cannot_read, check_input
from talker.media.tracks import Damage, Sound, decode_packets, find_sound, open_media

SAMPLE_RATES = (2_000, 400_000)  # a header that claims a rate outside this range is wrong
MAX_GAP_SECONDS = 60.0  # a larger jump of the timestamps is an error of the file, a smaller one is silence
TIMESTAMP_TOLERANCE = 0.05  # seconds by which a timestamp may differ from the count of samples


@contextmanager
def open_sound(
    path: Path, seconds: float = float("inf")
) -> Iterator[tuple[av.container.InputContainer, Sound]]:
    """Open a file and find its sound, judged by the first `seconds`. Errors of PyAV become UserError."""
    try:
        sound = find_sound(path, seconds)
        if sound is None:
            raise UserError(
                f"{path} has no audio track: give a recording of speech (wav, mp3, m4a, ogg, ...)"
            )
        with open_media(path) as container:
            yield container, sound
    except (av.FFmpegError, OSError) as error:
        raise cannot_read(path, "sound", error) from error


def decode_audio(
    container: av.container.InputContainer, track: int, damage: Damage | None = None
) -> Iterator[av.AudioFrame]:
    """Decoded frames of the stream `track`. Packets that cannot be decoded are skipped, and counted."""
    for _, frames in decode_packets(container, container.streams[track], damage=damage):
        yield from frames


def timed_frames(
    container: av.container.InputContainer, track: int, damage: Damage | None = None
) -> Iterator[tuple[int, av.AudioFrame]]:
    """Decoded frames of the stream `track`, each with the number of samples that are missing before it.

    Raises:
        UserError: the sample rate is impossible, or changes.
    """
    count, rate, start = 0, 0, None
    for frame in decode_audio(container, track, damage):
        rate = rate or frame.sample_rate
        if frame.sample_rate != rate or not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
            raise UserError(
                f"the recording's sample rate is {frame.sample_rate}, or changes: convert it to wav first"
            )
        missing = 0
        if frame.pts is not None and frame.time_base:
            time = float(frame.pts * frame.time_base)
            start = time if start is None else start
            gap = time - start - count / rate
            missing = round(gap * rate) if TIMESTAMP_TOLERANCE < gap <= MAX_GAP_SECONDS else 0
        count += missing + frame.samples
        yield missing, frame


def check_sound(path: str | Path) -> None:
    """Check that a file has an audio track, from its start.

    Raises:
        UserError: the file is missing, cannot be read, or has no audio track.
    """
    with open_sound(check_input(path), seconds=0):
        pass
