"""New pictures to given sound, and new sound to given pictures: what was given is copied, not coded again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np

from talker.errors import UserError
from talker.media.audio import CLOSED, readable
from talker.media.containers import VIDEO_FILES, check_dub
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
from talker.media.packets import Beside, Source, in_order
from talker.media.sound import timed

# What mp4 holds and players play.
MP4_SOUND = ("aac", "mp3", "opus", "ac3", "eac3", "alac", "flac")
LOWEST_MP3_RATE = 16_000  # below is MPEG-2.5, which mp4 does not know
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


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
        self.size, self.sound = size, sound
        self.source = Source(sound, "audio", first_sample(sound))

    def add_streams(self, container: av.container.OutputContainer) -> None:
        self._pictures = Pictures25(container, self.size)
        track = self.source.track
        self._coded: list[Any] = []
        low = track.codec.canonical_name == "mp3" and track.rate < LOWEST_MP3_RATE
        if track.codec.canonical_name in MP4_SOUND and not low and in_order(self.sound, "audio"):
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
        except av.FFmpegError as error:
            raise UserError(
                f"mp4 cannot hold the sound of {self.sound} as it is: convert it to wav"
            ) from error

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
        first = start
        if form == "avi":  # knows no times: what is decoded first and what is heard first begin together
            with closing(Source(video, "video", start)) as source:
                first = source.first_decoded()
        self.source, self._waits = Source(video, "video", first), start - first

    def add_streams(self, container: av.container.OutputContainer) -> None:
        into = container.add_stream_from_template(self.source.track, opaque=True)
        self._beside = Beside(self.source.packets(into))
        self._speech = Voice24k(container, self.codec)
        self.mux(self._speech.encode(np.zeros(round(self._waits * SAMPLE_RATE), np.float32)))

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


def _silence(like: av.AudioFrame, samples: int) -> av.AudioFrame:
    silence = av.AudioFrame(format=like.format.name, layout=like.layout.name, samples=samples)
    value = 128 if like.format.name.startswith("u8") else 0
    for plane in silence.planes:
        plane.update(bytes([value]) * plane.buffer_size)
    silence.sample_rate = like.sample_rate
    return silence
