"""Rotary position embeddings on interleaved channel pairs, for the heads and the patch encoders."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

MAX_TOKENS = 1024
BASE = 10000.0


class Rope(nn.Module):
    """The table of rotations for positions 0 to 1023, in float32.

    The buffer `w` is part of published checkpoints. A loaded table is checked for its shape and replaced by
    the computed one, because a half-precision checkpoint has rounded it. The table also stays in float32 when
    the module is converted to half precision.
    """

    w: Tensor

    def __init__(self, head_dim: int) -> None:
        """`head_dim` must be even: channel 2i is rotated together with channel 2i + 1."""
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"rotary position embeddings need an even head width, got {head_dim}")
        self.register_buffer("w", rotations(head_dim))
        self.register_load_state_dict_pre_hook(_replace_loaded_table)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rope:
        """Moves and converts the module; the table stays in float32."""
        table = self.w
        super()._apply(fn, recurse)
        if self.w.dtype != table.dtype:
            self.w = table.to(self.w.device)
        return self

    def forward(self, positions: int | Tensor) -> Tensor:
        """Rotations (T, head_dim / 2, 2), cosine and sine, of the positions (T,) int64.

        An integer T stands for the positions 0 to T - 1; it needs no copy.

        Raises:
            ValueError: the integer exceeds the length of the table.
        """
        if isinstance(positions, Tensor):
            return self.w[positions]
        if positions > MAX_TOKENS:
            raise ValueError(f"{positions} tokens exceed the {MAX_TOKENS} positions of the rotary table")
        return self.w[:positions]


def rotations(head_dim: int) -> Tensor:
    """(MAX_TOKENS, head_dim / 2, 2): cosine and sine of position / base^(2 i / head_dim)."""
    frequency = 1.0 / BASE ** (torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.arange(MAX_TOKENS).float()[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the channel pairs of x (..., T, head_dim) by `rotation` (T, head_dim / 2, 2) in float32.

    The result has the type of `x`.
    """
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation.unbind(-1)
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return rotated.flatten(-2).to(x.dtype)


def _replace_loaded_table(rope: Rope, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    loaded = state.get(f"{prefix}w")
    if loaded is not None and loaded.shape == rope.w.shape:
        state[f"{prefix}w"] = rotations(2 * rope.w.shape[1]).to(loaded.device)
