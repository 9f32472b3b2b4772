"""What the autoencoder is trained with: spectra that agree, and a bottleneck that stays near a Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audio_vae.spectral import log_mel, mel_filters


class MelLoss(nn.Module):
    """Mean absolute difference of log-mel spectrograms over several window lengths.

    Short windows hear when something happens, long ones at which pitch. Windows overlap by three quarters.
    """

    def __init__(
        self,
        sample_rate: int = 24_000,
        sizes: tuple[int, ...] = (240, 480, 960, 1920),
        mels: tuple[int, ...] = (24, 48, 80, 120),
    ) -> None:
        super().__init__()
        self.sizes = sizes
        for size, bins in zip(sizes, mels, strict=True):
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
            self.register_buffer(f"filters_{size}", mel_filters(sample_rate, size, bins), persistent=False)

    def forward(self, made: Tensor, wanted: Tensor, floor: float = 3e-4) -> Tensor:
        """Scalar loss of two waveforms (B, samples); samples divide by the shortest window's quarter."""
        total = made.new_zeros(())
        for size in self.sizes:
            window, filters = self.get_buffer(f"window_{size}"), self.get_buffer(f"filters_{size}")
            whole = made.shape[1] // (size // 4) * (size // 4)
            with torch.no_grad():
                goal = log_mel(wanted[:, :whole], window, filters, size // 4, floor)
            total = total + (log_mel(made[:, :whole], window, filters, size // 4, floor) - goal).abs().mean()
        return total / len(self.sizes)


def divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the standard normal in nats, a mean over all but the last axis: (C,).

    `mean` and `log_std` are (B, T, C).
    """
    each = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
    return each.flatten(0, -2).mean(0)
