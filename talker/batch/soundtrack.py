"""The new sound of a clip: speech in its places, at its loudness, and the old sound below it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
from numpy.typing import NDArray

from talker.batch.fit import Placement
from talker.clock import SAMPLE_RATE
from talker.media.programme import LoudnessMeter, Samples, changed_tempo, decode_programme, loudness_of
from talker.media.tracks import find_sound_track

BROADCAST = -23.0  # LUFS, by EBU R128
SOFTEST = -45.0  # LUFS; softer sound has no speech whose loudness could be matched
MOST_PEAK = 10 ** (-1 / 20)  # -1 dBFS
MOST_GAIN = 30.0  # dB
FADE = SAMPLE_RATE // 200  # samples; avoids clicks where speech is cut
DUCKED = 10 ** (-15 / 20)
RAMP_SECONDS = 0.2  # of the gain of the old sound
MIX_RATE, MIX_LAYOUT = 48_000, "stereo"
BLOCK = SAMPLE_RATE  # samples that are processed at once

Speech = Callable[[], Iterable[NDArray[np.float32]]]


class Track:
    """Mono speech at 24 kHz of a whole clip, in a temporary file.

    Attributes:
        samples: length.
        gain: factor that gives the wanted loudness.
        loudness: of the speech before the gain, in LUFS; -inf if it is silent.
        limited: whether the gain is smaller than wanted, because of the peaks.
    """

    def __init__(self, folder: Path, samples: int) -> None:
        """`folder`: of the temporary file, which `close` removes."""
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, prefix=".sound.")  # noqa: SIM115
        self.samples, self.gain, self.loudness, self.limited = samples, 1.0, -np.inf, False
        self._peak = 0.0

    def write(self, placed: Sequence[tuple[Placement, Speech]]) -> None:
        """Write the speech of all cues, in order, with silence between them."""
        meter, done = LoudnessMeter(SAMPLE_RATE), 0
        for placement, speech in placed:
            for piece in (*self._silence(placement.start - done), *_fitted(placement, speech)):
                self._file.write(np.ascontiguousarray(piece, "<f4").tobytes())
                meter.push(piece[None])
                done += len(piece)
        for piece in self._silence(self.samples - done):
            self._file.write(piece.astype("<f4").tobytes())
            meter.push(piece[None])
        self._file.flush()
        self._peak, self.loudness = meter.peak, meter.loudness()

    def set_loudness(self, wanted: float) -> None:
        """Set the gain to the loudness `wanted` in LUFS."""
        if np.isfinite(self.loudness):
            gain = 10 ** (min(wanted - self.loudness, MOST_GAIN) / 20)
            self.gain = min(gain, MOST_PEAK / self._peak)
            self.limited = self.gain < 0.99 * gain

    def blocks(self) -> Iterator[Samples]:
        """The speech (1, n) with its gain, block by block."""
        self._file.seek(0)
        while data := self._file.read(4 * BLOCK):
            yield (self.gain * np.frombuffer(data, "<f4")[None]).astype(np.float32)

    def _silence(self, samples: int) -> Iterator[NDArray[np.float32]]:
        while samples > 0:
            yield np.zeros(min(samples, BLOCK), np.float32)
            samples -= BLOCK

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


def _fitted(placement: Placement, speech: Speech) -> Iterator[NDArray[np.float32]]:
    """Speech of exactly `placement.samples` samples, faded at its start and its end."""
    left = placement.samples
    pieces = (piece[0] for piece in changed_tempo((p[None] for p in speech()), SAMPLE_RATE, placement.tempo))
    for piece in pieces:
        if left <= 0:
            break
        yield _faded(piece[:left], placement.samples - left, placement.samples)
        left -= len(piece)
    while left > 0:
        yield np.zeros(min(left, BLOCK), np.float32)
        left -= BLOCK


def _faded(piece: NDArray[np.float32], first: int, total: int) -> NDArray[np.float32]:
    """Samples first, first + 1, ... of `total` samples that fade in and out linearly over FADE samples."""
    index = np.arange(first, first + len(piece))
    fade = min(FADE, total // 2)
    return (piece * np.clip(np.minimum(index + 1, total - index) / max(fade, 1), 0, 1)).astype(np.float32)


def old_loudness(video: Path, start: Fraction) -> float | None:
    """Loudness in LUFS of a video's sound, as mono; None if there is no sound louder than SOFTEST."""
    track = find_sound_track(video)
    if track is None:
        return None
    found = loudness_of(decode_programme(video, track, SAMPLE_RATE, "mono", start), SAMPLE_RATE)
    return found if found > SOFTEST else None


def mixed(
    speech: Track, background: Path, start: Fraction, ducked: Sequence[Placement] | None
) -> Iterator[Samples]:
    """Speech and background, (2, n) at 48 kHz per block, as long as the speech.

    Args:
        speech: the speech.
        background: file with the sound below it.
        start: time of the background, in seconds, at which the speech starts.
        ducked: where the background is softer; None: nowhere.
    """
    track = find_sound_track(background)
    assert track is not None, f"{background} has no audio track"
    below = _Background(decode_programme(background, track, MIX_RATE, MIX_LAYOUT, start))
    resampler = av.AudioResampler("fltp", MIX_LAYOUT, MIX_RATE)
    done, total = 0, speech.samples * MIX_RATE // SAMPLE_RATE
    for above in _resampled(speech.blocks(), resampler):
        above = above[:, : total - done]
        under = below.take(above.shape[1])
        if ducked is not None:
            under *= _duck(np.arange(done, done + above.shape[1]) / MIX_RATE, ducked)
        done += above.shape[1]
        yield (above + under).clip(-1, 1).astype(np.float32)


def _resampled(pieces: Iterable[Samples], resampler: av.AudioResampler) -> Iterator[Samples]:
    count = 0
    for piece in pieces:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece, np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, count, Fraction(1, SAMPLE_RATE)
        count += piece.shape[1]
        for resampled in resampler.resample(frame):
            yield resampled.to_ndarray().astype(np.float32)
    for resampled in resampler.resample(None):
        yield resampled.to_ndarray().astype(np.float32)


class _Background:
    """Samples (2, n) of any n, with silence after the end."""

    def __init__(self, pieces: Iterable[Samples]) -> None:
        self._pieces, self._held = iter(pieces), np.zeros((2, 0), np.float32)

    def take(self, samples: int) -> Samples:
        """The next samples (2, samples)."""
        while self._held.shape[1] < samples:
            piece = next(self._pieces, None)
            if piece is None:
                piece = np.zeros((2, samples - self._held.shape[1]), np.float32)
            self._held = np.concatenate([self._held, piece], axis=1)
        given, self._held = np.split(self._held, [samples], axis=1)
        return given


def _duck(times: NDArray[np.float64], spans: Sequence[Placement]) -> NDArray[np.float64]:
    """Gain of the background at `times` in seconds: DUCKED within the spans, with linear ramps outside."""
    away = np.full(len(times), np.inf)
    for span in spans:
        first, last = span.start / SAMPLE_RATE, (span.start + span.samples) / SAMPLE_RATE
        if span.samples:
            away = np.minimum(away, np.maximum(first - times, times - last).clip(0))
    return DUCKED + (1 - DUCKED) * np.clip(away / RAMP_SECONDS, 0, 1)
