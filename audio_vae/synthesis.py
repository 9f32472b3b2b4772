"""Synthesis from pitch and filters: a pulse train and white noise, filtered and added.

A *fine frame* is `shift` samples. It has one value of pitch and two *filter frames*, each with the levels of
the harmonic and of the noise part and a phase, at a few frequencies (knots) on the mel scale. The pulse train
has all harmonics below a limit with the same amplitude and the density of unit white noise, so both parts
have the same scale of levels. The harmonic filter has the minimum phase of its levels plus the given phase;
the noise filter has zero phase.

All of it is computed in float32, the phase of the pulse train in float64: half precision has no FFT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from audio_vae.spectral import Float32Buffers

HIGHEST = 0.975
"""The harmonics end at this share of half the sample rate."""

LOOKAHEAD = 4
"""Fine frames: samples of a frame are complete when the controls of so many later frames are known."""

SPREAD = 3
"""Fine frames: the filters of a frame still act on samples of so many later frames."""


class Controls(NamedTuple):
    """What a signal of M fine frames is made from.

    Attributes:
        log_f0: natural logarithm of the pitch in Hz at the centres of the fine frames, (B, M).
        harmonic, noise: natural logarithms of the levels, (B, 2 M, knots).
        phase: added to the minimum phase of the harmonic part, in radians, (B, 2 M, knots).
    """

    log_f0: Tensor
    harmonic: Tensor
    noise: Tensor
    phase: Tensor


@dataclass
class SynthesisState:
    """The state of a synthesised stream, for all rows of a batch.

    Attributes:
        seed: seed of the noise.
        cycles: phase of the pulse train in cycles after the last sample, (B, 1) in float64.
        position: index of the next sample of the sources.
        log_f0: that of the last fine frame, (B, 1).
        sources: pulse train and noise (B, 2, n) from the start of the next filter frame on.
        controls: those of the fine frames that are not filtered yet.
        tail: overlap of the filtered frames so far with later ones, (B, 3.5 shift).
        surplus: samples before the first one that are still to be dropped.
        missing: samples of the frames so far that are not returned yet.
    """

    seed: int | Tensor = 0
    cycles: Tensor | float = 0.0
    position: int = 0
    log_f0: Tensor | None = None
    sources: Tensor | None = None
    controls: Controls | None = None
    tail: Tensor | None = None
    surplus: int = 0
    missing: int = 0


def white_noise(position: int, count: int, seed: int | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Uniform white noise of unit variance, a function of the sample index and the seed alone.

    Args:
        position: index of the first sample; may be negative.
        count: number of samples.
        seed: one seed, or seeds (B, 1).
        device: of the result.

    Returns:
        (1, count), or (B, count), in float32.
    """
    index = torch.arange(position, position + count, device=device)[None]
    keys = torch.as_tensor(seed, device=device).reshape(-1, 1)
    bits = _mixed(_mixed(index & 0xFFFFFFFF) + _mixed(keys + 0x9E3779B9))
    return ((bits >> 8).float() * 2**-24 - (0.5 - 2**-25)) * math.sqrt(12)


def _mixed(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers whose output bits all depend on all input bits (int64 in and out)."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        x = x & 0xFFFFFFFF
        x = (x ^ (x >> shift)) * factor
    x = x & 0xFFFFFFFF
    return x ^ (x >> 15)


def pulse_train(f0: Tensor, cycles: Tensor, sample_rate: int) -> Tensor:
    """Sum of all harmonics below the limit, as cosines, with the power density of unit white noise.

    The closed form of the sum is the Dirichlet kernel, so its cost does not depend on their number.

    Args:
        f0: pitch in Hz, (B, n).
        cycles: phase of the first harmonic in cycles, (B, n), in float64.
        sample_rate: in Hz.

    Returns:
        (B, n) in float32.
    """
    angle = (cycles - cycles.round()).float() * (2 * math.pi)
    count = (HIGHEST * sample_rate / 2 / f0).floor()
    half = (angle / 2).sin()
    near = half.abs() < 1e-5
    summed = ((count + 0.5) * angle).sin() / torch.where(near, 1.0, half)
    summed = torch.where(near, 2 * count + 1, summed)
    return (summed - 1) / 2 * (4 * f0 / sample_rate).sqrt()


def minimum_phase(log_level: Tensor) -> Tensor:
    """Phase (..., n / 2 + 1) in radians of the minimum-phase filter with these log magnitudes."""
    n = 2 * (log_level.shape[-1] - 1)
    cepstrum = torch.fft.irfft(log_level, n=n)
    twice = 2 * cepstrum[..., 1 : n // 2]
    causal = torch.cat((cepstrum[..., :1], twice, cepstrum[..., n // 2 : n // 2 + 1]), dim=-1)
    return torch.fft.rfft(causal, n=n).imag


def knots(sample_rate: int, count: int) -> Tensor:
    """Frequencies in Hz from 0 to half the sample rate, equally spaced on the mel scale, (count,)."""
    with torch.device("cpu"):  # buffers made from it have values even if the model is built on "meta"
        top = 2595 * math.log10(1 + sample_rate / 2 / 700)
        return 700 * (10 ** (torch.linspace(0, top, count, dtype=torch.float64) / 2595) - 1)


def interpolation(source: Tensor, target: Tensor) -> Tensor:
    """Matrix (len(source), len(target)) that interpolates values linearly, constant beyond the ends."""
    above = torch.searchsorted(source, target.contiguous()).clamp(1, len(source) - 1)
    low, high = source[above - 1], source[above]
    share = ((target - low) / (high - low)).clamp(0, 1)
    matrix = source.new_zeros(len(source), len(target))
    columns = torch.arange(len(target), device=source.device)
    matrix[above - 1, columns] = 1 - share
    matrix[above, columns] += share
    return matrix.float()


class Synthesizer(Float32Buffers):
    """Makes a signal from `Controls`; it has no parameters.

    Filter frames are 2 shift long, half a shift apart, and padded to 4 shift for the filter's response.
    """

    window: Tensor
    harmonic: Tensor
    noise: Tensor
    phase: Tensor

    def __init__(self, sample_rate: int, shift: int, harmonic: int, noise: int, phase: int) -> None:
        super().__init__()
        self.sample_rate, self.shift = sample_rate, shift
        with torch.device("cpu"):
            bins = torch.linspace(0, sample_rate / 2, 2 * shift + 1, dtype=torch.float64)
            self.register_buffer("window", torch.hann_window(2 * shift) / 2, persistent=False)
        for name, count in (("harmonic", harmonic), ("noise", noise), ("phase", phase)):
            matrix = interpolation(knots(sample_rate, count), bins)
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, controls: Controls, state: SynthesisState | None = None, last: bool = False) -> Tensor:
        """Samples (B, n) of the next M fine frames.

        Without `state`, the frames are the whole signal and n is M shift. With a state, the frames follow
        those of the call before. The result then holds all samples that are complete, and with `last` all
        that are missing.
        """
        with torch.autocast(controls.log_f0.device.type, enabled=False):
            controls = Controls(*(each.float() for each in controls))
            return self._filtered(controls, state or SynthesisState(), last or state is None)

    def _filtered(self, controls: Controls, state: SynthesisState, last: bool) -> Tensor:
        state.missing += controls.log_f0.shape[1] * self.shift
        self._append_sources(controls.log_f0, state)
        if last:  # the windows of the last filter frames end later
            assert state.log_f0 is not None
            self._append_sources(state.log_f0.expand(-1, 2), state)
        assert state.sources is not None
        held = controls if state.controls is None else _joined(state.controls, controls)
        complete = (state.sources.shape[2] - 5 * self.shift // 2) // self.shift + 1  # fine frames
        count = min(complete, held.log_f0.shape[1])
        if count <= 0:
            state.controls = held
            return controls.log_f0[:, :0]
        ready, state.controls = _split(held, count)
        frames = state.sources.unfold(2, 2 * self.shift, self.shift // 2)[:, :, : 2 * count]
        state.sources = state.sources[:, :, count * self.shift :]
        made = self._overlap_add(self._segments(frames, ready), state)
        if last:
            assert state.tail is not None
            made = torch.cat((made, state.tail), dim=1)
        dropped = min(state.surplus, made.shape[1])
        state.surplus -= dropped
        made = made[:, dropped : dropped + state.missing]
        state.missing -= made.shape[1]
        return made

    def _append_sources(self, log_f0: Tensor, state: SynthesisState) -> None:
        """Append pulse train and noise up to the centre of the last fine frame."""
        shift = self.shift
        if state.log_f0 is None:
            state.log_f0, state.position, state.surplus = log_f0[:, :1], -shift // 2, shift + shift // 4
            state.sources = log_f0.new_zeros(log_f0.shape[0], 2, shift // 4)
        share = (torch.arange(shift, device=log_f0.device) + 0.5) / shift
        both = torch.cat((state.log_f0, log_f0), dim=1)[..., None]
        f0 = (both[:, :-1] * (1 - share) + both[:, 1:] * share).flatten(1).exp()
        cycles = state.cycles + (f0.double() / self.sample_rate).cumsum(1)
        noise = white_noise(state.position, f0.shape[1], state.seed, f0.device).expand_as(f0)
        new = torch.stack((pulse_train(f0, cycles, self.sample_rate), noise), dim=1)
        assert state.sources is not None
        state.sources = torch.cat((state.sources, new), dim=2)
        if f0.shape[1]:
            state.cycles, state.log_f0 = cycles[:, -1:] % 1, log_f0[:, -1:]
            state.position += f0.shape[1]

    def _segments(self, frames: Tensor, controls: Controls) -> Tensor:
        """Filter frames (B, 2, 2 M, 2 shift) of both sources -> their filtered sum (B, 2 M, 4 shift)."""
        shift = self.shift
        spectra = torch.fft.rfft(F.pad(frames * self.window, (shift // 2, shift + shift // 2)))
        level = controls.harmonic @ self.harmonic
        response = torch.polar(level.exp(), minimum_phase(level) + controls.phase @ self.phase)
        noise = (controls.noise @ self.noise).exp()
        return torch.fft.irfft(spectra[:, 0] * response + spectra[:, 1] * noise, n=4 * shift)

    def _overlap_add(self, segments: Tensor, state: SynthesisState) -> Tensor:
        """Add segments (B, 2 M, 4 shift), half a shift apart; returns (B, M shift)."""
        batch, count, length = segments.shape
        hop = self.shift // 2
        parts = length // hop
        rows = segments.view(batch, count, parts, hop)
        total = sum(F.pad(rows[:, :, k], (0, 0, k, parts - 1 - k)) for k in range(parts))
        assert isinstance(total, Tensor)
        total = total.reshape(batch, -1)
        if state.tail is not None:
            total = torch.cat((total[:, : length - hop] + state.tail, total[:, length - hop :]), dim=1)
        state.tail = total[:, count * hop :]
        return total[:, : count * hop]


def _joined(earlier: Controls, later: Controls) -> Controls:
    return Controls(*(torch.cat(both, dim=1) for both in zip(earlier, later, strict=True)))


def _split(controls: Controls, count: int) -> tuple[Controls, Controls]:
    """The controls of the first `count` fine frames, and those of the others."""
    borders = (count, 2 * count, 2 * count, 2 * count)
    first = Controls(*(each[:, :border] for each, border in zip(controls, borders, strict=True)))
    return first, Controls(*(each[:, border:] for each, border in zip(controls, borders, strict=True)))
