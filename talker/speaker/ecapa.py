"""ECAPA-TDNN, from frame features to one speaker embedding (arXiv 2005.07143, the published variant)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SCALES = 8


class ConvReluNorm(nn.Module):
    """Convolution, ReLU, then batch norm; keeps the length."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) -> (B, outputs, T)"""
        return self.bn(torch.relu(self.conv(x)))


class Scales(nn.Module):
    """Res2Net block: every channel group but the last is added to the previous output and convolved."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width, count = channels // SCALES, SCALES - 1
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(count)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> (B, channels, T)"""
        *groups, last = x.chunk(SCALES, dim=1)
        carried, done = torch.zeros_like(last), []
        for group, conv, norm in zip(groups, self.convs, self.bns, strict=True):
            carried = norm(torch.relu(conv(carried + group)))
            done.append(carried)
        return torch.cat([*done, last], dim=1)


class Gate(nn.Module):
    """Squeeze and excitation: scales the channels by factors computed from their means over time."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, bottleneck)
        self.linear2 = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> (B, channels, T)"""
        scale = torch.sigmoid(self.linear2(torch.relu(self.linear1(x.mean(-1)))))
        return x * scale[..., None]


class Block(nn.Module):
    """SE-Res2Block: 1x1 convolution, `Scales`, 1x1 convolution and `Gate`, added to the input."""

    def __init__(self, channels: int, dilation: int, bottleneck: int) -> None:
        super().__init__()
        self.before = ConvReluNorm(channels, channels)
        self.scales = Scales(channels, dilation)
        self.after = ConvReluNorm(channels, channels)
        self.gate = Gate(channels, bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> (B, channels, T)"""
        return x + self.gate(self.after(self.scales(self.before(x))))


class AttentiveStatistics(nn.Module):
    """Mean and standard deviation over time, weighted per channel and frame by a small network."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1 = nn.Conv1d(channels, bottleneck, 1)
        self.linear2 = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> (B, 2 channels); the statistics are computed in float32."""
        weight = torch.softmax(self.linear2(torch.tanh(self.linear1(x))).float(), dim=-1)
        wide = x.float()
        mean = (weight * wide).sum(-1)
        variance = (weight * wide.square()).sum(-1) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-9).sqrt()], dim=-1).to(x.dtype)


class Ecapa(nn.Module):
    """The whole ECAPA-TDNN."""

    def __init__(self, *, features: int, channels: int, merged: int, bottleneck: int, embedding: int) -> None:
        super().__init__()
        if channels % SCALES:
            raise ValueError(f"channels {channels} must be a multiple of {SCALES}")
        self.entry = ConvReluNorm(features, channels, kernel=5)
        self.blocks = nn.ModuleList(Block(channels, dilation, bottleneck) for dilation in (2, 3, 4))
        self.merge = nn.Conv1d(3 * channels, merged, 1)
        self.pooling = AttentiveStatistics(merged, bottleneck)
        self.norm = nn.BatchNorm1d(2 * merged)
        self.projection = nn.Linear(2 * merged, embedding)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, features, T) -> embedding (B, embedding) in the data type of the weights."""
        x, levels = self.entry(features.to(self.projection.weight.dtype)), []
        for block in self.blocks:
            x = block(x)
            levels.append(x)
        merged = torch.relu(self.merge(torch.cat(levels, dim=1)))
        return self.projection(self.norm(self.pooling(merged)))
