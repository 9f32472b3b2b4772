"""Layers of the motion autoencoder: equalised convolutions, modulated convolutions, residual blocks.

Equalised learning rate: weights are stored with unit variance and divided by sqrt(fan_in) when used
(StyleGAN; LIA-X keeps it). Parameter shapes are those of the published files, leading ones included.
Shapes: x (B, C, H, W), style (B, S). Feature maps lie channels-last in memory, which on a CPU makes their
convolutions twice and their up-sampling five times as fast; maps of three channels (flow, RGB) lie as usual.
"""

from math import prod, sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.upfirdn import blur, upsample

Resample = Literal["none", "down", "up"]
GAIN, HALF = sqrt(2.0), sqrt(0.5)
COLOURS = 3


def fan_gain(weight: Tensor) -> float:
    """What a stored weight (out, in, ...) is multiplied by when used: 1 / sqrt(fan_in)."""
    return prod(weight.shape[1:]) ** -0.5


def equalised(weight: Tensor) -> Tensor:
    """The weight (out, in, ...) as used."""
    return weight * fan_gain(weight)


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W), the channels of a pixel side by side in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """1x1 convolution of (B, in, H, W) by (out, in) or (B, out, in) to (B, out, H, W), not channels-last.

    For the few maps of a flow or a picture a matrix product is faster than the library's convolution.
    """
    return (weight @ x.flatten(2)).unflatten(2, x.shape[2:])


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, in place.

    The published activation multiplies its output by sqrt(2). As a positive factor passes through a leaky
    ReLU, it is applied to the weights and biases before it: one pass less over every feature map.
    """
    return F.leaky_relu(x, 0.2, inplace=True)


class EqualLinear(nn.Module):
    """Linear layer with an equalised weight (out, in) and a bias that starts at `bias`."""

    def __init__(self, inner: int, outer: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner))
        self.bias = nn.Parameter(torch.full((outer,), bias))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        return F.linear(x, equalised(self.weight), self.bias)


class ConvLayer(nn.Module):
    """Convolution, resampled by two if asked, then bias and activation (or neither).

    Published order: down = blur, then a strided convolution; up = up-sampling, then the convolution. `lean`
    averages 2x2 instead of the blur, and up-samples after the convolution and its bias.
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        size: int = 3,
        resample: Resample = "none",
        activate: bool = True,
        lean: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner, size, size))
        self.bias = nn.Parameter(torch.zeros(outer)) if activate else None
        self.resample, self.lean = resample, lean

    def forward(self, x: Tensor, factor: float = 1.0) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W') with H' = H, H/2 or 2H; the result is multiplied by `factor`."""
        gain = factor if self.bias is None else factor * GAIN
        weight = self.weight * (gain * fan_gain(self.weight))
        bias = None if self.bias is None else self.bias * gain
        pad = weight.shape[-1] // 2
        if self.resample == "down" and not self.lean:
            y = F.conv2d(blur(x, pad=pad + 1), weight, bias, stride=2)
        elif self.resample == "down":
            y = F.conv2d(F.avg_pool2d(x, 2), weight, bias, padding=pad)
        elif self.resample == "up" and self.lean:
            y = upsample(F.conv2d(x, weight, bias, padding=pad))
        elif self.resample == "up":
            y = F.conv2d(upsample(x), weight, bias, padding=pad)
        elif bias is not None and len(weight) == COLOURS and pad == 0:
            y = pointwise(x, weight[:, :, 0, 0]) + bias[:, None, None]
        else:
            y = F.conv2d(x, weight, bias, padding=pad)
        return y if bias is None else leaky(y)


class ModulatedConv(nn.Module):
    """A convolution whose input channels a style scales, in the fast form.

    The definition gives every sample its own kernel w s_i, normalised over each output channel
    (demodulation), and needs a grouped convolution. Scaling the input by s_i and the output by 1 / |w s_i| is
    the same function, and the whole batch shares one convolution.
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        style: int,
        size: int = 3,
        demodulate: bool = True,
        up: bool = False,
        lean: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outer, inner, size, size))
        self.modulation = EqualLinear(style, inner, bias=1.0)
        self.demodulate, self.up, self.lean = demodulate, up, lean

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, in, H, W), (B, S) -> (B, out, H, W), or twice as wide if `up`."""
        y, norm = self.parts(x, style)
        y = y if norm is None else y * norm
        return upsample(y) if self.up and self.lean else y

    def parts(self, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output before demodulation, and what demodulation multiplies it by, (B, out, 1, 1) or None.

        A lean up-sampling, left to the caller, may follow either: before it, there is a quarter to multiply.
        """
        weight = self.weight[0]
        scale = self.modulation(style) * fan_gain(weight)
        norm = None
        if self.demodulate:
            power = F.linear(scale.square(), weight.square().sum((2, 3)))
            norm = torch.rsqrt(power + 1e-8)[:, :, None, None]
        if weight.shape[-1] == 1:
            return pointwise(x, weight[:, :, 0, 0] * scale[:, None]), norm
        x = x * scale[:, :, None, None]
        if self.up and not self.lean:
            return blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), pad=1, gain=4.0), norm
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2), norm


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, bias, activation."""

    def __init__(self, inner: int, outer: int, style: int, up: bool = False, lean: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inner, outer, style, up=up, lean=lean)
        self.bias = nn.Parameter(torch.zeros(outer))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, in, H, W), (B, S) -> (B, out, H, W), or twice as wide if `up`."""
        y, norm = self.conv.parts(x, style)
        assert norm is not None
        bias = GAIN * self.bias[:, None, None]
        if self.conv.up and self.conv.lean:
            return leaky(upsample(y * (GAIN * norm)) + bias)
        return leaky(torch.addcmul(bias, y, norm, value=GAIN))


class FlowResBlock(nn.Module):
    """h = conv1(x); h + gamma x conv2(norm(h)), both convolutions modulated."""

    def __init__(self, width: int, style: int, groups: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((1, width, 1, 1), 0.1))
        self.norm = nn.GroupNorm(groups, width)
        self.conv1 = StyledConv(width, width, style)
        self.conv2 = StyledConv(width, width, style)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, C, H, W), (B, S) -> (B, C, H, W)."""
        h: Tensor = self.conv1(x, style)
        return torch.addcmul(h, self.gamma, self.conv2(self.norm(h), style))


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut, their sum divided by sqrt(2); halves the picture if `down`.

    The shortcut is a 1x1 convolution where width or size change, else the input itself. `lean` keeps the
    first convolution, which is at the full resolution, as narrow as the input.
    """

    def __init__(self, inner: int, outer: int, down: bool = False, lean: bool = False) -> None:
        super().__init__()
        resample: Resample = "down" if down else "none"
        middle = inner if lean else outer
        self.conv1 = ConvLayer(inner, middle)
        self.conv2 = ConvLayer(middle, outer, resample=resample, lean=lean)
        self.skip = (
            ConvLayer(inner, outer, 1, resample=resample, activate=False, lean=lean)
            if down or inner != outer
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W), or half as wide if `down`."""
        y: Tensor = self.conv2(self.conv1(x), HALF)
        return torch.add(y, x, alpha=HALF) if self.skip is None else y + self.skip(x, HALF)
