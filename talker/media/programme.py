"""Sound as programmes: loudness by EBU R128, tempo, and decoding at any rate and layout, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyloudnorm
from numpy.typing import NDArray

from talker.media.sound import timed_frames
from talker.media.tracks import Damage, open_media

Samples = NDArray[np.float32]
BLOCK, STEP = 0.4, 0.1  # seconds of a gating block, and from one block to the next
CHUNK, WARM_UP = 10.0, 1.0  # seconds that are measured at once, and before them for the filters to settle
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS; LU below the loudness of what is above the first gate
OFFSET = 0.691  # dB, so that a 997 Hz sine in one channel has the loudness of its level


class LoudnessMeter:
    """Integrated loudness of samples that arrive in blocks. Memory does not grow, but for 10 values a second.

    pyloudnorm measures the gating blocks of 10 s at a time; the gates are applied to the blocks of the whole
    programme at the end.
    """

    def __init__(self, rate: int, channels: int = 1) -> None:
        """`channels`: 1 or 2."""
        self.rate, self.peak = rate, 0.0
        self._meter = pyloudnorm.Meter(rate, block_size=BLOCK, overlap=1 - STEP / BLOCK)
        self._held = np.zeros((0, channels), np.float32)
        self._settled = 0  # samples at the start of `_held` that have been measured
        self._blocks: list[float] = []

    def push(self, samples: Samples) -> None:
        """Append samples (channels, n)."""
        if samples.shape[1]:
            self.peak = max(self.peak, float(np.abs(samples).max()))
        self._held = np.concatenate([self._held, samples.T])
        chunk, block = round(CHUNK * self.rate), round((BLOCK - STEP) * self.rate)
        while len(self._held) >= self._settled + chunk + block + 1:
            self._measure(self._held[: self._settled + chunk + block])
            start = self._settled + chunk - round(WARM_UP * self.rate)
            self._held, self._settled = self._held[start:], round(WARM_UP * self.rate)

    def _measure(self, samples: NDArray[np.float32]) -> None:
        self._meter.integrated_loudness(samples.astype(np.float64))
        self._blocks += list(self._meter.blockwise_loudness)[round(self._settled / self.rate / STEP) :]

    def loudness(self) -> float:
        """Loudness in LUFS of all samples; -inf if nothing is above the gates. Ends the measurement."""
        rest = self._held
        if not self._blocks and len(rest) < round(BLOCK * self.rate):
            rest = np.pad(rest, ((0, round(BLOCK * self.rate) + 1 - len(rest)), (0, 0)))
        if len(rest) - self._settled >= round(BLOCK * self.rate):
            self._measure(rest)
        self._held = rest[:0]
        levels = np.array(self._blocks)
        levels = levels[levels >= ABSOLUTE_GATE]
        if not len(levels):
            return -np.inf
        return _mean(levels[levels > _mean(levels) + RELATIVE_GATE])


def _mean(levels: NDArray[np.float64]) -> float:
    """Loudness of several blocks: that of their mean power."""
    power = np.mean(10 ** ((levels + OFFSET) / 10))
    return float(10 * np.log10(power) - OFFSET)


def loudness_of(pieces: Iterable[Samples], rate: int) -> float:
    """Integrated loudness in LUFS of samples (channels, n), piece by piece."""
    meter: LoudnessMeter | None = None
    for samples in pieces:
        meter = meter or LoudnessMeter(rate, len(samples))
        meter.push(samples)
    return -np.inf if meter is None else meter.loudness()


def changed_tempo(pieces: Iterable[Samples], rate: int, factor: float) -> Iterator[Samples]:
    """Speech (1, n) per piece that is `factor` times as fast, at the same pitch, by FFmpeg's atempo."""
    if factor == 1:
        yield from pieces
        return
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="flt", layout="mono", time_base=Fraction(1, rate))
    source.link_to(tempo := graph.add("atempo", f"{factor:.6f}"))
    tempo.link_to(graph.add("abuffersink"))
    graph.configure()
    count = 0
    for piece in pieces:
        if not piece.shape[1]:
            continue
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece, np.float32), "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, count, Fraction(1, rate)
        count += piece.shape[1]
        graph.push(frame)
        yield from _pulled(graph)
    graph.push(None)
    yield from _pulled(graph)


def _pulled(graph: av.filter.Graph) -> Iterator[Samples]:
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.AudioFrame)
        yield frame.to_ndarray().reshape(1, -1).astype(np.float32)


def decode_programme(
    path: Path, track: int, rate: int, layout: str, start: Fraction, damage: Damage | None = None
) -> Iterator[Samples]:
    """Decode an audio track: samples (channels, n) float32 per piece, where the first sample is at `start`.

    Missing samples are replaced by silence.

    Args:
        path: the file.
        track: index of the stream.
        rate, layout: of the result, "mono" or "stereo".
        start: time in seconds of the first sample of the result.
        damage: counts what cannot be decoded.
    """
    channels = 1 if layout == "mono" else 2
    resampler = av.AudioResampler("fltp", layout, rate)
    skip: int | None = None  # samples to drop before `start`
    with open_media(path) as container:
        for silent, frame in timed_frames(container, track, damage):
            if skip is None:
                first = Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)
                skip = round((start - first) * rate)
                if skip < 0:
                    yield np.zeros((channels, -skip), np.float32)
                    skip = 0
            if silent:
                gap = np.zeros((channels, round(silent * rate / frame.sample_rate)), np.float32)
                skip, gap = max(0, skip - gap.shape[1]), gap[:, skip:]
                yield gap
            frame.pts = None
            for resampled in resampler.resample(frame):
                samples = np.nan_to_num(resampled.to_ndarray()).clip(-1, 1)
                skip, samples = max(0, skip - samples.shape[1]), samples[:, skip:]
                yield samples
        for resampled in resampler.resample(None) if skip is not None else ():
            yield np.nan_to_num(resampled.to_ndarray()).clip(-1, 1)
