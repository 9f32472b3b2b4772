"""Encodes the frames of a patch as one embedding of the backbone's width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heads.layers import Block, RMSNorm
from heads.rope import Rope
from talker.model.config import PatchEncoderConfig


class PatchEncoder(nn.Module):
    """Projects frames, adds a CLS token, applies bidirectional blocks, and normalises the CLS output."""

    def __init__(self, channels: int, width: int, config: PatchEncoderConfig) -> None:
        """`channels`: latent channels; `width`: of the backbone."""
        super().__init__()
        self.projector = nn.Linear(channels, width)
        self.input_proj = nn.Linear(width, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 1, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.ffn) for _ in range(config.layers))
        self.norm = RMSNorm(width)
        self.rope = Rope(width // config.heads)

    def forward(self, frames: Tensor, real: Tensor | None = None) -> Tensor:
        """Embeddings (R, width) of patches.

        Args:
            frames: (R, P, C) normalised latents.
            real: (R, P) bool mask of real frames; None: all are real. The others are set to zero after the
                projector, as in the published model.
        """
        x = self.projector(frames.to(self.projector.weight.dtype))
        if real is not None:
            x = x * real[..., None]
        return self.encode(x)

    def encode(self, embedded: Tensor) -> Tensor:
        """Embeddings (R, width) of projected frames (R, P, width)."""
        x = self.input_proj(embedded)
        x = torch.cat([self.cls_token[0].expand(len(x), -1, -1), x], dim=1)
        rotation = self.rope(x.shape[1])
        for block in self.blocks:
            x = block(x, rotation)
        return self.norm(x[:, 0])
