"""Resampling by two with the binomial filter (1, 3, 3, 1), as StyleGAN2 and LIA-X do it.

The published files store this kernel with every layer that uses it; here it is computed, so that it is
written once, and `talker.weights.motion_ae` checks the stored copies.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE = 0.75


def blur_kernel(gain: float = 1.0) -> Tensor:
    """The (4, 4) kernel, (1, 3, 3, 1) by itself; its sum `gain` is 1, or 4 after zero insertion."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum() * gain).float()


def blur(x: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """Filter every channel of (B, C, H, W); the output is (B, C, H + 2 pad - 3, W + 2 pad - 3)."""
    channels = x.shape[1]
    kernel = blur_kernel(gain).to(x).expand(channels, 1, 4, 4)
    return F.conv2d(x, kernel, padding=pad, groups=channels)


def upsample(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): zero insertion and the kernel with gain 4.

    That filter is bilinear interpolation, except that beyond the border it sees zeros where the library's
    sees the edge repeated: outermost rows and columns get 3/4 of the edge instead of all of it.
    """
    y = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    y[:, :, 0].mul_(EDGE)
    y[:, :, -1].mul_(EDGE)
    y[:, :, :, 0].mul_(EDGE)
    y[:, :, :, -1].mul_(EDGE)
    return y
