"""Mean and deviation of the latents: the talker works on normalised ones, codecs on raw ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heads.streams import NAMES, Streams

LEAST_STD = 1e-6


class LatentStats(nn.Module):
    """(x - mean) / max(std, 1e-6) for each stream and channel, and its inverse."""

    def __init__(self, audio_dim: int, motion_dim: int) -> None:
        """Starts as the identity: mean 0, deviation 1."""
        super().__init__()
        for name, width in zip(NAMES, (audio_dim, motion_dim), strict=True):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_std", torch.ones(width))

    @torch.no_grad()
    def set(self, mean: Streams, std: Streams) -> None:
        """Take over measured statistics, each (C,)."""
        for name, value in mean.items():
            getattr(self, f"{name}_mean").copy_(value)
        for name, value in std.items():
            getattr(self, f"{name}_std").copy_(value)

    @property
    def deviation(self) -> Streams:
        """(C,) per stream."""
        return Streams.of(NAMES, lambda name: self._of(name)[1])

    def _of(self, name: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{name}_mean"), getattr(self, f"{name}_std").clamp(min=LEAST_STD)

    def normalise(self, raw: Streams) -> Streams:
        """Raw latents (..., C) to normalised ones."""
        found = {}
        for name, x in raw.items():
            mean, std = self._of(name)
            found[name] = (x - mean) / std
        return Streams(**found)

    def denormalise(self, normal: Streams) -> Streams:
        """Normalised latents (..., C) to raw ones."""
        found = {}
        for name, x in normal.items():
            mean, std = self._of(name)
            found[name] = x * std + mean
        return Streams(**found)
