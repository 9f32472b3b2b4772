"""Training losses of the source-filter form: levels, pitch, and the energy distance of log spectra."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_vae.source_filter import CANDIDATES, LOWEST, PER_OCTAVE
from audio_vae.spectral import magnitudes, mel_filters, spectrum
from audio_vae.synthesis import Controls, interpolation, knots

UNVOICED = 0.05
"""Weight of the pitch and of the harmonic levels where there is no voice."""

MASKED_BY_NOISE, MASKED_BY_VOICE, SILENCE = -1.5, -3.5, -11.0
"""Levels that one cannot hear: relative to the other part, and absolute (natural logarithms)."""


class LevelLoss(nn.Module):
    """Mean absolute difference of log levels from those that WORLD measured.

    To both levels of a comparison what masks them is added, so that the loss ignores what one cannot hear:
    to harmonics the noise at the same frequency, to noise the harmonics and the level of silence.
    """

    to_harmonic: Tensor
    to_noise: Tensor

    def __init__(self, sample_rate: int, harmonic: int, noise: int) -> None:
        super().__init__()
        grids = knots(sample_rate, harmonic), knots(sample_rate, noise)
        self.register_buffer("to_harmonic", interpolation(grids[1], grids[0]), persistent=False)
        self.register_buffer("to_noise", interpolation(grids[0], grids[1]), persistent=False)

    def forward(self, made: Controls, harmonic: Tensor, noise: Tensor, voiced: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            made: predicted controls.
            harmonic, noise: measured log levels (B, 2 M, knots).
            voiced: whether there is a voice, (B, 2 M), 0 or 1.
        """
        mask = noise @ self.to_harmonic + MASKED_BY_NOISE
        differences = (torch.logaddexp(made.harmonic, mask) - torch.logaddexp(harmonic, mask)).abs().mean(-1)
        weight = voiced + UNVOICED * (1 - voiced)
        voice = (weight * differences).mean()
        mask = harmonic @ self.to_noise + MASKED_BY_VOICE
        mask = torch.where(voiced[..., None] > 0.5, mask, SILENCE).clamp(min=SILENCE)
        return voice + (torch.logaddexp(made.noise, mask) - torch.logaddexp(noise, mask)).abs().mean()


def pitch_loss(log_f0: Tensor, wanted: Tensor, voiced: Tensor) -> Tensor:
    """Mean absolute difference of log F0 (B, M); frames without a voice have a small weight."""
    return ((voiced + UNVOICED * (1 - voiced)) * (log_f0 - wanted).abs()).mean()


def salience_loss(logits: Tensor, log_f0: Tensor, voiced: Tensor) -> Tensor:
    """Cross-entropy of pitch logits (B, M, 154) and a bump at log F0 (B, M), where there is a voice."""
    grid = torch.arange(CANDIDATES, device=logits.device) * (math.log(2) / PER_OCTAVE) + math.log(LOWEST)
    wanted = (-0.5 * ((grid - log_f0[..., None]) / 0.02).square()).softmax(-1)
    return -(voiced * (wanted * logits.log_softmax(-1)).sum(-1)).mean()


class LogSpectra(nn.Module):
    """Log magnitudes of signals at several resolutions, and their mean absolute differences."""

    RESOLUTIONS = ((2160, 160), (1080, 100), (480, 60), (240, 30), (120, 12), (1080, None), (480, None))
    """FFT length and number of mel bands; None: all bins."""

    FLOOR = 1e-4

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for index, (size, bands) in enumerate(self.RESOLUTIONS):
            self.register_buffer(f"window{index}", torch.hann_window(size), persistent=False)
            if bands is not None:
                filters = mel_filters(sample_rate, size, bands)
                self.register_buffer(f"filters{index}", filters, persistent=False)

    def forward(self, pcm: Tensor) -> list[Tensor]:
        """Log magnitudes (B, frames, bands) of pcm (B, samples) at each resolution."""
        found, spectra = [], {}
        for index, (size, bands) in enumerate(self.RESOLUTIONS):
            window = self.get_buffer(f"window{index}")
            if size not in spectra:
                magnitude = magnitudes(spectrum(pcm, window, max(size // 4, 60)))
                spectra[size] = magnitude * (2.0 / window.sum())
            level = spectra[size] if bands is None else spectra[size] @ self.get_buffer(f"filters{index}")
            found.append((level + self.FLOOR).log())
        return found

    def energy_distance(self, made: Tensor, again: Tensor, real: Tensor) -> Tensor:
        """Energy distance of signals (B, samples), a scalar.

        It is smallest if `made` and `real` have the same distribution. The attraction alone, the distance of
        `made` and `real`, is smallest for the median of spectra, which varies less than speech (Gritsenko et
        al., 2020).

        Args:
            made: a draw of phase and noise.
            again: another draw of the same controls; no gradient flows into it.
            real: the speech.
        """
        ours = self(made)
        with torch.no_grad():
            others, goals = self(again), self(real)
        attraction = torch.stack([F.l1_loss(*pair) for pair in zip(ours, goals, strict=True)]).mean()
        return attraction - torch.stack([F.l1_loss(*pair) for pair in zip(ours, others, strict=True)]).mean()
