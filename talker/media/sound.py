"""The sound of a file or a stream of any length, piece by piece: at 24 kHz, in step with its timestamps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from talker.errors import UserError
from talker.media.audio import (
    CLOSED,
    RATES,
    SAMPLE_RATE,
    decoded_frames,
    mono,
    readable,
    reason,
    resample,
    resample_ratio,
)

PIECE = 480  # samples, 20 ms: the grain in which loudness is measured
FRAME = 960  # samples of a video frame
SPEECH_LEVEL = 0.075  # root mean square of the louder pieces of what the models learned from
LOUD = 0.02  # of the loudest piece's power: such pieces are speech and not its gaps
MOST_GAIN = 30.0
SILENCE_POWER = 1e-6  # -60 dBFS
SPEECH_BELOW = 10**-3.5  # 35 dB under the loud pieces is no speech any more
MEMORY_SECONDS = 10.0
# Timestamps that jump further than this are wrong; a smaller gap in the recording is silence.
WIDEST_GAP = 60.0
STEP = 0.05  # seconds by which a timestamp may differ from the count of samples


@dataclass(frozen=True)
class Survey:
    """What a first pass over a recording found: its length, and the power of every 20 ms."""

    samples: int
    power: np.ndarray

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / SAMPLE_RATE

    @property
    def frames(self) -> int:
        """Video frames that cover it: the last one may stand a little longer than the sound."""
        return -(-self.samples // FRAME)

    @property
    def level(self) -> float:
        """Root mean square of the louder pieces; 0 where all is silent."""
        return _level(self.power)

    @property
    def speaks(self) -> np.ndarray:
        """(frames,) bool: whether there is sound, other than background, in each video frame."""
        if not len(self.power):
            return np.zeros(self.frames, bool)
        padded = np.resize(np.append(self.power, 0.0), 2 * self.frames)
        padded[len(self.power) :] = 0.0
        loud = max(float(np.quantile(self.power, 0.95)) * SPEECH_BELOW, SILENCE_POWER)
        speaking: np.ndarray = padded.reshape(-1, 2).max(1) > loud
        return speaking


def survey(path: str | Path) -> Survey:
    """Listen to a whole file once; memory stays small (0.7 MB an hour).

    Raises:
        UserError: as `pieces`.
    """
    return surveyed(pieces(path))


def surveyed(parts: Iterable[Tensor]) -> Survey:
    """`survey` of samples (n,) that come in any parts."""
    samples, power = 0, [np.zeros(0, np.float32)]
    for block in blocks(parts, PIECE * 50):
        samples += len(block)
        whole = block[: len(block) // PIECE * PIECE].view(-1, PIECE)
        power.append(whole.square().mean(1).numpy())
    return Survey(samples, np.concatenate(power))


def pieces(path: str | Path) -> Iterator[Tensor]:
    """The first audio track of a file as pieces (n,) float32 mono at 24 kHz, one after the other.

    Every sample stands where the file's timestamps put it, counted from its first: what is damaged or missing
    in the middle is silence. What the header claims is never believed.

    Raises:
        UserError: missing, unreadable, or without any sound.
    """
    path = readable(path)
    stream: _Resampled | None = None
    try:
        with path.open("rb") as file, av.open(file, "r", options=CLOSED) as container:
            if not container.streams.audio:
                raise UserError(
                    f"{path} holds no audio track: give a recording of speech (wav, mp3, m4a, ...)"
                )
            for silent, frame in timed(container):
                stream = stream or _Resampled(frame.sample_rate)
                while silent:
                    part = min(silent, stream.rate)
                    yield from stream.push(np.zeros(part, np.float32))
                    silent -= part
                yield from stream.push(np.nan_to_num(mono(frame)).clip(-1, 1))
    except (av.FFmpegError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as audio ({reason(error)}): try a wav, mp3, m4a or ogg file"
        ) from error
    if stream is None:
        raise UserError(f"{path} holds no sound that can be decoded: convert it to wav or record it again")
    yield from stream.push(np.zeros(0, np.float32), last=True)


def blocks(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same samples in blocks (size,), the last one shorter if it must be."""
    held: list[Tensor] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        if count >= size:
            *whole, rest = torch.cat(held).split(size)
            if len(rest) == size:
                whole, rest = [*whole, rest], rest[:0]
            yield from whole
            held, count = [rest], len(rest)
    if count:
        yield torch.cat(held)


class Leveller:
    """Brings speech of any loudness to the level the models learned from, block by block.

    With a known level the gain is constant. Without one it follows the speech of the last ten seconds, the
    present block included, and glides from block to block; silence leaves it where it was.
    """

    def __init__(self, level: float | None = None) -> None:
        """`level`: root mean square of the speech, as `Survey.level` has it."""
        self._gain = None if level is None else _gain(level)
        self._fixed = level is not None
        self._power: deque[float] = deque(maxlen=round(MEMORY_SECONDS * SAMPLE_RATE / PIECE))

    def __call__(self, block: Tensor) -> Tensor:
        """A block (n,), levelled; its samples stay in [-1, 1]."""
        if self._fixed:
            assert self._gain is not None
            return (block * self._gain).clamp(-1, 1)
        whole = block[: len(block) // PIECE * PIECE].view(-1, PIECE)
        self._power.extend(whole.square().mean(1).tolist())
        heard = np.array(self._power)
        if not len(heard) or heard.max() < SILENCE_POWER:
            return block
        before, self._gain = self._gain, _gain(_level(heard))
        ramp = torch.linspace(self._gain if before is None else before, self._gain, len(block))
        return (block * ramp).clamp(-1, 1)


def _level(power: np.ndarray) -> float:
    loudest = float(power.max(initial=0.0))
    if loudest < SILENCE_POWER:
        return 0.0
    return float(np.sqrt(power[power > LOUD * loudest].mean()))


def _gain(level: float) -> float:
    return min(SPEECH_LEVEL / level, MOST_GAIN) if level else 1.0


def timed(container: av.container.InputContainer) -> Iterator[tuple[int, av.AudioFrame]]:
    """Decoded frames of the first audio track, each with the number of silent samples missing before it.

    Raises:
        UserError: the sample rate is absurd, or changes.
    """
    count, rate, start = 0, 0, None
    for frame in decoded_frames(container):
        rate = rate or frame.sample_rate
        if frame.sample_rate != rate or not RATES[0] <= rate <= RATES[1]:
            raise UserError(
                f"the recording's sample rate is {frame.sample_rate}, or changes: convert it to wav first"
            )
        silent = 0
        if frame.pts is not None and frame.time_base:
            time = float(frame.pts * frame.time_base)
            start = time if start is None else start
            gap = time - start - count / rate
            silent = round(gap * rate) if STEP < gap <= WIDEST_GAP else 0
        count += silent + frame.samples
        yield silent, frame


class _Resampled:
    """`resample`, for a stream: blocks with enough context on both sides give the samples of the whole."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        ratio = resample_ratio(rate)
        self._before, self._after = ratio.numerator, ratio.denominator
        # The filter reaches about seven periods of the slower rate to either side.
        self._context = -(-8 * max(self._before, self._after) // self._after // self._before) + 1
        self._block = max(1, rate // 5 // self._before)
        self._held = np.zeros(0, np.float32)
        self._passed = 0  # groups of `before` samples in front of `held` whose output is already given

    def push(self, pcm: np.ndarray, last: bool = False) -> Iterator[Tensor]:
        """Samples in, samples out."""
        if self._before == self._after:
            if len(pcm):
                yield torch.from_numpy(np.ascontiguousarray(pcm))
            return
        self._held = np.concatenate([self._held, pcm])
        while True:
            room = len(self._held) // self._before - self._passed - self._context
            if not last and room < self._block:
                return
            stop = None if last else (self._passed + self._block + self._context) * self._before
            made = resample(torch.from_numpy(self._held[:stop]), self.rate)
            first = self._passed * self._after
            yield made[first:] if last else made[first : first + self._block * self._after]
            if last:
                return
            done = self._passed + self._block
            keep = max(0, done - self._context)
            self._held, self._passed = self._held[keep * self._before :], done - keep
