"""Media files written as they come, H.264 + AAC in mp4 or speech alone; each is either whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import av
import numpy as np

from talker.errors import UserError

FRAME_RATE = 25
SAMPLE_RATE = 24_000
GENERATED = "AI-generated: this speech and this face were synthesised by talker"
TAGS = {"title": "AI-generated talking portrait", "comment": GENERATED, "description": GENERATED}
# No B-frames: then decoding order is display order and no player can get the offset wrong.
H264 = {"crf": "18", "preset": "veryfast", "bf": "0"}
AUDIO_BITS_PER_SECOND = 96_000
LOSSY = ("aac", "libmp3lame", "libopus", "mp2", "wmav2")
FASTSTART = {"movflags": "+faststart"}
# Speech alone, by the ending of the name: container and codec.
SOUND_FILES = {
    ".wav": ("wav", "pcm_s16le"),
    ".flac": ("flac", "flac"),
    ".m4a": ("ipod", "aac"),
    ".mp3": ("mp3", "libmp3lame"),
    ".ogg": ("ogg", "libopus"),
    ".opus": ("ogg", "libopus"),
}
BT709 = 1


def check_output(path: str | Path, endings: tuple[str, ...] = (".mp4",)) -> Path:
    """`path` as a Path that a clip can be written to, found out before any work is done.

    Raises:
        UserError: another ending than those, a folder, or in a folder that is missing or not writable.
    """
    path = Path(path)
    folder = path.absolute().parent
    if path.suffix.lower() not in endings:
        better = f"{path.stem or 'out'}{endings[0]}"
        raise UserError(f"{path} is not named {' or '.join(endings)}, as what is written here: try {better}")
    try:
        is_folder, has_folder = path.is_dir(), folder.is_dir()
    except (OSError, ValueError) as error:  # too long a name, a NUL inside
        raise UserError(f"{path} cannot be a file ({error}): choose another name") from error
    if is_folder:
        raise UserError(f"{path} is a folder: name a file in it")
    if not has_folder:
        raise UserError(f"the folder {folder} does not exist: create it first (mkdir -p)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"the folder {folder} is not writable: choose another for the output")
    return path


class FileWriter:
    """`with` it: a media file that grows under a temporary name in the folder it is meant for.

    Leaving the block normally finishes it, syncs it and gives it its name, leaving it by an exception removes
    it. Subclasses add streams and write.
    """

    options: ClassVar[dict[str, str]] = {}

    def __init__(self, path: Path, form: str, tags: dict[str, str]) -> None:
        """`form`: name of the container, as FFmpeg calls it."""
        self.path, self.form, self.tags = path, form, tags
        self.packets = 0

    def __enter__(self) -> Self:
        try:
            handle, name = tempfile.mkstemp(
                prefix=f".{self.path.stem[:40]}.", suffix=".part", dir=self.path.absolute().parent
            )
        except OSError as error:
            raise UserError(
                f"cannot write into {self.path.absolute().parent} ({error.strerror}): choose another folder"
            ) from error
        os.close(handle)
        self._temporary = Path(name)
        try:
            self._container = av.open(
                f"file:{self._temporary}", "w", format=self.form, options=dict(self.options)
            )
            self._container.metadata.update(self.tags)
            self.add_streams(self._container)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        return self

    def add_streams(self, container: av.container.OutputContainer) -> None:
        """Called once, before anything is written."""
        raise NotImplementedError

    def encoders(self) -> list[av.AudioStream | av.VideoStream]:
        """The streams that are encoded here; they are flushed at the end."""
        raise NotImplementedError

    def mux(self, packets: Iterable[av.Packet]) -> None:
        """Into the file, in the order in which players want them."""
        for packet in packets:
            self._container.mux_one(packet)
            self.packets += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._abandon()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        try:
            for stream in self.encoders():
                self.mux(stream.encode(None))
            self._container.close()
            if self.form in ("mp4", "mov", "ipod"):
                _check_boxes(self._temporary)
            else:
                _check_packets(self._temporary, self.packets)
            with self._temporary.open("rb+") as file:
                os.fsync(file.fileno())
            self._temporary.chmod(0o644)  # mkstemp makes private files
            self._temporary.replace(self.path)
        except (OSError, av.FFmpegError) as error:
            raise cannot_write(self.path, error) from error

    def _abandon(self) -> None:
        with contextlib.suppress(OSError):  # the very error that brought us here
            self._container.close()


class Voice24k:
    """An encoder's stream of mono sound at 24 kHz; times come from the count of samples alone."""

    def __init__(self, container: av.container.OutputContainer, codec: str) -> None:
        stream: Any = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        if codec in LOSSY:
            stream.bit_rate = AUDIO_BITS_PER_SECOND
        self.stream = stream
        self.samples = 0

    def encode(self, pcm: np.ndarray) -> list[av.Packet]:
        """Packets of pcm (samples,) float32 in [-1, 1]; there may be none."""
        if not len(pcm):
            return []
        samples = np.ascontiguousarray(pcm, np.float32).clip(-1, 1)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate = SAMPLE_RATE
        sound.pts, sound.time_base = self.samples, Fraction(1, SAMPLE_RATE)
        self.samples += len(pcm)
        packets: list[av.Packet] = self.stream.encode(sound)
        return packets


class Pictures25:
    """An encoder's H.264 stream of square frames, 25 a second; times come from the count alone."""

    def __init__(self, container: av.container.OutputContainer, size: int) -> None:
        assert size % 2 == 0, f"yuv420p needs even frames, not {size}"
        self.stream = container.add_stream("libx264", rate=FRAME_RATE, options=H264)
        self.stream.width = self.stream.height = size
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        self.frames = 0

    def encode(self, frame: np.ndarray) -> list[av.Packet]:
        """Packets of one frame (size, size, 3) uint8 RGB."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = self.frames, Fraction(1, FRAME_RATE)
        self.frames += 1
        return self.stream.encode(picture)


class Mp4Writer(FileWriter):
    """`with Mp4Writer(path, size) as writer: writer.write(pcm, frames)` for each chunk."""

    options: ClassVar[dict[str, str]] = FASTSTART

    def __init__(self, path: str | Path, size: int, tags: dict[str, str] | None = None) -> None:
        """`size`: width and height of the frames, even. `tags`: further mp4 metadata."""
        super().__init__(check_output(path), "mp4", {**(tags or {}), **TAGS})
        self.size = size

    def add_streams(self, container: av.container.OutputContainer) -> None:
        self._pictures, self._sound = Pictures25(container, self.size), Voice24k(container, "aac")

    def encoders(self) -> list[av.AudioStream | av.VideoStream]:
        behind = self._sound.samples - self._pictures.frames * SAMPLE_RATE // FRAME_RATE
        assert abs(behind) <= SAMPLE_RATE // FRAME_RATE, "out of step"
        return [self._pictures.stream, self._sound.stream]

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append pcm (samples,) float32 in [-1, 1] and frames (n, size, size, 3) uint8; either may be empty.

        Raises:
            UserError: the disk is full, or the file can no longer be written.
        """
        try:
            for frame in frames:
                self.mux(self._pictures.encode(frame))
            self.mux(self._sound.encode(pcm))
        except OSError as error:
            raise cannot_write(self.path, error) from error


class SoundWriter(FileWriter):
    """Speech alone; the name's ending says how it is stored."""

    def __init__(self, path: str | Path) -> None:
        path = check_output(path, tuple(SOUND_FILES))
        form, self.codec = SOUND_FILES[path.suffix.lower()]
        super().__init__(path, form, TAGS)

    def add_streams(self, container: av.container.OutputContainer) -> None:
        self._sound = Voice24k(container, self.codec)

    def encoders(self) -> list[av.AudioStream | av.VideoStream]:
        return [self._sound.stream]

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append pcm (samples,) float32 in [-1, 1]; there are no frames.

        Raises:
            UserError: the disk is full, or the file can no longer be written.
        """
        try:
            self.mux(self._sound.encode(pcm))
        except OSError as error:
            raise cannot_write(self.path, error) from error


def _check_boxes(path: Path) -> None:
    """OSError unless the top-level boxes of an mp4 fill the file: a muxer may swallow a failed write."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        position, names = 0, []
        while position + 8 <= end:
            file.seek(position)
            header = file.read(16)
            size = int.from_bytes(header[:4], "big")
            names.append(header[4:8])
            position += int.from_bytes(header[8:16], "big") if size == 1 else size
            if size == 0:
                break
    if position != end or b"moov" not in names or b"mdat" not in names:
        raise OSError("the file came out incomplete; is the disk full?")


def _check_packets(path: Path, expected: int) -> None:
    """OSError unless about as many packets can be read back as were written; encoders' empty ones aside."""
    with path.open("rb") as file, av.open(file, "r") as container:
        found = sum(packet.size > 0 for packet in container.demux())
    if found < 0.99 * expected - 2:
        raise OSError("the file came out incomplete; is the disk full?")


def cannot_write(path: Path, error: OSError | av.FFmpegError) -> UserError:
    """The line about an output that cannot be finished."""
    reason = error.strerror or str(error)
    return UserError(
        f"{path} cannot be written ({reason}): free space or choose another folder; nothing is left behind"
    )
