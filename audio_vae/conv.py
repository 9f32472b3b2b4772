"""Building blocks: height-1 convolutions of the published form, ConvNeXt blocks of the puppet's.

On a CPU a convolution over time runs up to twice as fast (depthwise: three times) when it is written as one
over pictures of height 1 whose channels are innermost in memory. Both forms keep signals so: (B, C, 1, T) in
the channels-last format, or plainly (B, T, C).
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Module = TypeVar("Module", bound=nn.Module)


def convolution(channels: int, out: int, kernel: int, *, dilation: int = 1) -> nn.Conv2d:
    """A convolution over (B, C, 1, T) that keeps T; `kernel` is odd."""
    padding = (0, dilation * (kernel - 1) // 2)
    return _last(nn.Conv2d(channels, out, (1, kernel), padding=padding, dilation=(1, dilation)))


def downsample(channels: int, out: int, stride: int) -> nn.Conv2d:
    """A convolution of kernel 2 `stride` over (B, C, 1, T): T becomes T / stride."""
    padding = (0, (stride + 1) // 2)
    return _last(nn.Conv2d(channels, out, (1, 2 * stride), stride=(1, stride), padding=padding))


def upsample(channels: int, out: int, stride: int) -> nn.ConvTranspose2d:
    """A transposed convolution of kernel 2 `stride` over (B, C, 1, T): T becomes T stride."""
    padding, extra = (0, (stride + 1) // 2), (0, stride % 2)
    return _last(
        nn.ConvTranspose2d(channels, out, (1, 2 * stride), (1, stride), padding, output_padding=extra)
    )


def _last(module: Module) -> Module:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Snake(nn.Module):
    """x + sin(a x)^2 / a with a learned a per channel, over (B, C, 1, T) (Ziyin et al., 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha * x).sin().square() / (self.alpha + 1e-9)


class ResidualUnit(nn.Module):
    """x + two convolutions of it, the first one dilated; (B, C, 1, T) -> the same."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.snake_in = Snake(channels)
        self.conv_in = convolution(channels, channels, 7, dilation=dilation)
        self.snake_out = Snake(channels)
        self.conv_out = convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_out(self.snake_out(self.conv_in(self.snake_in(x))))


class ConvNeXt(nn.Module):
    """Depthwise convolution, norm, and a two-layer network, added to the input; (B, T, C) -> the same.

    A `causal` block sees no later frame (Liu et al., 2022, in one dimension).
    """

    def __init__(self, width: int, kernel: int, expansion: float, *, causal: bool) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(width, 1, 1, kernel) * kernel**-0.5)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, int(width * expansion))
        self.reduce = nn.Linear(int(width * expansion), width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))
        self.margins = (kernel - 1, 0) if causal else ((kernel - 1) // 2, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, *self.margins))
        as_image = padded.unsqueeze(1).permute(0, 3, 1, 2)  # (B, C, 1, T), channels-last without a copy
        mixed = F.conv2d(as_image, self.mix, groups=self.mix.shape[0]).permute(0, 2, 3, 1).squeeze(1)
        return x + self.scale * self.reduce(F.gelu(self.expand(self.norm(mixed))))


def normalise_weights(module: nn.Module) -> None:
    """Reparametrise every convolution inside `module` by direction and length, as the published training
    does.

    A recipe calls it after building the network; `fold_weights` undoes it.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            weight_norm(part)


def fold_weights(module: nn.Module) -> None:
    """Replace reparametrised weights by their values."""
    for part in module.modules():
        if nn.utils.parametrize.is_parametrized(part, "weight"):
            nn.utils.parametrize.remove_parametrizations(part, "weight")
