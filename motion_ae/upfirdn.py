"""Resampling by two with the binomial filter (1, 3, 3, 1), as in StyleGAN2 and LIA-X.

The published files store this kernel with every layer that uses it. Here it is computed, and
`talker.weights.motion_ae` compares the stored copies with it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE = 0.75


def blur_kernel(gain: float = 1.0) -> Tensor:
    """The kernel (4, 4): the outer product of (1, 3, 3, 1) with itself, scaled so that its sum is `gain`.

    The gain is 1, or 4 after zero insertion. Half precision holds every value exactly. The result is on the
    CPU even if the default device is "meta": a layer's buffer is then valid without being loaded.
    """
    with torch.device("cpu"):
        line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
        kernel = torch.outer(line, line)
        return (kernel / kernel.sum() * gain).float()


def blur(x: Tensor, kernel: Tensor, pad: int) -> Tensor:
    """Filter every channel of x (B, C, H, W) by kernel (4, 4): (B, C, H + 2 pad - 3, W + 2 pad - 3)."""
    channels = x.shape[1]
    return F.conv2d(x, kernel.to(x).expand(channels, 1, 4, 4), padding=pad, groups=channels)


def upsample(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): zero insertion, then the kernel of gain 4.

    This equals bilinear interpolation except at the border: the filter pads with zeros, whereas
    `F.interpolate` repeats the edge. Hence the outermost rows and columns are multiplied by 3/4.
    """
    y = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    y[:, :, 0].mul_(EDGE)
    y[:, :, -1].mul_(EDGE)
    y[:, :, :, 0].mul_(EDGE)
    y[:, :, :, -1].mul_(EDGE)
    return y
