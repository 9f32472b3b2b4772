"""Decodes an uploaded file in a process of its own, with limits, and writes what it shows to a plain file.

`python -m talker.serve.opener KIND SOURCE TARGET` prints one line of JSON. The server reads only TARGET:
a PNG picture, a WAV recording or an H.264 video without sound.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

MEMORY = 3 * 2**30  # bytes
CPU_SECONDS = {"image": 30, "sound": 60, "video": 600}
LARGEST_RESULT = 2**30  # bytes
LONGEST = {"sound": 600, "video": 120}  # seconds
MAX_VIDEO_PIXELS = 2560 * 1440
# Demuxers of FFmpeg that may read an upload. Others read playlists, devices, subtitles or raw data.
FORMATS = "mov,mp4,m4a,matroska,webm,avi,flv,mpeg,mpegts,asf,ogg,wav,w64,aiff,mp3,flac,aac,gif,caf,au"


class Refused(Exception):  # noqa: N818 - an error of the file
    """The file cannot be used, with the reason."""


def main(kind: str, source: Path, target: Path) -> dict[str, Any]:
    """Write what `source` shows to `target` and return its kind.

    Args:
        kind: "image", "sound" or "video"; "any": the kind that the file is.
        source: the upload.
        target: the file to write.

    Raises:
        Refused, UserError: the file is damaged, too long or too large, or of another kind.
    """
    found = _kind_of(source) if kind == "any" else kind
    _limit(resource.RLIMIT_CPU, CPU_SECONDS[found])
    if found == "image":
        from talker.media.pictures import read_picture

        read_picture(source).save(target, "PNG")
    else:
        _check_format(source)
        {"sound": _write_sound, "video": _write_video}[found](source, target)
    return {"kind": found}


def _kind_of(source: Path) -> str:
    from talker.media.pictures import is_picture
    from talker.media.tracks import find_picture

    if is_picture(source):
        return "image"
    _check_format(source)
    return "sound" if find_picture(source) is None else "video"


def _check_format(source: Path) -> None:
    import av

    try:
        with source.open("rb") as file, av.open(file, "r", options={"format_whitelist": FORMATS}):
            pass
    except (av.FFmpegError, OSError) as error:
        raise Refused("the file is no picture, recording or video of a known format") from error


def _write_sound(source: Path, target: Path) -> None:
    """Write the mono signal at its sample rate as PCM16."""
    import av
    import numpy as np

    from talker.media.provenance import kept_tags
    from talker.media.sound import open_sound, timed_frames
    from talker.media.tracks import channels_of

    with (
        open_sound(source) as (container, sound),
        av.open(f"file:{target}", "w", format="wav") as output,
    ):
        output.metadata.update(kept_tags(source))
        stream: Any = None
        count = 0
        for silent, frame in timed_frames(container, sound.track):
            rate = frame.sample_rate
            stream = stream or output.add_stream("pcm_s16le", rate=rate, layout="mono")
            count += silent + frame.samples
            if count > LONGEST["sound"] * rate:
                raise Refused(f"the recording is longer than {LONGEST['sound']} s: send a shorter one")
            mono = np.nan_to_num(sound.mono(channels_of(frame))).clip(-1, 1)
            pcm = np.concatenate([np.zeros(silent, np.int16), np.rint(mono * 32767).astype(np.int16)])
            samples = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
            samples.sample_rate = rate
            samples.pts, samples.time_base = count - len(pcm), Fraction(1, rate)
            output.mux(stream.encode(samples))
        if stream is None:
            raise Refused("the recording has no sound that can be decoded")
        output.mux(stream.encode(None))


def _write_video(source: Path, target: Path) -> None:
    """Write the picture upright, at 25 frames per second and without sound."""
    from talker.clock import FRAME_RATE
    from talker.media.provenance import kept_tags
    from talker.media.readers import VideoReader

    frames = _limited(VideoReader(source, MAX_VIDEO_PIXELS), LONGEST["video"] * FRAME_RATE)
    _encode(frames, FRAME_RATE, target, kept_tags(source))


def _limited(frames: Iterable[Any], most: int) -> Iterable[Any]:
    for number, frame in enumerate(frames):
        if number >= most:
            raise Refused(f"the video is longer than {LONGEST['video']} s: send a shorter one")
        yield frame


def _encode(frames: Iterable[Any], rate: int, target: Path, tags: dict[str, str]) -> None:
    import av
    import numpy as np

    with av.open(f"file:{target}", "w", format="mp4") as container:
        container.metadata.update(tags)
        stream: Any = None
        for number, pixels in enumerate(frames):
            height, width = (length // 2 * 2 for length in pixels.shape[:2])
            if stream is None:
                stream = container.add_stream(
                    "libx264", rate=rate, options={"crf": "16", "preset": "veryfast", "bf": "0"}
                )
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            picture = np.ascontiguousarray(pixels[:height, :width])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    os.nice(10)  # live sessions go first
    _limit(resource.RLIMIT_DATA, MEMORY)
    _limit(resource.RLIMIT_FSIZE, LARGEST_RESULT)
    _limit(resource.RLIMIT_CPU, CPU_SECONDS["sound"])
    try:
        answer = main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    except (Refused, ValueError) as error:  # UserError is a ValueError
        answer = {"error": str(error).replace(sys.argv[2], "the file")}
    except (MemoryError, OSError):
        answer = {"error": "the file needs too much memory or space"}
    sys.stdout.write(json.dumps(answer))
