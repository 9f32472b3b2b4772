"""Readers of sound and video: any file that PyAV decodes -> mono samples at 24 kHz, or frames at 25 Hz."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torchaudio
from torch import Tensor

from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.errors import UserError
from talker.media.display import HLG, PQ, SDR_WHITE, displayed, pixel_aspect, reference_white, square_size
from talker.media.files import cannot_read, check_input
from talker.media.sound import SAMPLE_RATES, decode_audio, open_sound, timed_frames
from talker.media.tracks import Damage, Sound, channels_of, decode_packets, find_picture, open_media

MAX_VOICE_SECONDS = 30.0  # the speaker embedding hardly changes after this; more only costs time
MIN_VOICE_SECONDS = 0.3
SILENCE_RMS = 1e-3  # -60 dBFS, in the loudest tenth of a second
MAX_FRAME_PIXELS = 8192 * 4320  # 8K
MAX_STILL_SECONDS = 600  # time for which frames stay on screen beyond one second each, summed over a file
# Timestamps are rounded, for example to milliseconds: by this share of a frame, a frame may end early.
FRAME_SLACK = Fraction(1, 10)
WHITE_FRAMES = 50  # frames at the start of an HDR video from which its white is measured


def resample(pcm: Tensor, rate: int) -> Tensor:
    """Samples (..., N) at `rate` Hz -> (..., about N * 24000 / rate) at 24 kHz.

    The filter for a rate that has no common factor with 24 kHz would need gigabytes. So the ratio is rounded
    to the nearest fraction with a denominator of at most 1000, an error of at most one part per million.
    """
    if rate == SAMPLE_RATE:
        return pcm
    ratio = resample_ratio(rate)
    return _resampler(ratio.numerator, ratio.denominator)(pcm)


def resample_ratio(rate: int) -> Fraction:
    """`rate` / 24 kHz, as `resample` rounds it."""
    return Fraction(rate, SAMPLE_RATE).limit_denominator(1000)


@functools.lru_cache(maxsize=8)
def _resampler(before: int, after: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(before, after)


def read_audio(path: str | Path, seconds: float = MAX_VOICE_SECONDS) -> Tensor:
    """Read the start of a file's sound: (N,) float32, mono, 24 kHz, in [-1, 1].

    Accepts any container and codec that PyAV reads, videos included, at any sample rate, sample width and
    number of channels; `find_sound` chooses the track and its channels. Packets that cannot be decoded are
    skipped. The duration in the header is ignored: decoding stops after `seconds`.

    Raises:
        UserError: the file is missing or unreadable, or has no sound.
    """
    path = check_input(path)
    with open_sound(path, seconds) as (container, sound):
        pcm, rate = _decode_mono(container, sound, seconds)
    if not len(pcm):
        raise _no_sound(path)
    if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
        raise UserError(f"{path} claims {rate} samples per second: convert it to a usual rate such as 24000")
    return resample(torch.from_numpy(pcm), rate)


def read_voice(path: str | Path) -> Tensor:
    """Read the recording of a voice, at most 30 s of it: (N,) float32, mono, 24 kHz, in [-1, 1].

    Raises:
        UserError: the recording is unreadable, shorter than 0.3 s, or silent.
    """
    pcm = read_audio(path)
    seconds = len(pcm) / SAMPLE_RATE
    if seconds < MIN_VOICE_SECONDS:
        raise UserError(
            f"{path} is {seconds:.2f} s long: give at least {MIN_VOICE_SECONDS} s of speech, better 5 s"
        )
    tenth = SAMPLE_RATE // 10
    tenths = pcm[: len(pcm) // tenth * tenth].view(-1, tenth)
    if tenths.square().mean(1).max().sqrt() < SILENCE_RMS:
        raise UserError(f"{path} is silent: give a recording of speech")
    return pcm


def stream_audio(path: str | Path, damage: Damage | None = None) -> Iterator[Tensor]:
    """Read a file's sound piece by piece: tensors (n,) float32, mono, 24 kHz, in [-1, 1].

    `find_sound` chooses the track and its channels, once for the whole file. Memory does not grow with the
    length of the file. Every sample is at the time that its timestamp gives,
    counted from the first sample; missing and damaged samples are replaced by silence, and counted in
    `damage`. The duration in the header is ignored.

    Raises:
        UserError: the file is missing or unreadable, or has no sound.
    """
    path = check_input(path)
    resampler: StreamResampler | None = None
    with open_sound(path) as (container, sound):
        for silent, frame in timed_frames(container, sound.track, damage):
            resampler = resampler or StreamResampler(frame.sample_rate)
            while silent:
                part = min(silent, resampler.rate)
                yield from resampler.push(np.zeros(part, np.float32))
                silent -= part
            yield from resampler.push(np.nan_to_num(sound.mono(channels_of(frame))).clip(-1, 1))
    if resampler is None:
        raise _no_sound(path)
    yield from resampler.push(np.zeros(0, np.float32), last=True)


def blocks(pieces: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Regroup a stream of samples (n,) into blocks (size,); the last block may be shorter."""
    held: list[Tensor] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= size:
            *whole, rest = torch.cat(held).split(size)
            if len(rest) == size:
                whole, rest = [*whole, rest], rest[:0]
            yield from whole
            held, count = [rest], len(rest)
    if count:
        yield torch.cat(held)


def _no_sound(path: Path) -> UserError:
    return UserError(f"{path} has no sound that can be decoded: convert it to wav or record it again")


def _decode_mono(
    container: av.container.InputContainer, sound: Sound, seconds: float
) -> tuple[np.ndarray, int]:
    """The first `seconds` of the sound, (N,) float32 mono in [-1, 1], and its sample rate."""
    parts: list[np.ndarray] = []
    rate = count = 0
    for frame in decode_audio(container, sound.track):
        rate = rate or frame.sample_rate
        if frame.sample_rate != rate:
            raise UserError("the sample rate changes in the middle of the recording: convert it to wav first")
        parts.append(sound.mono(channels_of(frame)))
        count += len(parts[-1])
        if rate <= 0 or count >= seconds * rate:
            break
    if not parts:
        return np.zeros(0, np.float32), rate
    return np.nan_to_num(np.concatenate(parts)[: int(seconds * max(rate, 1))]).clip(-1, 1), rate


class StreamResampler:
    """`resample` for a stream: every block is resampled with enough context to equal the whole resampled."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        ratio = resample_ratio(rate)
        # Samples are counted in groups: each `_before` input samples give `_after` output samples.
        self._before, self._after = ratio.numerator, ratio.denominator
        # The filter covers about seven periods of the slower rate on either side.
        self._context = -(-8 * max(self._before, self._after) // self._after // self._before) + 1
        self._block = max(1, rate // 5 // self._before)
        self._held = np.zeros(0, np.float32)
        self._done = 0  # groups at the start of `_held` whose output was returned; kept as context

    def push(self, pcm: np.ndarray, last: bool = False) -> Iterator[Tensor]:
        """Append input samples; return the output samples (n,) that have become known."""
        if self._before == self._after:
            if len(pcm):
                yield torch.from_numpy(np.ascontiguousarray(pcm))
            return
        self._held = np.concatenate([self._held, pcm])
        while True:
            available = len(self._held) // self._before - self._done - self._context
            if not last and available < self._block:
                return
            stop = None if last else (self._done + self._block + self._context) * self._before
            resampled = resample(torch.from_numpy(self._held[:stop]), self.rate)
            first = self._done * self._after
            yield resampled[first:] if last else resampled[first : first + self._block * self._after]
            if last:
                return
            done = self._done + self._block
            drop = max(0, done - self._context)
            self._held, self._done = self._held[drop * self._before :], done - drop


@dataclass(frozen=True)
class SourceFrame:
    """A decoded frame.

    Attributes:
        frame: the frame in its own format.
        seconds: its time after the first frame.
        aspect, white: see `displayed`.
    """

    frame: av.VideoFrame
    seconds: Fraction
    aspect: Fraction | None
    white: float

    @property
    def pixels(self) -> np.ndarray:
        """Pixels (H, W, 3) uint8 RGB as a viewer sees them."""
        return displayed(self.frame, self.aspect, self.white)


class VideoReader:
    """Reads a video at 25 frames per second: frames (H, W, 3) uint8 RGB, as a viewer sees them.

    `find_picture` chooses the track. `displayed` makes the frames upright, with square pixels and in standard
    dynamic range.

    Frame n is what a viewer sees n / 25 seconds after the first frame. Any frame rate, constant or variable,
    is read by the timestamps: a frame stays on screen until the next one. One frame is in memory at a time.
    Each iteration reads the file from the start.

    Attributes:
        start: time of the first frame in seconds, once it has been read.
        seconds: time from there to the end of the last frame that has been read.
        damage: what could not be decoded so far.
        turn: quarter turns, counter-clockwise, of the following frames.
    """

    def __init__(self, path: str | Path, max_pixels: int = MAX_FRAME_PIXELS, turn: int = 0) -> None:
        """Check that the file exists.

        Args:
            path: the video file.
            max_pixels: limit of the width times the height of a frame.
            turn: see the attributes.

        Raises:
            UserError: the file does not exist.
        """
        self.path, self.max_pixels, self.turn = check_input(path), max_pixels, turn
        self.start = self.seconds = Fraction(0)
        self.damage = Damage()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Raises UserError if the file is unreadable, has no video track, or its frames are too large."""
        sent, self.damage = 0, Damage()
        with self._opened() as (container, stream):
            aspect, white = pixel_aspect(stream), self._white(stream.index)
            for frame, stop in self._frame_spans(container, stream):
                pixels = displayed(frame, aspect, white) if sent < stop else None
                while pixels is not None and sent < stop:
                    yield np.ascontiguousarray(np.rot90(pixels, self.turn))
                    sent += 1
        if not sent:
            raise UserError(f"{self.path} has no frame that can be decoded: convert it to mp4 first")

    def source_frames(self) -> Iterator[SourceFrame]:
        """Every decoded frame at its own time. Raises UserError as the iteration over frames."""
        self.damage = Damage()
        with self._opened() as (container, stream):
            aspect, white = pixel_aspect(stream), self._white(stream.index)
            for frame, time in self._timed_frames(container, stream):
                yield SourceFrame(frame, time, aspect, white)

    @contextmanager
    def _opened(self) -> Iterator[tuple[av.container.InputContainer, Any]]:
        """The container and the track of the picture. Errors of PyAV become UserError."""
        try:
            track = find_picture(self.path)
            if track is None:
                raise UserError(f"{self.path} has no video track: give a video file")
            with open_media(self.path) as container:
                stream: Any = container.streams[track]
                self._limit_frame_size(stream)
                yield container, stream
        except (av.FFmpegError, OSError) as error:
            raise cannot_read(self.path, "video", error) from error

    def _frame_spans(
        self, container: av.container.InputContainer, stream: Any
    ) -> Iterator[tuple[av.VideoFrame, int]]:
        """Each decoded frame with the number, at 25 per second, of the first output frame after it."""
        held: av.VideoFrame | None = None
        for frame, time in self._timed_frames(container, stream):
            if held is not None:
                yield held, ceil(time * FRAME_RATE - FRAME_SLACK)
            held = frame
        if held is not None:
            yield held, max(1, ceil(self.seconds * FRAME_RATE - FRAME_SLACK))

    def _timed_frames(
        self, container: av.container.InputContainer, stream: Any
    ) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Each decoded frame with its time in seconds after the first one. Sets `start` and `seconds`."""
        shown: Fraction | None = None
        still = Fraction(0)
        usual = 1 / Fraction(stream.average_rate or FRAME_RATE)
        for frame in _decode_video(container, stream, self.damage):
            time = Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)
            if shown is None:
                self.start, shown = time, Fraction(0)
            time -= self.start
            still += max(Fraction(0), time - shown - 1)
            if time < shown or still > MAX_STILL_SECONDS:
                raise UserError(f"{self.path} has timestamps that jump: convert it to mp4 first")
            shown = time
            duration = Fraction(frame.duration or 0) * Fraction(frame.time_base or 0)
            self.seconds = shown + (duration if usual / 2 <= duration < 10 * usual else usual)
            yield frame, time

    def _white(self, track: int) -> float:
        """See `reference_white`; measured once per video, so that the brightness does not change in it."""
        with open_media(self.path) as container:
            stream: Any = container.streams[track]
            if stream.codec_context is None or stream.codec_context.color_trc not in (PQ, HLG):
                return SDR_WHITE
            self._limit_frame_size(stream)
            return reference_white(list(islice(_decode_video(container, stream), 0, WHITE_FRAMES, 10)))

    def _limit_frame_size(self, stream: Any) -> None:
        context = stream.codec_context
        if context is None:
            return
        width, height = square_size(context.width, context.height, pixel_aspect(stream))
        if width * height > self.max_pixels:
            raise UserError(
                f"{self.path} has frames of {width} x {height} pixels, above the limit of "
                f"{self.max_pixels:,}: scale the video down first"
            )
        context.options = {"max_pixels": str(self.max_pixels)}  # for frames larger than the header claims


def read_frames(path: str | Path, seconds: float = float("inf")) -> Iterator[np.ndarray]:
    """The frames of the first `seconds` of a `VideoReader`, one at a time.

    Raises:
        UserError: the file is missing or unreadable, or has no video track.
    """
    for number, frame in enumerate(VideoReader(path)):
        if number >= seconds * FRAME_RATE:
            return
        yield frame


def _decode_video(
    container: av.container.InputContainer, stream: Any, damage: Damage | None = None
) -> Iterator[av.VideoFrame]:
    """Decoded frames with the time at which they are shown. Packets that cannot be decoded are skipped."""
    # AVI gives H.264 frames the times at which they are decoded: the right times, in the wrong order.
    times_in_order = container.format.name != "avi" or stream.codec_context.codec.canonical_name != "h264"
    due: list[int] = []
    for packet, frames in decode_packets(container, stream, damage=damage):
        if not times_in_order and packet.size and packet.pts is not None:
            heapq.heappush(due, packet.pts)
        for frame in frames:
            if due:
                frame.pts = heapq.heappop(due)
            yield frame
