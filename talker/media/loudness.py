"""Loudness of recordings: where speech is, how loud it is, and its normalisation to the training level."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from talker.clock import HOP, SAMPLE_RATE
from talker.media.readers import blocks, stream_audio
from talker.media.tracks import Damage

PIECE = SAMPLE_RATE // 50  # samples over which power is measured: 20 ms, half a video frame
SPEECH_LEVEL = 0.075  # root mean square of the louder pieces in the training data
SPEECH_POWER_SHARE = 0.02  # pieces above this share of the loudest piece's power are speech, others are gaps
MAX_GAIN = 30.0
SILENCE_POWER = 1e-6  # -60 dBFS
BACKGROUND_POWER = 10**-3.5  # sound that is 35 dB below the loud pieces is background
MEMORY_SECONDS = 10.0
NOISE_SECONDS = 0.32  # of constant, soft sound, after which it counts as noise
NOISE_POWER = SPEECH_LEVEL**2 * 10**-2.2  # 22 dB below speech
NOISE_RANGE = 10**0.8  # greatest ratio of the powers of its pieces: 8 dB


@dataclass(frozen=True)
class LoudnessProfile:
    """Length and loudness of a recording.

    Attributes:
        samples: its length at 24 kHz.
        power: (pieces,) float32 mean square of every 20 ms.
    """

    samples: int
    power: np.ndarray

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / SAMPLE_RATE

    @property
    def frames(self) -> int:
        """Number of video frames that cover the recording; the last one may end after it."""
        return -(-self.samples // HOP)

    @property
    def level(self) -> float:
        """Root mean square of the louder pieces; 0 if the recording is silent."""
        return _speech_level(self.power)

    @property
    def speech_mask(self) -> np.ndarray:
        """(frames,) bool: whether each video frame has sound above the background."""
        if not len(self.power):
            return np.zeros(self.frames, bool)
        padded = np.resize(np.append(self.power, 0.0), 2 * self.frames)
        padded[len(self.power) :] = 0.0
        threshold = max(float(np.quantile(self.power, 0.95)) * BACKGROUND_POWER, SILENCE_POWER)
        mask: np.ndarray = padded.reshape(-1, 2).max(1) > threshold
        return mask


def measure_loudness(path: str | Path, damage: Damage | None = None) -> LoudnessProfile:
    """Measure a whole file. Memory stays small: 0.7 MB per hour of sound. `damage`: see `stream_audio`.

    Raises:
        UserError: as `stream_audio`.
    """
    return loudness_profile(stream_audio(path, damage))


def loudness_profile(pieces: Iterable[Tensor]) -> LoudnessProfile:
    """Measure samples (n,) at 24 kHz that arrive in pieces of any length."""
    samples, power = 0, [np.zeros(0, np.float32)]
    for block in blocks(pieces, PIECE * 50):
        samples += len(block)
        power.append(_power(block).numpy())
    return LoudnessProfile(samples, np.concatenate(power))


class LoudnessNormalizer:
    """Scales speech of any loudness to the level of the training data, block by block.

    If the level of the recording is given, the gain is constant. Otherwise the gain follows the speech of the
    last ten seconds, the current block included, and changes linearly within a block; silence does not change
    it.
    """

    def __init__(self, level: float | None = None) -> None:
        """`level`: root mean square of the speech, as `LoudnessProfile.level`; None if it is unknown."""
        self._gain = None if level is None else _gain(level)
        self._fixed = level is not None
        self._power: deque[float] = deque(maxlen=round(MEMORY_SECONDS * SAMPLE_RATE / PIECE))

    def __call__(self, block: Tensor) -> Tensor:
        """Scale a block (n,) at 24 kHz; the result is in [-1, 1]."""
        if self._fixed:
            assert self._gain is not None
            return (block * self._gain).clamp(-1, 1)
        self._power.extend(_power(block).tolist())
        recent = np.array(self._power)
        if not len(recent) or recent.max() < SILENCE_POWER:
            return block
        before, self._gain = self._gain, _gain(_speech_level(recent))
        ramp = torch.linspace(self._gain if before is None else before, self._gain, len(block))
        return (block * ramp).clamp(-1, 1)


class NoiseGate:
    """Replaces constant noise in pauses by silence, block by block. Without it, lips move in room noise.

    A block is noise if it and the sound before it, NOISE_SECONDS in all, are softer than NOISE_POWER and
    constant within NOISE_RANGE. Soft consonants are not constant. Each result depends on past sound only.
    """

    def __init__(self) -> None:
        self._power: deque[float] = deque(maxlen=round(NOISE_SECONDS * SAMPLE_RATE / PIECE))
        self._closed = False

    def __call__(self, block: Tensor) -> Tensor:
        """Return a block (n,) of sound at SPEECH_LEVEL, or silence. The first silent block is faded out."""
        self._power.extend(_power(block).tolist())
        recent, full = np.array(self._power), len(self._power) == self._power.maxlen
        loudest = recent.max(initial=0.0)
        was_closed = self._closed
        self._closed = bool(full and loudest < NOISE_POWER and loudest <= NOISE_RANGE * recent.min())
        if not self._closed:
            return block
        return torch.zeros_like(block) if was_closed else block * torch.linspace(1, 0, len(block))


def _power(block: Tensor) -> Tensor:
    """Mean square of each whole piece of a block (n,)."""
    return block[: len(block) // PIECE * PIECE].view(-1, PIECE).square().mean(1)


def _speech_level(power: np.ndarray) -> float:
    loudest = float(power.max(initial=0.0))
    if loudest < SILENCE_POWER:
        return 0.0
    return float(np.sqrt(power[power > SPEECH_POWER_SHARE * loudest].mean()))


def _gain(level: float) -> float:
    return min(SPEECH_LEVEL / level, MAX_GAIN) if level else 1.0
