"""ECAPA-TDNN: frame features become one speaker embedding (arXiv 2005.07143, in the published variant)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SCALES = 8


class ConvReluNorm(nn.Module):
    """Convolution, ReLU, and only then batch norm, length kept."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) -> (B, outputs, T)"""
        return self.bn(torch.relu(self.conv(x)))


class Scales(nn.Module):
    """Eight channel groups; each but the last is convolved after the former's result was added to it."""

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
    """Squeeze and excitation: channels are scaled by what the whole clip holds."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, bottleneck)
        self.linear2 = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> (B, channels, T)"""
        scale = torch.sigmoid(self.linear2(torch.relu(self.linear1(x.mean(-1)))))
        return x * scale[..., None]


class Block(nn.Module):
    """Mix channels, look around in time at eight scales, mix, gate, add."""

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
    """Mean and deviation over time, weighted per channel by a small network on the frame alone."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1 = nn.Conv1d(channels, bottleneck, 1)
        self.linear2 = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> (B, 2 channels)"""
        weight = torch.softmax(self.linear2(torch.tanh(self.linear1(x))), dim=-1)
        mean = (weight * x).sum(-1)
        variance = (weight * x.square()).sum(-1) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-9).sqrt()], dim=-1)


class Ecapa(nn.Module):
    """Features (B, features, T) -> embedding (B, embedding)."""

    def __init__(self, *, features: int, channels: int, merged: int, bottleneck: int, embedding: int) -> None:
        super().__init__()
        if channels % SCALES:
            raise ValueError(f"channels {channels} must divide into {SCALES} groups")
        self.entry = ConvReluNorm(features, channels, kernel=5)
        self.blocks = nn.ModuleList(Block(channels, dilation, bottleneck) for dilation in (2, 3, 4))
        self.merge = nn.Conv1d(3 * channels, merged, 1)
        self.pooling = AttentiveStatistics(merged, bottleneck)
        self.norm = nn.BatchNorm1d(2 * merged)
        self.projection = nn.Linear(2 * merged, embedding)

    def forward(self, features: Tensor) -> Tensor:
        """(B, features, T) -> (B, embedding)"""
        x, levels = self.entry(features), []
        for block in self.blocks:
            x = block(x)
            levels.append(x)
        merged = torch.relu(self.merge(torch.cat(levels, dim=1)))
        return self.projection(self.norm(self.pooling(merged)))
