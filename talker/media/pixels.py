"""The one conversion between pixels as bytes and pixels as floats.

Networks take and return [-1, 1]; image metrics use [0, 1], with `low=0`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def from_uint8(pixels: Tensor, low: float = -1.0) -> Tensor:
    """uint8 pixels of any shape -> a new float32 tensor: 0 becomes `low` and 255 becomes 1."""
    return pixels.float().div_(255 / (1 - low)).add_(low)


def to_uint8(pixels: Tensor, low: float = -1.0) -> Tensor:
    """Float pixels in [low, 1] of any shape -> a new uint8 tensor, rounded; values outside are clamped."""
    return (pixels.float() - low).mul_(255 / (1 - low)).round_().clamp_(0, 255).to(torch.uint8)
