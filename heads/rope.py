"""Rotary positions on interleaved channel pairs, as the small transformers use them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MAX_TOKENS = 1024
BASE = 10000.0


class Rope(nn.Module):
    """Table of rotations for positions 0..1023; the buffer `w` is part of published checkpoints.

    A stored table is checked for its shape and then replaced: half-precision checkpoints would round it.
    """

    w: Tensor

    def __init__(self, head_dim: int) -> None:
        """`head_dim` must be even: channel 2i is rotated together with channel 2i + 1."""
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"rotary positions need an even head width, got {head_dim}")
        self.register_buffer("w", rotations(head_dim))
        self.register_load_state_dict_pre_hook(_compute_instead)

    def forward(self, tokens: int) -> Tensor:
        """Rotations of the first `tokens` positions, (T, head_dim / 2, 2): cosine, sine."""
        if tokens > MAX_TOKENS:
            raise ValueError(f"{tokens} tokens; the rotary table ends at {MAX_TOKENS}")
        return self.w[:tokens]


def rotations(head_dim: int) -> Tensor:
    """(MAX_TOKENS, head_dim / 2, 2): cosine and sine of position / base^(2 i / head_dim)."""
    frequency = 1.0 / BASE ** (torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.arange(MAX_TOKENS).float()[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn x (..., T, head_dim) by `rotation` (T, head_dim / 2, 2), pair by pair."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation.unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def _compute_instead(rope: Rope, stored: dict[str, Tensor], prefix: str, *_: object) -> None:
    found = stored.get(f"{prefix}w")
    if found is not None and found.shape == rope.w.shape:
        stored[f"{prefix}w"] = rotations(2 * rope.w.shape[1]).to(found.device)
