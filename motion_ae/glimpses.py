"""Glimpses: crops of small parts of a face, from which motion is read in more detail.

The lips fill a thirtieth of a picture. A network that sees the whole picture learns head poses in minutes and
lips hardly at all; a network that sees a crop of the mouth learns lips in minutes. The published network has
no glimpses. The term is that of recurrent models of visual attention (Mnih et al., 2014).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.layers import channels_last

LOCATING_LEVEL = 1  # the level of 16 x 16 cells
CROP = 64  # width of a crop in its own pixels
SPAN = 0.25  # width of a crop as a fraction of the picture


class Glimpse(nn.Module):
    """A convolutional network that reads the motion code of one part of the face from its crop."""

    def __init__(self, width: int, motion_dim: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 2 * width, 2 * width)
        self.convs = nn.ModuleList(nn.Conv2d(inner, outer, 3, padding=1) for inner, outer in pairwise(widths))
        cells = CROP >> len(self.convs)
        self.summary = nn.Linear(widths[-1] * cells * cells, 4 * width)
        self.to_motion = nn.Linear(4 * width, motion_dim)

    def forward(self, crop: Tensor) -> Tensor:
        """Crops (B, 3, CROP, CROP) -> motion codes (B, M)."""
        x = channels_last(crop)
        for conv in self.convs:
            x = F.avg_pool2d(F.leaky_relu(conv(x), 0.1), 2)
        code: Tensor = self.to_motion(F.leaky_relu(self.summary(x.flatten(1)), 0.1))
        return code


class Glimpses(nn.Module):
    """Locates every part of the face in the features of level `LOCATING_LEVEL` and reads a crop of it."""

    def __init__(self, config: MotionAEConfig) -> None:
        super().__init__()
        count, self.level = config.glimpses, min(LOCATING_LEVEL, len(config.channels) - 1)
        self.find = nn.Conv2d(config.channels[self.level], count, 3, padding=1)
        self.parts = nn.ModuleList(Glimpse(2 * config.channels[-1], config.motion_dim) for _ in range(count))

    def locate(self, features: tuple[Tensor, ...]) -> Tensor:
        """Features, coarse to fine -> centres of the parts (B, count, 2) in float32.

        Centres are x, then y, from -1 to 1 across the picture: the mean position under a softmax over cells.
        """
        feature = features[self.level]
        height, width = feature.shape[-2:]
        heat = self.find(feature).float().flatten(2).softmax(-1).unflatten(2, (height, width))
        x = heat.sum(2) * _centres(width, heat)
        y = heat.sum(3) * _centres(height, heat)
        return torch.stack([x.sum(-1), y.sum(-1)], -1)

    def forward(self, image: Tensor, centres: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), centres (B, count, 2) -> motion codes (B, M), the sum over the parts."""
        image, centres, dtype = image.float(), centres.float(), self.find.weight.dtype
        offsets = SPAN * _centres(CROP, centres)
        square = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), -1)
        codes = []
        for part, centre in zip(self.parts, centres.unbind(1), strict=True):
            grid = centre[:, None, None] + square
            crop = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
            codes.append(part(crop.to(dtype)))
        return torch.stack(codes).sum(0)


def _centres(count: int, like: Tensor) -> Tensor:
    """Centres of `count` cells between -1 and 1, (count,)."""
    return (torch.arange(count, device=like.device, dtype=like.dtype) * 2 + 1) / count - 1
