"""Pitch, envelope and aperiodicity of a speech bank, measured by WORLD: targets of the audio autoencoder.

    python -m recipes.data.world runs/speech          every file of the bank that has no features yet

For each file of samples OUT/SPLIT/NNNNN.npy it writes NNNNN.world.npy: float16 rows of 5 ms, which hold the
logarithm of the pitch (interpolated where there is no voice), whether there is a voice, and the logarithms of
the levels of the harmonic and of the noise part at the knots of `audio_vae.synthesis`. Row k describes the
120 samples from 120 k on. An interrupted command continues when it is run again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talker.signals import announce, command, exit_on_signals

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.data.world")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from audio_vae.config import SourceFilterConfig
from audio_vae.source_filter import PITCH_CENTRE
from audio_vae.synthesis import interpolation, knots
from puppet.sentences import Split
from talker.checkpoint import atomic
from talker.clock import SAMPLE_RATE

HARMONIC, NOISE = SourceFilterConfig.harmonic_knots, SourceFilterConfig.noise_knots
STEP = SourceFilterConfig.shift // 2
"""Samples of one row of features."""

FLOOR = -12.0
"""The smallest logarithm of a level. The quietest frames of studio speech lie around -11."""

QUIET = -8.5
"""In the noise of silence WORLD finds pitches by chance: rows whose levels all lie below have no voice."""

WIDTH = 2 + HARMONIC + NOISE
N_FFT = 1024
LOWEST_F0, HIGHEST_F0 = 60.0, 600.0
# WORLD's levels of white noise and of a pulse train of unit density, relative to ours.
NOISE_GAIN, PULSE_GAIN = 0.11, 0.016


def features(pcm: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """Features (n, WIDTH) of samples (m,) in [-1, 1]; n is m // 120.

    Raises:
        ImportError: pyworld is not installed.
    """
    try:
        import pyworld
    except ImportError as error:
        raise ImportError("the features need pyworld: pip install -e '.[data]'") from error
    count = len(pcm) // STEP
    # The middle of row k is sample 120 k + 60; WORLD measures at multiples of 5 ms.
    signal = np.pad(pcm.astype(np.float64)[STEP // 2 :], (0, STEP + 1))
    signal = signal + 1e-5 * np.random.default_rng(0).standard_normal(
        len(signal)
    )  # digital silence is no signal
    period = 1000 * STEP / SAMPLE_RATE
    coarse, times = pyworld.dio(
        signal, SAMPLE_RATE, f0_floor=LOWEST_F0, f0_ceil=HIGHEST_F0, frame_period=period
    )
    f0 = pyworld.stonemask(signal, coarse, times, SAMPLE_RATE)
    envelope = pyworld.cheaptrick(signal, f0, times, SAMPLE_RATE, fft_size=N_FFT)[:count]
    aperiodicity = pyworld.d4c(signal, f0, times, SAMPLE_RATE, fft_size=N_FFT)[:count]
    f0 = f0[:count]
    voiced = (f0 > 0) & (0.5 * np.log(envelope.max(axis=1)) > QUIET)
    aperiodicity[~voiced] = 1.0
    harmonic = 0.5 * np.log(envelope * np.clip(1 - aperiodicity**2, 1e-12, None)) + PULSE_GAIN
    noise = 0.5 * np.log(envelope * aperiodicity**2) + NOISE_GAIN
    harmonic[~voiced] = FLOOR
    log_f0 = np.full(count, PITCH_CENTRE)
    if voiced.any():
        log_f0 = np.interp(np.arange(count), np.flatnonzero(voiced), np.log(f0[voiced]))
    columns = (
        (log_f0 - PITCH_CENTRE)[:, None],
        voiced[:, None],
        np.clip(harmonic @ _to_knots(HARMONIC), FLOOR, 8),
        np.clip(noise @ _to_knots(NOISE), FLOOR, 8),
    )
    return np.concatenate(columns, axis=1).astype(np.float16)


def _to_knots(count: int) -> NDArray[np.float64]:
    """Matrix (N_FFT / 2 + 1, count) that reads values of WORLD's bins at the knots."""
    bins = torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)
    return interpolation(bins, knots(SAMPLE_RATE, count)).double().numpy()


def write(folder: Path) -> None:
    """Write the features of every shard of a bank, in both splits, that has none.

    Raises:
        ValueError: there is no bank in the folder.
        ImportError: pyworld is not installed.
    """
    shards = sorted(folder.glob("*/[0-9]*.json"))
    if not shards:
        raise ValueError(f"{folder} holds no speech: run python -m puppet.speech_bank {folder}")
    for path in tqdm([path for path in shards if not _of(path).exists()], unit="shard"):
        found = [features(pcm.astype(np.float32) / 32768) for pcm in _clips(path)]
        with atomic(_of(path)) as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate(found), allow_pickle=False)


def _of(path: Path) -> Path:
    """The file of the features of the shard with this index."""
    return path.with_suffix(".world.npy")


def _clips(path: Path) -> list[NDArray[np.int16]]:
    """Samples of the clips of the shard with this index."""
    lengths = [row["samples"] for row in json.loads(path.read_text(encoding="utf-8"))]
    repair = f"remove it and {path.name}, and write the bank again"
    pcm = _mapped(path.with_suffix(".npy"), np.int16, (sum(lengths),), repair)
    return np.split(pcm, np.cumsum(lengths)[:-1])


def _mapped(path: Path, dtype: type, shape: tuple[int, ...], repair: str) -> NDArray[Any]:
    """Map a file of one array into memory.

    Raises:
        ValueError: the file is cut, or the array has another type or shape.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {repair}") from error
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{path} is damaged: {repair}")
    return array


@dataclass(frozen=True)
class Targets:
    """What WORLD measured in crops, in the units of `audio_vae.synthesis`.

    Attributes:
        log_f0, voiced: of the M fine frames, (B, M); `voiced` is 0, 0.5 or 1.
        harmonic, noise: levels (B, 2 M, knots); FLOOR and below where there is no harmonic part.
        voiced_halves: whether there is a voice in each half of the fine frames, (B, 2 M).
    """

    log_f0: Tensor
    voiced: Tensor
    harmonic: Tensor
    noise: Tensor
    voiced_halves: Tensor


def targets(rows: Tensor) -> Targets:
    """Targets of features (B, 2 M, WIDTH)."""
    rows = rows.float()
    pitch, voiced, harmonic, noise = rows.split((1, 1, HARMONIC, NOISE), dim=-1)
    halves = (pitch + PITCH_CENTRE, voiced)
    log_f0, both = (half.unflatten(1, (-1, 2)).mean(2).squeeze(-1) for half in halves)
    return Targets(log_f0, both, harmonic, noise, voiced.squeeze(-1))


class WorldBank:
    """Speech of one split of a bank with its features; both stay on disk.

    Files without features are left out: a bank that grows is used as far as it is measured.

    Attributes:
        pcm: for each clip (samples,) int16.
        features: for each clip (samples // 120, WIDTH) float16.

    Raises:
        ValueError: no file of the bank has features, or one is damaged.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.pcm: list[NDArray[np.int16]] = []
        self.features: list[NDArray[np.float16]] = []
        shards = sorted((folder / split).glob("[0-9]*.json"))
        measured = [path for path in shards if _of(path).exists()]
        if len(measured) < len(shards):
            print(
                f"{len(shards) - len(measured)} of {len(shards)} files in {folder / split} have no features "
                f"and are left out: run python -m recipes.data.world {folder}",
                flush=True,
            )
        for path in measured:
            clips = _clips(path)
            counts = [len(clip) // STEP for clip in clips]
            repair = f"remove it and run python -m recipes.data.world {folder}"
            rows = _mapped(_of(path), np.float16, (sum(counts), WIDTH), repair)
            self.pcm += clips
            self.features += np.split(rows, np.cumsum(counts)[:-1])
        if not self.pcm:
            raise ValueError(
                f"{folder} has no speech of the split {split!r} with features: run python -m "
                f"puppet.speech_bank {folder} --split {split}, then python -m recipes.data.world {folder}"
            )

        self._ends = np.cumsum([len(rows) for rows in self.features])

    @property
    def rows(self) -> int:
        """Rows of features of all clips."""
        return int(self._ends[-1])

    def clip_of(self, row: int) -> int:
        """The clip that one of these rows belongs to: long clips have more."""
        return int(np.searchsorted(self._ends, row, side="right"))

    def crop(self, clip: int, row: int, rows: int) -> tuple[Tensor, Tensor]:
        """Samples (120 rows,) in [-1, 1] and features (rows, WIDTH) from a row on; silence after the clip."""
        pcm = torch.from_numpy(self.pcm[clip][row * STEP : (row + rows) * STEP].astype(np.float32)) / 32768
        found = torch.from_numpy(np.array(self.features[clip][row : row + rows])).float()
        missing = rows - len(found)
        if missing:
            silence = found.new_full((missing, WIDTH), FLOOR)
            silence[:, 0], silence[:, 1] = found[-1, 0] if len(found) else 0.0, 0.0
            found = torch.cat((found, silence))
        return torch.nn.functional.pad(pcm, (0, rows * STEP - len(pcm))), found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        "python -m recipes.data.world",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="folder of the bank")
    folder = parser.parse_args().folder
    with exit_on_signals(f"finished files in {folder} are kept; continue with: {command()}"):
        try:
            write(folder)
        except (ImportError, ValueError) as error:
            parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
