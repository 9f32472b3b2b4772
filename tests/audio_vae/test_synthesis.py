"""Pulse train, noise and filters: closed forms, and streams."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from audio_vae.synthesis import (
    HIGHEST,
    LOOKAHEAD,
    Controls,
    SynthesisState,
    Synthesizer,
    interpolation,
    knots,
    minimum_phase,
    pulse_train,
    white_noise,
)

RATE, SHIFT = 24_000, 240
SILENT = -30.0


def synthesizer() -> Synthesizer:
    return Synthesizer(RATE, SHIFT, harmonic=12, noise=8, phase=4)


def constant(frames: int, *, harmonic: float, noise: float, f0: float = 150.0) -> Controls:
    log_f0 = torch.full((1, frames), math.log(f0))
    levels = torch.full((1, 2 * frames, 12), harmonic), torch.full((1, 2 * frames, 8), noise)
    return Controls(log_f0, *levels, torch.zeros(1, 2 * frames, 4))


def random_controls(frames: int, rows: int = 1) -> Controls:
    shapes = ((rows, 2 * frames, knots) for knots in (12, 8, 4))
    return Controls(5 + 0.3 * torch.randn(rows, frames), *(torch.randn(shape) - 2 for shape in shapes))


def steady_pulses(f0: float, samples: int) -> Tensor:
    """The pulse train of a constant pitch that starts at phase 0, (1, samples)."""
    cycles = f0 / RATE * torch.arange(samples, dtype=torch.float64)[None]
    return pulse_train(torch.full((1, samples), f0), cycles, RATE)


@pytest.mark.parametrize("f0", [75.0, 200.0, 480.0])
def test_pulse_train_is_the_sum_of_equal_harmonics(f0: float) -> None:
    """The pitches divide the sample rate, so each bin is one harmonic. None is above the limit."""
    period = round(RATE / f0)
    amplitudes = torch.fft.rfft(steady_pulses(f0, period)[0].double()).abs() * 2 / period
    count = int(HIGHEST * RATE / 2 / f0)
    expected = math.sqrt(4 * f0 / RATE)
    torch.testing.assert_close(
        amplitudes[1 : count + 1], torch.full((count,), expected).double(), rtol=1e-3, atol=0
    )
    assert amplitudes[0] < 1e-3 * expected
    assert (amplitudes[count + 1 :] < 1e-3 * expected).all()


def test_pulse_train_has_no_aliases_between_its_harmonics() -> None:
    f0 = 147.3
    level = torch.fft.rfft(steady_pulses(f0, RATE)[0].double() * torch.blackman_window(RATE)).abs()
    distance = (torch.arange(len(level)) % f0).minimum(-torch.arange(len(level)) % f0)
    assert level[distance > 10].max() < 1e-3 * level.max()


@pytest.mark.parametrize("f0", [80.0, 313.0])
def test_pulse_train_has_the_power_of_noise_in_the_band_of_its_harmonics(f0: float) -> None:
    power = float(steady_pulses(f0, 2 * RATE).square().mean())
    assert power == pytest.approx(int(HIGHEST * RATE / 2 / f0) * f0 / (RATE / 2), rel=0.01)


def test_noise_is_white_with_unit_variance_and_depends_on_position_and_seed_alone() -> None:
    noise = white_noise(-500, 200_000, 7)
    assert torch.equal(noise[:, 1000:1100], white_noise(500, 100, 7))
    assert torch.equal(noise, white_noise(-500, 200_000, torch.tensor([[3], [7]]))[1:])
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.square().mean()) == pytest.approx(1, abs=0.01)
    assert noise.abs().max() <= math.sqrt(3)
    spectrum = torch.fft.rfft(noise[0].view(-1, 500)).abs().square().mean(0) / 500
    assert (spectrum - 1).abs().max() < 0.25
    others = torch.cat([noise[0, 1:1001], noise[0, 2:1002], white_noise(-500, 1000, 8)[0]]).view(3, 1000)
    assert ((others @ noise[0, :1000]) / 1000).abs().max() < 0.15


def test_filter_with_minimum_phase_has_its_magnitudes_and_is_causal() -> None:
    poles = torch.tensor([0.9, -0.6, 0.3])  # 1 / product of (1 - p / z) has minimum phase
    z = torch.polar(torch.ones(481), torch.linspace(0, math.pi, 481))
    response = 1 / torch.stack([1 - pole / z for pole in poles]).prod(0)
    phase = minimum_phase(response.abs().log())
    assert (phase - response.angle()).abs().max() < 1e-3
    made = torch.fft.irfft(torch.polar(response.abs(), phase), n=960)
    assert made[480:].abs().max() < 1e-4 * made.abs().max()


def test_interpolation_is_exact_for_linear_functions_and_constant_beyond_the_ends() -> None:
    source, target = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.0, 1.0, 1.5, 4.0, 9.0])
    torch.testing.assert_close(2 * source @ interpolation(source, target), 2 * target.clamp(1, 5))
    grid = knots(RATE, 40)
    assert (float(grid[0]), float(grid[-1])) == (0, pytest.approx(RATE / 2))
    assert (grid.diff() > 0).all()


@pytest.mark.parametrize(("harmonic", "noise"), [(-2.0, SILENT), (SILENT, -1.0)])
def test_levels_are_the_densities_of_both_parts(harmonic: float, noise: float) -> None:
    pcm = synthesizer()(constant(400, harmonic=harmonic, noise=noise))[0, 1000:-1000]
    share = int(HIGHEST * RATE / 2 / 150) * 150 / (RATE / 2) if harmonic > noise else 1.0
    assert float(pcm.square().mean()) == pytest.approx(share * math.exp(2 * max(harmonic, noise)), rel=0.05)


def test_pitch_is_that_of_the_controls() -> None:
    pcm = synthesizer()(constant(200, harmonic=-2.0, noise=SILENT, f0=200.0))[0, 2400:-2400]
    spectrum = torch.fft.rfft(pcm[: 24 * 1600]).abs()
    peaks = spectrum.view(-1)[: 24 * 800].argsort(descending=True)[:20] * RATE / (24 * 1600)
    assert ((peaks / 200 - (peaks / 200).round()).abs() < 0.01).all()


def test_levels_act_at_the_time_of_their_frame() -> None:
    """The energy of one loud fine frame of noise has its centre in the middle of the frame."""
    single = constant(9, harmonic=SILENT, noise=SILENT)
    controls = Controls(*(each.repeat(200, *(1 for _ in each.shape[1:])) for each in single))
    controls.noise[:, 8:10] = 0.0
    state = SynthesisState(seed=torch.arange(200)[:, None])
    energy = synthesizer()(controls, state, last=True).square().mean(0)
    centre = float((energy * torch.arange(len(energy))).sum() / energy.sum())
    assert centre == pytest.approx(4.5 * SHIFT, abs=10)


def test_added_phase_turns_the_harmonics_and_leaves_the_noise() -> None:
    both = constant(40, harmonic=-2.0, noise=SILENT), constant(40, harmonic=SILENT, noise=-2.0)
    for controls, factor in zip(both, (-1.0, 1.0), strict=True):
        turned = controls._replace(phase=torch.full_like(controls.phase, math.pi))
        made, other = synthesizer()(controls)[0], synthesizer()(turned)[0]
        assert (other - factor * made).abs().max() < 2e-3 * made.abs().max()


@pytest.mark.parametrize("sizes", [[1] * 13, [4, 0, 9], [12, 1]])
def test_stream_equals_the_whole(sizes: list[int]) -> None:
    made, controls, state = synthesizer(), random_controls(13), SynthesisState()
    whole, pieces, start = made(controls), [], 0
    assert whole.shape == (1, 13 * SHIFT)
    for number, size in enumerate(sizes):
        halves = slice(2 * start, 2 * (start + size))
        part = Controls(controls.log_f0[:, start : start + size], *(each[:, halves] for each in controls[1:]))
        pieces.append(made(part, state, last=number == len(sizes) - 1))
        start += size
        returned = sum(piece.shape[1] for piece in pieces)
        assert (
            returned == start * SHIFT if start == 13 and pieces[-1] is pieces[len(sizes) - 1 :][-1:] else True
        )
        assert returned >= max(0, start - LOOKAHEAD) * SHIFT
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=0)


def test_rows_have_phases_and_noise_of_their_own() -> None:
    controls = random_controls(6, rows=2)
    state = SynthesisState(seed=torch.tensor([[0], [5]]), cycles=torch.tensor([[0.0], [0.4]]).double())
    made = synthesizer()(controls, state, last=True)
    first = synthesizer()(Controls(*(each[:1] for each in controls)))
    torch.testing.assert_close(made[:1], first, atol=1e-5, rtol=0)
    assert (made[1:] - synthesizer()(Controls(*(each[1:] for each in controls)))).abs().max() > 0.01
