"""New pictures to given sound, and new sound to given pictures: what was given is copied, not coded again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np

from talker.errors import UserError
from talker.media.audio import CLOSED, readable
from talker.media.mux import (
    FASTSTART,
    FRAME_RATE,
    SAMPLE_RATE,
    TAGS,
    FileWriter,
    Pictures25,
    Voice24k,
    cannot_write,
    check_output,
)
from talker.media.sound import timed

# What mp4 holds and players play.
MP4_SOUND = ("aac", "mp3", "opus", "ac3", "eac3", "alac", "flac")
MP4_PICTURES = ("h264", "hevc", "vp9", "mpeg4")
LOWEST_MP3_RATE = 16_000  # below is MPEG-2.5, which mp4 does not know
# Containers a dubbed video may be written to, by the ending of the name: FFmpeg's name, codec of the speech.
VIDEO_FILES = {
    ".mp4": ("mp4", "aac"),
    ".m4v": ("mp4", "aac"),
    ".mov": ("mov", "aac"),
    ".mkv": ("matroska", "aac"),
    ".webm": ("webm", "libopus"),
}
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


class Source:
    """A track of a file, read a second time beside what is made from it; `start` seconds become 0."""

    def __init__(self, path: Path, kind: str, start: Fraction) -> None:
        """`kind`: "audio" or "video"."""
        self._file = readable(path).open("rb")
        self._container = av.open(self._file, "r", options=CLOSED)
        streams: Any = self._container.streams
        self.track = (streams.audio if kind == "audio" else streams.video)[0]
        self.start = start

    def packets(self, into: Any) -> Iterator[tuple[float, av.Packet]]:
        """Every packet with its time in seconds, its stamps moved and its stream changed to `into`."""
        previous: int | None = None
        for packet in self._stamped():
            shift = round(self.start / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            if previous is not None:  # damaged stamps, which the muxer would refuse
                packet.dts = max(packet.dts, previous + 1)
                packet.pts = max(packet.pts, packet.dts)
            previous = packet.dts
            time = float(packet.dts * packet.time_base)
            packet.stream = into
            yield time, packet

    def _stamped(self) -> Iterator[Any]:
        """Packets with both stamps. Matroska does not say when the first ones are to be decoded: one duration
        before the other, up to the first that it knows.
        """
        waiting: list[Any] = []
        for packet in self._container.demux(self.track):
            if not packet.size or (packet.pts is None and packet.dts is None):
                continue
            waiting.append(packet)
            if packet.dts is not None:
                yield from _with_both(waiting, packet.dts)
                waiting = []
        yield from _with_both(waiting, waiting[-1].pts if waiting else 0)

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()


def _with_both(packets: list[Any], known: int) -> Iterator[Any]:
    """`known`: when the last of them is to be decoded."""
    for before, packet in zip(reversed(range(len(packets))), packets, strict=True):
        if packet.dts is None:
            packet.dts = known - before * max(1, packet.duration or 1)
        if packet.pts is None:
            packet.pts = packet.dts
        yield packet


class Beside:
    """Packets with their times, handed out as far as what is made beside them has come."""

    def __init__(self, packets: Iterator[tuple[float, av.Packet]]) -> None:
        self._packets = packets
        self._next = next(packets, None)

    def until(self, seconds: float) -> Iterator[av.Packet]:
        """Those before a time."""
        while self._next is not None and self._next[0] < seconds:
            yield self._next[1]
            self._next = next(self._packets, None)


def first_sample(path: Path) -> Fraction:
    """Time of the first decoded sample of a file's first audio track, in seconds."""
    with readable(path).open("rb") as file, av.open(file, "r", options=CLOSED) as container:
        for _, frame in timed(container):
            return Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)
    return Fraction(0)


class AnimationWriter(FileWriter):
    """Generated frames with a recording's own sound: its packets where mp4 holds them, its samples as AAC
    otherwise.
    """

    options: ClassVar[dict[str, str]] = FASTSTART

    def __init__(self, path: str | Path, size: int, sound: Path) -> None:
        """`size`: width and height of the frames, even. `sound`: a file with an audio track."""
        super().__init__(check_output(path), "mp4", TAGS)
        self.size, self.source = size, Source(sound, "audio", first_sample(sound))

    def add_streams(self, container: av.container.OutputContainer) -> None:
        self._pictures = Pictures25(container, self.size)
        track = self.source.track
        self._coded: list[Any] = []
        low = track.codec.canonical_name == "mp3" and track.rate < LOWEST_MP3_RATE
        if track.codec.canonical_name in MP4_SOUND and not low:
            self._beside = Beside(self.source.packets(container.add_stream_from_template(track)))
        else:
            self._beside = Beside(self._encoded(container))

    def _encoded(self, container: av.container.OutputContainer) -> Iterator[tuple[float, av.Packet]]:
        """The recording's own samples as AAC, at its own rate where AAC knows it, mono or stereo."""
        track = self.source.track
        rate = min((r for r in AAC_RATES if r >= track.rate), default=AAC_RATES[-1])
        layout = "mono" if track.codec_context.layout.nb_channels == 1 else "stereo"
        stream = container.add_stream("aac", rate=rate, layout=layout)
        stream.bit_rate = 96_000 if layout == "mono" else 160_000
        self._coded = [stream]
        return self._aac(stream, av.AudioResampler("fltp", layout, rate))

    def _aac(self, stream: Any, converter: av.AudioResampler) -> Iterator[tuple[float, av.Packet]]:
        count = 0
        for sound in self._sounds():
            for ready in converter.resample(sound):
                ready.pts, ready.time_base = count, Fraction(1, stream.rate)
                count += ready.samples
                for packet in stream.encode(ready):
                    yield count / stream.rate, packet

    def _sounds(self) -> Iterator[av.AudioFrame | None]:
        """The recording's frames with silence where their stamps leave gaps; None at the end."""
        for silent, frame in timed(self.source._container):
            frame.pts = None
            while silent:
                part = min(silent, frame.sample_rate)
                yield _silence(frame, part)
                silent -= part
            yield frame
        yield None  # what the converter still holds

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append frames (n, size, size, 3) uint8; the sound that goes with them comes from the recording.

        Raises:
            UserError: the disk is full, or the file can no longer be written.
        """
        try:
            for frame in frames:
                self.mux(self._pictures.encode(frame))
            self.mux(self._beside.until(self._pictures.frames / FRAME_RATE))
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def encoders(self) -> list[Any]:
        self.mux(self._beside.until(float("inf")))
        return [self._pictures.stream, *self._coded]

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            self.source.close()


class DubWriter(FileWriter):
    """A video's own packets with generated speech; a sound track it had is left out."""

    def __init__(self, path: str | Path, video: Path, start: Fraction) -> None:
        """`start`: when the video's first picture is shown, in seconds.

        Raises:
            UserError: the container that `path` names cannot hold the video as it is.
        """
        path = check_dub(path, video)
        form, self.codec = VIDEO_FILES[path.suffix.lower()]
        super().__init__(path, form, TAGS)
        self.options = FASTSTART if form in ("mp4", "mov") else {}  # type: ignore[misc]
        self.source = Source(video, "video", start)

    def add_streams(self, container: av.container.OutputContainer) -> None:
        self._beside = Beside(self.source.packets(container.add_stream_from_template(self.source.track)))
        self._speech = Voice24k(container, self.codec)

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append pcm (samples,) float32; the pictures that go with it come from the video.

        Raises:
            UserError: the disk is full, or the file can no longer be written.
        """
        try:
            self.mux(self._speech.encode(pcm))
            self.mux(self._beside.until(self._speech.samples / SAMPLE_RATE))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        except av.FFmpegError as error:
            raise UserError(
                f"{self.path.suffix} cannot hold this video as it is: choose its own container"
            ) from error

    def encoders(self) -> list[Any]:
        self.mux(self._beside.until(float("inf")))
        return [self._speech.stream]

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            self.source.close()


def check_dub(path: str | Path, video: str | Path) -> Path:
    """`path` as a Path that `video`, dubbed, can be written to: mp4 where that holds its codec.

    Raises:
        UserError: it cannot be written, would overwrite its source, or cannot hold the video; says what can.
    """
    path, video = check_output(path, tuple(VIDEO_FILES)), readable(video)
    if path.exists() and path.samefile(video):
        raise UserError(f"{path} is the video itself: choose another name for the output")
    try:
        with video.open("rb") as file, av.open(file, "r", options=CLOSED) as container:
            if not container.streams.video:
                raise UserError(f"{video} holds no video track: give a video file")
            track = container.streams.video[0]
            if track.codec_context is None:
                raise UserError(f"{video} is in a codec that cannot be read: convert it to mp4 first")
            codec = track.codec_context.codec.canonical_name
            own = video.suffix.lower()
            fitting = [suffix for suffix in (own, ".mp4", ".mkv") if _holds(suffix, track)]
            fits = _holds(path.suffix.lower(), track)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{video} cannot be read as a video: convert it to mp4 first") from error
    if not fits:
        better = f"name the output {path.stem}{fitting[0]}" if fitting else f"convert {video} to H.264 first"
        raise UserError(f"{path.suffix} cannot hold {codec} as it is: {better}")
    return path


def _holds(suffix: str, track: av.VideoStream) -> bool:
    """Whether a file of that ending can hold a track's packets as they are."""
    if suffix not in VIDEO_FILES:
        return False
    if suffix in (".mp4", ".m4v"):
        return track.codec_context.codec.canonical_name in MP4_PICTURES
    with av.open(io.BytesIO(), "w", format=VIDEO_FILES[suffix][0]) as empty:
        try:
            empty.add_stream_from_template(track)
            empty.start_encoding()  # only the header tells of some
        except (ValueError, av.FFmpegError):
            return False
    return True


def _silence(like: av.AudioFrame, samples: int) -> av.AudioFrame:
    silence = av.AudioFrame(format=like.format.name, layout=like.layout.name, samples=samples)
    value = 128 if like.format.name.startswith("u8") else 0
    for plane in silence.planes:
        plane.update(bytes([value]) * plane.buffer_size)
    silence.sample_rate = like.sample_rate
    return silence
