"""What the autoencoder is trained with: spectra that agree, a bottleneck that stays near a Gaussian, and what
discriminators and Whisper make of it.

Discriminators' losses take what they return: for each a list of feature maps, the last of which holds logits.
They are means, so that a weight does not depend on how many discriminators and layers there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
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


def least_squares(judged: Sequence[Sequence[Tensor]], wanted: float) -> Tensor:
    """Mean squared distance of all logits from `wanted` (Mao et al., 2017).

    A discriminator wants 1 of speech and 0 of what is made, the decoder 1 of what it makes.
    """
    return torch.stack([(maps[-1].float() - wanted).square().mean() for maps in judged]).mean()


def feature_matching(made: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of feature maps, logits aside; `real` is the goal, without a gradient
    (Larsen et al., 2016; HiFi-GAN, section 2.4)."""
    differences = [
        (ours.float() - goal.detach().float()).abs().mean()
        for maps, goals in zip(made, real, strict=True)
        for ours, goal in zip(maps[:-1], goals[:-1], strict=True)
    ]
    return torch.stack(differences).mean()


class MeaningLoss(nn.Module):
    """Reads Whisper's features off decoded frames with two layers that only training has.

    The published description puts them at the decoder's output, a waveform; here they read the frames that
    the decoder starts from, the only ones at Whisper's rate.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, features))

    def forward(self, frames: Tensor, features: Tensor) -> Tensor:
        """Frames (B, T, width), features (B, T, features) -> mean squared error + (1 - cosine), a scalar."""
        read = self.read(frames)
        cosine = F.cosine_similarity(read, features, dim=-1).mean()
        return (read - features).square().mean() + 1 - cosine
