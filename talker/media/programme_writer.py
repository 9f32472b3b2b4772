"""Writes a video with a new soundtrack. Everything else of the original file is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from talker.errors import UserError
from talker.media.display import display_matrix, pixel_aspect
from talker.media.encoders import AUDIO_BITS_PER_SECOND, LOSSY, MediaWriter, x264_options
from talker.media.files import VIDEO_FILES, cannot_write, error_reason
from talker.media.remux import COPIED_SOUND, CopiedStream, PacketReader, add_copy, has_ordered_packets
from talker.media.tracks import decode_packets, find_picture, find_sound_track, open_media

# Subtitles that can be copied, by container; Matroska takes those of any other container.
COPIED_TEXT: dict[str, tuple[str, ...]] = {"mp4": ("mov_text",), "mov": ("mov_text",), "webm": ("webvtt",)}
RE_ENCODED = (".mp4", ".m4v", ".mov", ".mkv")  # containers of videos that are encoded again
# Close to lossless. Pictures may be out of order, so that B-frames save space.
# One thread, so that the bytes do not depend on the number of cores.
VIDEO_QUALITY = {"crf": "12", "preset": "veryfast", "threads": "1"}
ENCODED_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")


class ProgrammeWriter(MediaWriter):
    """Writes a video, copied or encoded again, with a new first audio track.

    All other audio tracks, the subtitles, the chapters and the metadata are copied. Timestamps are shifted so
    that the first picture is at 0; the new sound starts there.

    Attributes:
        dropped: what of the original file the container cannot hold, one line each.
    """

    def __init__(
        self,
        path: Path,
        video: Path,
        start: Fraction,
        rate: int,
        layout: str,
        tags: dict[str, str],
        keep_sound: bool = False,
        encode: bool = False,
    ) -> None:
        """Prepare a writer.

        Args:
            path: the file to write, with an extension of VIDEO_FILES; RE_ENCODED if `encode`.
            video: the original file.
            start: time of its first picture in seconds.
            rate, layout: of the new sound, "mono" or "stereo".
            tags: metadata that is added to that of the original.
            keep_sound: whether the old sound becomes a second track. Otherwise it is dropped.
            encode: whether `write_frame` gives the pictures. Otherwise the packets are copied.
        """
        container_format, self.codec = VIDEO_FILES[path.suffix.lower()]
        super().__init__(path, container_format, tags)
        self.options |= {"fflags": "+bitexact"}  # without a random identifier in the file
        self.video, self.start, self.rate, self.layout = video, start, rate, layout
        self._delay = Fraction(0)
        if (
            container_format == "avi"
        ):  # has no timestamps: the first packet and the first sample start together
            with closing(PacketReader(video, "video", start)) as source:
                self.start = source.first_decoding_time()
            self._delay = start - self.start
        self.keep_sound, self.encode = keep_sound, encode
        self.dropped: list[str] = []
        self._readers: list[PacketReader] = []
        self._copied: list[CopiedStream] = []
        self._frames: Any = None
        self._samples = 0

    @property
    def seconds(self) -> float:
        """Length of the new sound so far."""
        return self._samples / self.rate

    def add_streams(self, container: av.container.OutputContainer) -> None:
        picture, old = find_picture(self.video), find_sound_track(self.video)
        with open_media(self.video) as source:
            # Matroska's keys are in capitals.
            kept = {key: value for key, value in source.metadata.items() if key.lower() not in self.tags}
            container.metadata.update(kept | {"title": source.metadata.get("title", self.tags["title"])})
            assert picture is not None
            self._add_picture(container, source.streams[picture])
            sound: Any = container.add_stream(self.codec, rate=self.rate, layout=self.layout)
            if self.codec in LOSSY:
                sound.bit_rate = AUDIO_BITS_PER_SECOND * (2 if self.layout == "stereo" else 1)
            sound.disposition = Disposition.default
            self._sound = sound
            for stream in source.streams:
                if stream.index == picture or (stream.index == old and not self.keep_sound):
                    continue
                if reason := self._add_other(container, stream):
                    self.dropped.append(f"the {stream.type} track {stream.index} was left out: {reason}")
            if chapters := source.chapters():
                container.set_chapters([_shifted(chapter, self.start) for chapter in chapters])
        channels = 1 if self.layout == "mono" else 2
        self.write(np.zeros((channels, round(self._delay * self.rate)), np.float32))

    def _add_picture(self, container: av.container.OutputContainer, track: Any) -> None:
        if not self.encode:
            self._copy(container, track, add_copy)
            return
        context = track.codec_context
        stream: Any = container.add_stream("libx264", options=VIDEO_QUALITY | x264_options())
        stream.width, stream.height = context.width, context.height
        stream.pix_fmt = encoded_format(context.format.name)
        stream.codec_context.time_base = stream.time_base = track.time_base
        if track.average_rate:
            stream.codec_context.framerate = track.average_rate
        if (aspect := pixel_aspect(track)) is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
            setattr(stream.codec_context, name, getattr(context, name))
        stream.set_display_matrix(_matrix_of(self.video, track.index))
        stream.metadata.update(_language(track))
        self._frames = stream

    def _add_other(self, container: av.container.OutputContainer, stream: Any) -> str:
        """Copy a further track; returns why it cannot be copied, or an empty string."""
        if stream.codec_context is None or stream.type not in ("audio", "subtitle"):
            return "its kind is not supported"
        codec: str = stream.codec_context.codec.canonical_name
        kept = (COPIED_SOUND if stream.type == "audio" else COPIED_TEXT).get(self.format)
        if kept is not None and codec not in kept:
            return f"{self.format} cannot hold {codec}"
        if stream.type == "audio" and not has_ordered_packets(self.video, "audio", stream.index):
            return "its timestamps are damaged"
        try:
            self._copy(container, stream, lambda target, track: target.add_stream_from_template(track))
        except (ValueError, av.FFmpegError) as error:
            return error_reason(error)
        return ""

    def _copy(self, container: av.container.OutputContainer, track: Any, add: Any) -> None:
        reader = PacketReader(self.video, track.type, self.start, track.index)
        self._readers.append(reader)
        copy = add(container, reader.track)
        copy.metadata.update(_language(track))
        if track.type != "video":
            copy.disposition = Disposition(0) if track.type == "audio" else track.disposition
        self._copied.append(CopiedStream(reader.packets(copy)))

    def write(self, pcm: np.ndarray) -> None:
        """Append samples (channels, n) float32 in [-1, 1], and what is copied up to their end.

        Raises:
            UserError: the file cannot be written, or its container does not support a track.
        """
        self._muxing(self._encoded_sound(pcm))

    def write_frame(self, frame: av.VideoFrame, seconds: Fraction) -> None:
        """Append a picture that is shown `seconds` after the first one."""
        frame.time_base = self._frames.codec_context.time_base
        frame.pts = round(seconds / frame.time_base)
        self._muxing(self._frames.encode(frame))

    def _encoded_sound(self, pcm: np.ndarray) -> Iterator[av.Packet]:
        if not pcm.shape[1]:
            return
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(pcm, np.float32).clip(-1, 1), format="fltp", layout=self.layout
        )
        frame.sample_rate = self.rate
        frame.pts, frame.time_base = self._samples, Fraction(1, self.rate)
        self._samples += pcm.shape[1]
        yield from self._sound.encode(frame)
        for copied in self._copied:
            yield from copied.until(self.seconds)

    def _muxing(self, packets: Iterable[av.Packet]) -> None:
        try:
            self.mux(packets)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        except av.FFmpegError as error:
            raise UserError(
                f"a track cannot be copied to {self.path.suffix} ({error_reason(error)}): convert the video "
                "to mkv first"
            ) from error

    def encoders(self) -> list[Any]:
        for copied in self._copied:
            self._muxing(copied.until(float("inf")))
        return [self._sound, *([] if self._frames is None else [self._frames])]

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            for reader in self._readers:
                reader.close()


def encoded_format(name: str) -> str:
    """The pixel format in which a video is encoded again: its own, or the closest one."""
    own = name.replace("yuvj", "yuv")
    deep = av.VideoFormat(name).components[0].bits > 8
    return own if own in ENCODED_FORMATS else "yuv420p10le" if deep else "yuv420p"


def _matrix_of(video: Path, track: int) -> tuple[int, ...] | None:
    """The display matrix of the first frame."""
    with open_media(video) as container:
        for _, frames in decode_packets(container, container.streams[track]):
            for frame in frames:
                return display_matrix(frame)
    return None


def _language(track: Any) -> dict[str, str]:
    """Title and language of a track."""
    return {key: value for key, value in track.metadata.items() if key in ("language", "title")}


def _shifted(chapter: Any, start: Fraction) -> Any:
    """A chapter whose times are counted from `start`."""
    shift = round(start / chapter["time_base"])
    return chapter | {"start": max(0, chapter["start"] - shift), "end": chapter["end"] - shift}
