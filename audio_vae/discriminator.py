"""Discriminators of waveforms for adversarial training of the decoder.

Each returns its feature maps in the order of its layers; the last one holds the logits. Signals are
(B, samples) with at least one sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_vae.conv import normalise_weights
from audio_vae.spectral import spectrum

Maps = list[Tensor]
"""Feature maps of one discriminator, each (B, C, H, W); the last has one channel, the logits."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of the discriminators.

    Attributes:
        periods: periods of the multi-period discriminators, in samples.
        period_widths: channels of their layers; all layers but the last have a stride of 3.
        windows: FFT lengths of the spectral discriminators, in samples.
        spectral_width: channels of their layers.
        bands: borders of their frequency bands, as fractions of half the sample rate.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_widths: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    windows: tuple[int, ...] = (2048, 1024, 512)
    spectral_width: int = 32
    bands: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)

    @classmethod
    def base(cls) -> DiscriminatorConfig:
        """Published sizes: the periods of HiFi-GAN, the spectral part of DAC (41 M and 1.4 M parameters)."""
        return cls()

    @classmethod
    def puppet(cls) -> DiscriminatorConfig:
        """For a CPU: up to eight times fewer channels."""
        return cls(period_widths=(8, 16, 64, 128, 128), spectral_width=8)

    @classmethod
    def tiny(cls) -> DiscriminatorConfig:
        """For tests: one or two discriminators of each kind, a few thousand parameters."""
        return cls(
            periods=(2, 3), period_widths=(4, 4), windows=(64, 32), spectral_width=4, bands=(0.0, 0.5, 1.0)
        )


def fold(pcm: Tensor, period: int) -> Tensor:
    """Signals (B, samples) -> (B, 1, rows, period): consecutive samples fill the rows, zeros the last row.

    HiFi-GAN pads by reflection instead, which is impossible for a signal shorter than the padding.
    """
    return F.pad(pcm, (0, -pcm.shape[1] % period)).unflatten(1, (-1, period))[:, None]


class PeriodDiscriminator(nn.Module):
    """Compares every `period`-th sample with the ones before and after it (HiFi-GAN, section 2.3)."""

    def __init__(self, period: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        self.convs = nn.ModuleList(
            nn.Conv2d(inner, outer, (5, 1), (3 if index < len(widths) - 1 else 1, 1), (2, 0))
            for index, (inner, outer) in enumerate(pairwise((1, *widths)))
        )
        self.judge = nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0))

    def forward(self, pcm: Tensor) -> Maps:
        """Signals (B, samples) -> feature maps (B, C, rows, period)."""
        maps = through(self.convs, fold(pcm, self.period))
        return [*maps, self.judge(maps[-1])]


class SpectralDiscriminator(nn.Module):
    """Reads complex spectra of one FFT length; each frequency band has its own layers (DAC, section 3.4)."""

    window: Tensor

    def __init__(self, size: int, width: int, bands: tuple[float, ...]) -> None:
        super().__init__()
        self.edges = [round(edge * (size // 2 + 1)) for edge in bands]
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        self.bands = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(2, width, (3, 9), padding=(1, 4)),
                    *[nn.Conv2d(width, width, (3, 9), (1, 2), (1, 4)) for _ in range(3)],
                    nn.Conv2d(width, width, 3, padding=1),
                ]
            )
            for _ in bands[1:]
        )
        self.judge = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, pcm: Tensor) -> Maps:
        """Signals (B, samples) -> feature maps (B, C, frames, bins), band after band."""
        shift = len(self.window) // 4
        spectra = spectrum(F.pad(pcm, (0, -pcm.shape[1] % shift)), self.window, shift)
        planes = torch.view_as_real(spectra).permute(0, 3, 1, 2) * (2.0 / self.window.sum())
        maps, tops = Maps(), Maps()
        for convs, (low, high) in zip(self.bands, pairwise(self.edges), strict=True):
            assert isinstance(convs, nn.ModuleList)
            band = through(convs, planes[..., low:high])
            maps, tops = maps + band, [*tops, band[-1]]
        return [*maps, self.judge(torch.cat(tops, dim=-1))]


def through(convs: nn.ModuleList, x: Tensor) -> Maps:
    """Apply convolutions with leaky ReLUs to x one after the other; returns the output of each."""
    maps = Maps()
    for conv in convs:
        x = F.leaky_relu(conv(x), 0.1)
        maps.append(x)
    return maps


class Discriminator(nn.Module):
    """All discriminators of a configuration, with weight normalisation as published."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [PeriodDiscriminator(period, config.period_widths) for period in config.periods]
            + [SpectralDiscriminator(size, config.spectral_width, config.bands) for size in config.windows]
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        normalise_weights(self)

    def forward(self, pcm: Tensor) -> list[Maps]:
        """Signals (B, samples) in [-1, 1] -> the feature maps of each discriminator."""
        return [part(pcm) for part in self.parts]
