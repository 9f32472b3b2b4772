"""Writers of media files: generated video, or speech alone. A file is complete or does not exist."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import av
import numpy as np

from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.errors import UserError
from talker.media.files import CLIP_FILES, SOUND_FILES, cannot_write, check_output, error_reason

# Encoder options. Without B-frames the decoding order is the presentation order: no player can shift video
# against sound.
VIDEO_OPTIONS = {
    "libx264": {"crf": "18", "preset": "veryfast", "bf": "0"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0"},
}
CPU_INFO = Path("/proc/cpuinfo")
AUDIO_BITS_PER_SECOND = 96_000
LOSSY = ("aac", "libmp3lame", "libopus", "mp2", "wmav2")
FASTSTART = {"movflags": "+faststart"}
BT709 = 1


@functools.cache
def x264_options() -> dict[str, str]:
    """Options with which x264 writes the same bytes every time.

    Its AVX-512 code does not: 3 % of encodings differ from the usual one, see docs/log.md. AVX2 is as fast.
    """
    try:
        return {"x264-params": "asm=avx2"} if "avx512f" in CPU_INFO.read_text() else {}
    except OSError:  # not Linux
        return {}


class MediaWriter(ABC):
    """Base class of the writers, a context manager: it writes to a temporary file in the output's folder.

    When the block ends normally, the file is completed, checked, synchronised to disk and renamed to `path`.
    When it ends by an exception, the temporary file is removed and an existing file at `path` is kept.
    """

    def __init__(self, path: Path, container_format: str, tags: dict[str, str]) -> None:
        """Prepare a writer; the block creates the file.

        Args:
            path: the file to write.
            container_format: FFmpeg's name of the container.
            tags: metadata of the file.
        """
        self.path, self.format, self.tags = path, container_format, tags
        self.options = FASTSTART if container_format in ("mp4", "mov") else {}
        self.packets = 0

    def __enter__(self) -> Self:
        folder = self.path.absolute().parent
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.stem[:40]}.", suffix=".part", dir=folder)
        except OSError as error:
            raise UserError(
                f"cannot write into {folder} ({error_reason(error)}): choose another folder"
            ) from error
        os.close(handle)
        self._temporary = Path(name)
        try:
            self._container = av.open(
                f"file:{self._temporary}", "w", format=self.format, options=dict(self.options)
            )
            self._container.metadata.update(self.tags)
            self.add_streams(self._container)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        return self

    @abstractmethod
    def add_streams(self, container: av.container.OutputContainer) -> None:
        """Add the streams of the file; called once, before anything is written."""

    @abstractmethod
    def encoders(self) -> list[av.AudioStream | av.VideoStream]:
        """The streams that are encoded here and must be flushed; called once, at the end."""

    def mux(self, packets: Iterable[av.Packet]) -> None:
        """Write packets of any stream."""
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
            with self._temporary.open("rb+") as file:
                if self.format == "gif":
                    add_gif_comment(file, self.tags.get("comment", ""))
                # FFmpeg does not report every failed write.
                if self.format in ("mp4", "mov", "ipod"):
                    check_boxes(file)
                else:
                    check_packets(file, self.packets)
                os.fsync(file.fileno())
            self._temporary.chmod(0o644)  # mkstemp creates private files
            self._temporary.replace(self.path)
        except (OSError, av.FFmpegError) as error:
            raise cannot_write(self.path, error) from error

    def _abandon(self) -> None:
        with contextlib.suppress(OSError):  # closing may fail for the reason that ended the block
            self._container.close()


class AudioEncoder:
    """A stream of mono sound at 24 kHz; timestamps are the count of samples."""

    def __init__(self, container: av.container.OutputContainer, codec: str) -> None:
        """Add the stream to a container; `codec` is FFmpeg's name of the encoder."""
        stream: Any = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        if codec in LOSSY:
            stream.bit_rate = AUDIO_BITS_PER_SECOND
        self.stream = stream
        self.samples = 0

    def encode(self, pcm: np.ndarray) -> list[av.Packet]:
        """Encode pcm (samples,) float32 in [-1, 1]; returns the packets that are complete, perhaps none."""
        if not len(pcm):
            return []
        samples = np.ascontiguousarray(pcm, np.float32).clip(-1, 1)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = self.samples, Fraction(1, SAMPLE_RATE)
        self.samples += len(pcm)
        packets: list[av.Packet] = self.stream.encode(frame)
        return packets


class VideoEncoder:
    """A stream of square frames at 25 Hz; timestamps are the count of frames."""

    def __init__(self, container: av.container.OutputContainer, size: int, codec: str = "libx264") -> None:
        """Add the stream to a container.

        Args:
            container: the file.
            size: side of the frames in pixels, even.
            codec: a codec of VIDEO_OPTIONS.
        """
        assert size % 2 == 0, f"yuv420p needs an even frame size, not {size}"
        options = VIDEO_OPTIONS[codec] | (x264_options() if codec == "libx264" else {})
        stream: Any = container.add_stream(codec, rate=FRAME_RATE, options=options)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        self.stream, self.frames = stream, 0

    def encode(self, pixels: np.ndarray) -> list[av.Packet]:
        """Encode one frame (size, size, 3) uint8 RGB; returns the packets that are complete, perhaps none."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", threads=1)
        frame.pts, frame.time_base = self.frames, Fraction(1, FRAME_RATE)
        self.frames += 1
        packets: list[av.Packet] = self.stream.encode(frame)
        return packets


class GifEncoder:
    """A GIF stream of square frames at 25 Hz, each with a palette of its own."""

    def __init__(self, container: av.container.OutputContainer, size: int) -> None:
        """Add the stream to a container; `size` is the side of the frames in pixels."""
        # By default the encoder omits pixels whose index is unchanged, although the palette has changed.
        stream: Any = container.add_stream(
            "gif", rate=FRAME_RATE, options={"gifflags": "-offsetting-transdiff"}
        )
        stream.width = stream.height = size
        stream.pix_fmt = "pal8"
        self.stream, self.frames = stream, 0
        graph: Any = av.filter.Graph()
        self._graph = graph
        source = graph.add_buffer(width=size, height=size, format="rgb24", time_base=Fraction(1, FRAME_RATE))
        copies = graph.add("split")
        palette = graph.add("palettegen", "stats_mode=single")
        colours = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=3")
        source.link_to(copies)
        copies.link_to(colours, 0, 0)
        copies.link_to(palette, 1, 0)
        palette.link_to(colours, 0, 1)
        colours.link_to(graph.add("buffersink"))
        graph.configure()

    def encode(self, pixels: np.ndarray) -> list[av.Packet]:
        """Encode one frame (size, size, 3) uint8 RGB; returns the packets that are complete, perhaps none."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = self.frames, Fraction(1, FRAME_RATE)
        self.frames += 1
        self._graph.push(frame)
        packets: list[av.Packet] = []
        while True:
            try:
                paletted = self._graph.vpull()
            except (BlockingIOError, av.EOFError):
                return packets
            packets += self.stream.encode(paletted)


class VideoWriter(MediaWriter):
    """Writes sound and frames to a video file. The file extension selects container and codecs.

    with VideoWriter(path, size, tags) as writer:
        for chunk in chunks:
            writer.write(chunk.pcm, chunk.frames)
    """

    def __init__(self, path: str | Path, size: int, tags: dict[str, str] | None = None) -> None:
        """Prepare a writer.

        Args:
            path: the file to write, with an extension of CLIP_FILES. A GIF has no sound.
            size: side of the frames in pixels, even.
            tags: metadata of the file, see `generated_tags`.

        Raises:
            UserError: as `check_output`.
        """
        path = check_output(path, tuple(CLIP_FILES))
        container_format, self.video_codec, self.sound_codec = CLIP_FILES[path.suffix.lower()]
        super().__init__(path, container_format, tags or {})
        self.size = size

    def add_streams(self, container: av.container.OutputContainer) -> None:
        self._video: VideoEncoder | GifEncoder
        if self.sound_codec is None:
            self._video, self._audio = GifEncoder(container, self.size), None
        else:
            self._video = VideoEncoder(container, self.size, self.video_codec)
            self._audio = AudioEncoder(container, self.sound_codec)

    def encoders(self) -> list[av.AudioStream | av.VideoStream]:
        if self._audio is None:
            return [self._video.stream]
        difference = self._audio.samples - self._video.frames * HOP
        assert abs(difference) <= HOP, f"the sound is {difference} samples longer than the video"
        return [self._video.stream, self._audio.stream]

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append pcm (samples,) float32 in [-1, 1] and frames (n, size, size, 3) uint8; either may be empty.

        Raises:
            UserError: the file cannot be written, for example because the disk is full.
        """
        try:
            for frame in frames:
                self.mux(self._video.encode(frame))
            if self._audio is not None:
                self.mux(self._audio.encode(pcm))
        except OSError as error:
            raise cannot_write(self.path, error) from error


class SoundWriter(MediaWriter):
    """Writes speech alone; the file extension selects container and codec."""

    def __init__(self, path: str | Path, tags: dict[str, str] | None = None) -> None:
        """Prepare a writer.

        Args:
            path: the file to write, with an extension of SOUND_FILES.
            tags: metadata of the file, see `generated_tags`.

        Raises:
            UserError: as `check_output`.
        """
        path = check_output(path, tuple(SOUND_FILES))
        container_format, self.codec = SOUND_FILES[path.suffix.lower()]
        super().__init__(path, container_format, tags or {})

    def add_streams(self, container: av.container.OutputContainer) -> None:
        self._audio = AudioEncoder(container, self.codec)

    def encoders(self) -> list[av.AudioStream | av.VideoStream]:
        return [self._audio.stream]

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append pcm (samples,) float32 in [-1, 1]; `frames` is ignored.

        Raises:
            UserError: the file cannot be written, for example because the disk is full.
        """
        try:
            self.mux(self._audio.encode(pcm))
        except OSError as error:
            raise cannot_write(self.path, error) from error


def add_gif_comment(file: BinaryIO, comment: str) -> None:
    """Add a comment to a complete GIF file. FFmpeg writes no metadata to GIF files."""
    trailer = b";"
    file.seek(-1, os.SEEK_END)
    if file.read(1) != trailer:
        raise OSError("the file is incomplete; is the disk full?")
    file.seek(-1, os.SEEK_END)
    data = comment.encode("ascii", "replace")
    blocks = (data[start : start + 255] for start in range(0, len(data), 255))
    file.write(b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0" + trailer)


def check_boxes(file: BinaryIO) -> None:
    """Check that an mp4 file is complete: that its top-level boxes fill it, `moov` and `mdat` among them.

    Raises:
        OSError: the file is cut off.
    """
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
        raise OSError("the file is incomplete; is the disk full?")


def check_packets(file: BinaryIO, expected: int) -> None:
    """Check that a media file has the expected number of packets, less 1 % and 2 for encoders' empty packets.

    Raises:
        OSError: the file is cut off.
        av.FFmpegError: the file cannot be read.
    """
    file.seek(0)
    with av.open(file, "r") as container:
        found = sum(packet.size > 0 for packet in container.demux())
    if found < 0.99 * expected - 2:
        raise OSError("the file is incomplete; is the disk full?")
