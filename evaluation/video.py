"""Similarity of pictures: PSNR and SSIM of a whole picture or of a box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class SquaredError:
    """The sum of squared errors of `values` values.

    The sum of two objects covers the values of both, so that a set of pictures has one PSNR.
    """

    total: float = 0.0
    values: int = 0

    def __add__(self, other: SquaredError) -> SquaredError:
        return SquaredError(self.total + other.total, self.values + other.values)

    @property
    def psnr(self) -> float:
        """-10 log10 of the mean squared error, in dB: inf without any error, nan without any value."""
        if not self.values:
            return math.nan
        return -10 * math.log10(self.total / self.values) if self.total else math.inf


def crop(image: Tensor, box: Box | None) -> Tensor:
    """Return the part of image (..., H, W) inside `box`, or the whole image for None.

    Raises:
        ValueError: the box does not overlap the image.
    """
    if box is None:
        return image
    left, top, right, bottom = box
    part = image[..., max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if not part.numel():
        raise ValueError(f"box {box} is outside the image of {image.shape[-1]}x{image.shape[-2]} pixels")
    return part


def squared_error(image: Tensor, target: Tensor, box: Box | None = None) -> SquaredError:
    """Return the squared error of image to target, both (..., H, W) in [0, 1], inside `box`.

    Raises:
        ValueError: the shapes differ, or the box does not overlap the image.
    """
    if image.shape != target.shape:
        raise ValueError(
            f"image {tuple(image.shape)} and target {tuple(target.shape)} must have the same shape"
        )
    difference = crop(image, box).double() - crop(target, box).double()
    return SquaredError(float(difference.square().sum()), difference.numel())


def ssim(image: Tensor, target: Tensor, box: Box | None = None) -> float:
    """Return the mean structural similarity (Wang et al., 2004) of image and target (C, H, W) inside `box`.

    Values are in [0, 1]. The window is a Gaussian of 11 pixels with standard deviation 1.5; K = (0.01, 0.03).
    Only windows that lie completely inside the box count.

    Raises:
        ValueError: the box is smaller than 11 x 11 pixels.
    """
    x, y = (crop(t, box).double()[None] for t in (image, target))
    if min(x.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs at least 11x11 pixels, not {x.shape[-1]}x{x.shape[-2]}")
    axis = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-axis.square() / (2 * 1.5**2))
    line = line / line.sum()
    channels = x.shape[1]

    def blur(t: Tensor) -> Tensor:
        t = F.conv2d(t, line.reshape(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
        return F.conv2d(t, line.reshape(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)

    mx, my = blur(x), blur(y)
    vx, vy, covariance = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(similarity.mean())
