"""Closer looks at small parts of a face: where a part is, and what its crop says of the motion.

Lips fill a thirtieth of a picture. A network that sees the whole learns head poses in minutes and lips hardly
ever; one that looks at the mouth alone learns lips in minutes. Not in the published network.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.layers import channels_last

SEARCHED = 1  # the level 16 cells wide
CROP = 64  # pixels
SPAN = 0.25  # width of a crop, in pictures


class Glimpse(nn.Module):
    """Reads a motion code's share off the crop of one part of the face."""

    def __init__(self, width: int, motion_dim: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 2 * width, 2 * width)
        self.convs = nn.ModuleList(nn.Conv2d(inner, outer, 3, padding=1) for inner, outer in pairwise(widths))
        cells = CROP >> len(self.convs)
        self.summary = nn.Linear(widths[-1] * cells * cells, 4 * width)
        self.to_motion = nn.Linear(4 * width, motion_dim)

    def forward(self, crop: Tensor) -> Tensor:
        """(B, 3, CROP, CROP) -> (B, M)."""
        x = channels_last(crop)
        for conv in self.convs:
            x = F.avg_pool2d(F.leaky_relu(conv(x), 0.1), 2)
        code: Tensor = self.to_motion(F.leaky_relu(self.summary(x.flatten(1)), 0.1))
        return code


class Glimpses(nn.Module):
    """Parts of the face: finds each in the features of level `SEARCHED`, and reads a crop of it."""

    def __init__(self, config: MotionAEConfig) -> None:
        super().__init__()
        count, self.level = config.glimpses, min(SEARCHED, len(config.channels) - 1)
        self.find = nn.Conv2d(config.channels[self.level], count, 3, padding=1)
        self.parts = nn.ModuleList(Glimpse(2 * config.channels[-1], config.motion_dim) for _ in range(count))

    def where(self, features: tuple[Tensor, ...]) -> Tensor:
        """Features coarse to fine -> centres (B, count, 2), x then y, -1 to 1 across the picture: each the
        mean place under a softmax over the cells."""
        feature = features[self.level]
        height, width = feature.shape[-2:]
        heat = self.find(feature).float().flatten(2).softmax(-1).unflatten(2, (height, width))
        x = heat.sum(2) * _centres(width, heat)
        y = heat.sum(3) * _centres(height, heat)
        return torch.stack([x.sum(-1), y.sum(-1)], -1)

    def forward(self, image: Tensor, centres: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), where to look (B, count, 2) -> motion code (B, M), summed over the parts."""
        offsets = SPAN * _centres(CROP, centres)
        square = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), -1)
        codes = []
        for part, centre in zip(self.parts, centres.unbind(1), strict=True):
            grid = centre[:, None, None] + square
            crop = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
            codes.append(part(crop))
        return torch.stack(codes).sum(0)


def _centres(count: int, like: Tensor) -> Tensor:
    """Centres of `count` cells from -1 to 1."""
    return (torch.arange(count, device=like.device, dtype=like.dtype) * 2 + 1) / count - 1
