"""Which container a dubbed video goes to: mp4 where that holds its codec, else the one it came in."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av

from talker.errors import UserError
from talker.media.audio import CLOSED, readable
from talker.media.mux import check_output
from talker.media.packets import Source
from talker.media.video import films

MP4_PICTURES = ("h264", "hevc", "av1", "vp9", "mpeg4")  # what mp4 holds and players play
# Containers a dubbed video may be written to, by the ending of the name: FFmpeg's name, codec of the speech.
ANY_VIDEO = {
    ".mp4": ("mp4", "aac"),
    ".mkv": ("matroska", "aac"),
    ".mov": ("mov", "aac"),
    ".m4v": ("mp4", "aac"),
    ".webm": ("webm", "libopus"),
}
# These want packets in forms of their own, and take those of their kind only.
OWN_VIDEO = {
    ".avi": ("avi", "pcm_s16le"),
    ".wmv": ("asf", "wmav2"),
    ".asf": ("asf", "wmav2"),
    ".flv": ("flv", "aac"),
    ".mpg": ("mpeg", "mp2"),
    ".mpeg": ("mpeg", "mp2"),
    ".ts": ("mpegts", "aac"),
    ".ogv": ("ogg", "libopus"),
}
VIDEO_FILES = ANY_VIDEO | OWN_VIDEO
TRIED = 25  # packets


def dubbed_name(video: str | Path) -> Path:
    """What a dubbed video is called where nobody says so, in the current folder.

    Raises:
        UserError: it cannot be read, or no container can hold it as it is.
    """
    video = readable(video)
    codec, kinds = _look(video)
    ending = next(_fitting(video, codec, kinds), None)
    if ending is None:
        raise UserError(f"nothing can hold {codec} as it is in {video}: convert it to H.264 first")
    return Path(f"{video.stem}-dubbed{ending}")


def check_dub(path: str | Path, video: str | Path) -> Path:
    """`path` as a Path that `video`, dubbed, can be written to.

    Raises:
        UserError: it cannot be written, would overwrite its source, or cannot hold the video; says what can.
    """
    path, video = check_output(path, tuple(VIDEO_FILES)), readable(video)
    if path.exists() and path.samefile(video):
        raise UserError(f"{path} is the video itself: choose another name for the output")
    codec, kinds = _look(video)
    wanted = path.suffix.lower()
    ending = next(_fitting(video, codec, kinds, wanted), None)
    if ending != wanted:
        better = f"name the output {path.stem}{ending}" if ending else "convert it to H.264 first"
        raise UserError(f"{wanted} cannot hold {codec} as it is in {video}: {better}")
    return path


def _look(video: Path) -> tuple[str, list[str]]:
    """The codec of a video, and FFmpeg's names of the container it is in."""
    try:
        with video.open("rb") as file, av.open(file, "r", options=CLOSED) as container:
            if not films(container):
                raise UserError(f"{video} holds no video track: give a video file")
            context = container.streams.video[0].codec_context
            if context is None:
                raise UserError(f"{video} is in a codec that cannot be read: convert it to mp4 first")
            return context.codec.canonical_name, container.format.name.split(",")
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{video} cannot be read as a video: convert it to mp4 first") from error


def _fitting(video: Path, codec: str, kinds: list[str], wanted: str = "") -> Iterator[str]:
    """The endings of files that can hold a video, best first."""
    same = [ending for ending, (form, _) in VIDEO_FILES.items() if form in kinds]
    own = sorted(same, key=lambda ending: ending != video.suffix.lower())
    for ending in dict.fromkeys([wanted, ".mp4", *own, ".mkv"]):
        kind = ending in ANY_VIDEO or ending in own
        played = codec in MP4_PICTURES or ending not in (".mp4", ".m4v")
        if kind and played and _holds(ending, video, in_order=ending not in own):
            yield ending


def _holds(ending: str, video: Path, in_order: bool) -> bool:
    """Whether the first packets of a video can be written to such a file, and read back from it.

    Its pictures must then come one after the other: an AVI does not say when H.264's are shown that are not
    decoded in that order (`in_order` false: nor need it, in another AVI).
    """
    trial, shown = io.BytesIO(), list[int]()
    try:
        with (
            closing(Source(video, "video", Fraction(0))) as source,
            av.open(trial, "w", format=VIDEO_FILES[ending][0]) as target,
        ):
            into = target.add_stream_from_template(source.track, opaque=True)
            target.start_encoding()  # only the header tells of some
            for _, packet in islice(source.packets(into), TRIED):
                target.mux_one(packet)
        trial.seek(0)
        with av.open(trial, "r") as back:
            for packet in back.demux(back.streams.video[:1]):
                with suppress(av.error.InvalidDataError):
                    shown += [frame.pts or 0 for frame in packet.decode()]
    except (ValueError, OSError, av.FFmpegError):
        return False
    return not in_order or shown == sorted(shown)
