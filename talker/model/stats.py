"""Mean and standard deviation of the latents. The talker uses normalised latents, the codecs raw ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heads.streams import NAMES, Streams

LEAST_STD = 1e-6


class LatentStats(nn.Module):
    """Normalises latents per stream and channel: (x - mean) / max(std, 1e-6)."""

    def __init__(self, audio_dim: int, motion_dim: int) -> None:
        """The initial mean is 0 and the initial standard deviation 1."""
        super().__init__()
        for name, width in zip(NAMES, (audio_dim, motion_dim), strict=True):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_std", torch.ones(width))

    @torch.no_grad()
    def set(self, mean: Streams, std: Streams) -> None:
        """Set the statistics, each (C,) per stream. Absent streams keep theirs."""
        for name, value in mean.items():
            getattr(self, f"{name}_mean").copy_(value)
        for name, value in std.items():
            getattr(self, f"{name}_std").copy_(value)

    @property
    def deviation(self) -> Streams:
        """Standard deviation (C,) of each stream."""
        return Streams.of(NAMES, lambda name: self._of(name)[1])

    def _of(self, name: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{name}_mean"), getattr(self, f"{name}_std").clamp(min=LEAST_STD)

    def normalise(self, raw: Streams) -> Streams:
        """Normalise raw latents (..., C)."""
        found = {}
        for name, x in raw.items():
            mean, std = self._of(name)
            found[name] = (x - mean) / std
        return Streams(**found)

    def denormalise(self, normal: Streams) -> Streams:
        """Convert normalised latents (..., C) to raw ones."""
        found = {}
        for name, x in normal.items():
            mean, std = self._of(name)
            found[name] = x * std + mean
        return Streams(**found)
