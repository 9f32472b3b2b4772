"""What the autoencoder is trained with: spectra that agree, and a bottleneck that stays near a Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audio_vae.spectral import log_mel, mel_filters

FLOOR = 1e-4
"""Magnitudes below are taken for silence; a full-scale sine is near one half."""


class MelLoss(nn.Module):
    """Mean absolute difference of log-mel spectrograms at one window length, frames a quarter of it apart.

    With `block`, frames are first sorted by level within blocks of so many samples, in each band and in the
    sum of the bands. The latents do not say where in a frame a glottal pulse lies; compared in place, the
    best guess would be to spread its energy evenly, which sounds like many voices in a tube. Sorted, it
    costs nothing to put a pulse elsewhere but much to have none.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, sample_rate: int, size: int, mels: int, block: int | None = None) -> None:
        super().__init__()
        self.shift, self.block = size // 4, block
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, size, mels), persistent=False)

    def levels(self, pcm: Tensor) -> Tensor:
        """Logarithmic levels of pcm (B, samples): (B, frames, bands), or sorted (B, blocks, frames, bands +
        1).
        """
        mel = log_mel(pcm, self.window, self.filters, self.shift, FLOOR)
        if self.block is None:
            return mel
        whole = mel.exp().mean(-1, keepdim=True).log()
        blocks = torch.cat((mel, whole), dim=-1).unflatten(1, (-1, self.block // self.shift))
        return blocks.sort(dim=2).values

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Scalar loss of two signals (B, samples); samples divide by the block, or by a quarter of the
        window.
        """
        with torch.no_grad():
            goal = self.levels(wanted)
        return (self.levels(made) - goal).abs().mean()


class SpectralLoss(nn.Module):
    """The mean of `MelLoss` over several windows: long ones in place, short ones sorted within a latent
    frame.
    """

    def __init__(self, sample_rate: int = 24_000, hop: int = 960) -> None:
        super().__init__()
        longer = [MelLoss(sample_rate, size, mels) for size, mels in ((480, 48), (960, 80), (1920, 120))]
        shorter = [MelLoss(sample_rate, size, mels, block=hop) for size, mels in ((120, 8), (240, 16))]
        self.parts = nn.ModuleList(longer + shorter)

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Scalar loss of two signals (B, n hop)."""
        return torch.stack([part(made, wanted) for part in self.parts]).mean()


def divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the standard normal in nats, a mean over all but the last axis: (C,).

    `mean` and `log_std` are (B, T, C).
    """
    each = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
    return each.flatten(0, -2).mean(0)
