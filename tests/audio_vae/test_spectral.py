"""Laws of the spectra, the losses and the bottleneck, in closed form where possible."""

from __future__ import annotations

import math

import torch

from audio_vae.bottleneck import Bottleneck, sample
from audio_vae.losses import MelLoss, SpectralLoss, divergence
from audio_vae.spectral import inverse, log_mel, mel_filters, overlap_add, spectrum

N_FFT, HOP_LENGTH = 960, 240
WINDOW = torch.hann_window(N_FFT)


def test_inverse_of_the_spectrum_is_the_signal() -> None:
    pcm = torch.randn(2, 9 * HOP_LENGTH)
    spectra = spectrum(pcm, WINDOW, HOP_LENGTH)
    assert spectra.shape == (2, 9, N_FFT // 2 + 1)
    back = inverse(spectra, WINDOW, HOP_LENGTH)
    assert back.shape == pcm.shape
    assert (back - pcm).abs().max() < 1e-4


def test_frames_are_centred_on_their_samples() -> None:
    pcm = torch.zeros(1, 8 * HOP_LENGTH)
    pcm[0, 3 * HOP_LENGTH + HOP_LENGTH // 2] = 1
    energy = spectrum(pcm, WINDOW, HOP_LENGTH).abs().mean(-1)[0]
    assert int(energy.argmax()) == 3
    assert torch.allclose(energy[2], energy[4], atol=1e-3)


def test_overlap_add_sums_overlapping_segments() -> None:
    total = overlap_add(torch.ones(1, 6, N_FFT), HOP_LENGTH)[0]
    assert total.shape == (6 * HOP_LENGTH,)
    assert (total[2 * HOP_LENGTH : 4 * HOP_LENGTH] == N_FFT // HOP_LENGTH).all()
    assert total[0] == 2


def test_magnitude_of_a_full_scale_tone() -> None:
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(24_000) / 24_000)[None]
    mel = log_mel(tone, WINDOW, mel_filters(24_000, N_FFT, 100), HOP_LENGTH)
    assert mel.shape == (1, 100, 100)
    assert math.exp(float(mel[0, 50].max())) > 0.2
    assert math.exp(float(mel[0, 50].max())) <= 1.0
    silence = log_mel(0 * tone, WINDOW, mel_filters(24_000, N_FFT, 100), HOP_LENGTH, floor=1e-4)
    assert torch.allclose(silence, torch.full_like(silence, math.log(1e-4)))


def test_spectral_loss_is_zero_for_equal_signals_and_grows_with_noise() -> None:
    loss, pcm = SpectralLoss(24_000, 960), 0.1 * torch.randn(2, 9600)
    assert float(loss(pcm, pcm)) == 0
    noise = torch.randn_like(pcm)
    near, far = (float(loss(pcm + level * noise, pcm)) for level in (0.01, 0.1))
    assert 0 < near < far
    quiet = torch.zeros(1, 9600, requires_grad=True)
    loss(quiet, pcm[:1]).backward()
    assert quiet.grad is not None
    assert quiet.grad.isfinite().all()


def test_sorted_mel_loss_ignores_the_position_of_pulses() -> None:
    def pulses(first: int) -> torch.Tensor:
        pcm = torch.zeros(1, 9600)
        pcm[0, first::240] = 0.5
        return pcm

    in_place, sorted_ = MelLoss(24_000, 120, 8), MelLoss(24_000, 120, 8, block=960)
    noise = 0.5 * 240**-0.5 * torch.randn(1, 9600)
    assert float(sorted_(pulses(90), pulses(0))) < 0.2 * float(in_place(pulses(90), pulses(0)))
    assert float(sorted_(noise, pulses(0))) > 0.5


def test_divergence_in_closed_form() -> None:
    assert divergence(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)).abs().max() == 0
    log_std = math.log(0.5)
    expected = 0.5 * (4 + 0.25 - 1) - log_std
    nats = divergence(torch.full((2, 3, 4), 2.0), torch.full((2, 3, 4), log_std))
    assert torch.allclose(nats, torch.full((4,), expected))


@torch.no_grad()
def test_samples_of_the_posterior_have_its_mean_and_deviation() -> None:
    mean, log_std = Bottleneck(6, 3, 5).posterior(torch.randn(2, 1000, 6))
    assert mean.shape == log_std.shape == (2, 1000, 3)
    drawn = sample(mean, log_std, torch.randn(2, 1000, 3))
    z = (drawn - mean) / log_std.exp()
    assert abs(float(z.mean())) < 0.05
    assert abs(float(z.std()) - 1) < 0.05
