"""Training losses of the audio autoencoder: spectral, divergence, adversarial and semantic.

Adversarial losses take the outputs of several discriminators: for each a list of feature maps, the last of
which holds the logits. They are means, so that their weights do not depend on the number of discriminators
and layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_vae.spectral import log_mel, mel_filters

FLOOR = 1e-4
"""Magnitudes below count as silence; the magnitude of a full-scale sine is about one half."""


class MelLoss(nn.Module):
    """Mean absolute difference of log-mel spectrograms of one FFT length; the hop length is a quarter of it.

    With `block`, the frames of every block of so many samples are first sorted by level, in each band and in
    the sum of the bands. The latents do not encode the position of a glottal pulse within a frame. Without
    sorting, the loss would be lowest for energy spread evenly over the frame, which sounds like many voices
    in a tube. With sorting, a pulse at another position costs nothing, but a missing pulse costs much.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, sample_rate: int, size: int, mels: int, block: int | None = None) -> None:
        super().__init__()
        self.shift, self.block = size // 4, block
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, size, mels), persistent=False)

    def levels(self, pcm: Tensor) -> Tensor:
        """Log-mel levels of pcm (B, samples): (B, frames, bands).

        With `block`: sorted, and with the sum of the bands, (B, blocks, frames of a block, bands + 1).
        """
        mel = log_mel(pcm, self.window, self.filters, self.shift, FLOOR)
        if self.block is None:
            return mel
        whole = mel.exp().mean(-1, keepdim=True).log()
        blocks = torch.cat((mel, whole), dim=-1).unflatten(1, (-1, self.block // self.shift))
        return blocks.sort(dim=2).values

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Scalar loss of two signals (B, samples); samples must be a multiple of the block or hop length."""
        with torch.no_grad():
            goal = self.levels(wanted)
        return (self.levels(made) - goal).abs().mean()


class SpectralLoss(nn.Module):
    """The mean of `MelLoss` over five FFT lengths; the two short ones are sorted within latent frames."""

    def __init__(self, sample_rate: int, hop: int) -> None:
        super().__init__()
        longer = [MelLoss(sample_rate, size, mels) for size, mels in ((480, 48), (960, 80), (1920, 120))]
        shorter = [MelLoss(sample_rate, size, mels, block=hop) for size, mels in ((120, 8), (240, 16))]
        self.parts = nn.ModuleList(longer + shorter)

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Scalar loss of two signals (B, n hop)."""
        return torch.stack([part(made, wanted) for part in self.parts]).mean()


def divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the standard normal in nats, (C,), averaged over B and T.

    `mean` and `log_std` are (B, T, C).
    """
    each = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
    return each.flatten(0, -2).mean(0)


def least_squares(judged: Sequence[Sequence[Tensor]], wanted: float) -> Tensor:
    """Mean squared difference of all logits from `wanted` (Mao et al., 2017).

    `wanted` is 1 for real speech and 0 for decoded speech when a discriminator is trained, and 1 for decoded
    speech when the decoder is trained.
    """
    return torch.stack([(maps[-1].float() - wanted).square().mean() for maps in judged]).mean()


def feature_matching(
    made: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]], relative: bool = False
) -> Tensor:
    """Mean absolute difference of the feature maps without the logits (HiFi-GAN, section 2.4).

    Gradients flow into `made` only. With `relative`, each map's difference is divided by the mean size of the
    real map.
    """
    differences = [
        (ours.float() - goal.detach().float()).abs().mean()
        / (goal.detach().float().abs().mean().clamp(min=1e-6) if relative else 1.0)
        for maps, goals in zip(made, real, strict=True)
        for ours, goal in zip(maps[:-1], goals[:-1], strict=True)
    ]
    return torch.stack(differences).mean()


class MeaningLoss(nn.Module):
    """Semantic loss: two layers, used in training only, predict Whisper's features from hidden frames.

    In the published description they read the output of the decoder, a waveform; here they read its input,
    which has the frame rate of the features.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, features))

    def forward(self, frames: Tensor, features: Tensor) -> Tensor:
        """Frames (B, T, width), features (B, T, features) -> mean squared error + 1 - cosine similarity."""
        read = self.read(frames)
        cosine = F.cosine_similarity(read, features, dim=-1).mean()
        return (read - features).square().mean() + 1 - cosine
