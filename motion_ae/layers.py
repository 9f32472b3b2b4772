"""Layers of the motion autoencoder: equalised convolutions, modulated convolutions, residual blocks.

Equalised learning rate: weights are stored with unit variance and divided by sqrt(fan_in) in the forward
pass (StyleGAN and LIA-X). Parameters have the shapes of the published files, including leading ones.

Shapes: x (B, C, H, W), style (B, S). Feature maps use the channels-last memory format: on a CPU their
convolutions are twice and their up-sampling is five times as fast. Maps of three channels (flow, RGB) use the
default format.

Data types: feature maps and styles have the type of the weights. Demodulation is computed in float32, because
its squares underflow in float16.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.upfirdn import blur, blur_kernel, upsample

Resample = Literal["none", "down", "up"]
GAIN, HALF = sqrt(2.0), sqrt(0.5)
COLOURS = 3


class Derived:
    """A tensor that is computed from one parameter and kept until the parameter changes.

    The kept tensor is used only while gradients are disabled. It is computed again when the parameter was
    replaced, moved, converted or changed in place. Changes through `parameter.data` leave no trace, so
    modules in training mode do not keep the tensor. Copies and pickles of the owner start without it.

    Args:
        compute: the function from the parameter to the tensor.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        self.compute = compute
        self._kept: tuple[Tensor, int, Tensor] | None = None  # alias of the parameter, version, result

    def __call__(self, parameter: Tensor, training: bool) -> Tensor:
        """The computed tensor; `training` is the mode of the module that owns the parameter."""
        traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if training or traced or parameter.is_inference():  # inference tensors do not count their changes
            self._kept = None
            return self.compute(parameter)
        kept = self._kept
        # The alias keeps the old memory allocated: an equal address means the same memory.
        if kept is None or kept[0].data_ptr() != parameter.data_ptr() or kept[1] != parameter._version:
            kept = (parameter.detach(), parameter._version, self.compute(parameter))
            self._kept = kept
        return kept[2]

    def __reduce__(self) -> tuple[type[Derived], tuple[Callable[[Tensor], Tensor]]]:
        return Derived, (self.compute,)


def fan_gain(weight: Tensor) -> float:
    """The equalising factor 1 / sqrt(fan_in) of a stored weight (out, in, ...)."""
    return prod(weight.shape[1:]) ** -0.5


def equalised(weight: Tensor) -> Tensor:
    """The stored weight (out, in, ...) multiplied by its `fan_gain`."""
    return weight * fan_gain(weight)


def squared_weight(weight: Tensor) -> Tensor:
    """Sum of squares over the kernel of a weight (1, out, in, h, w): (out, in) in float32."""
    return weight[0].float().square().sum((2, 3))


def channels_last(x: Tensor) -> Tensor:
    """The same (B, C, H, W) in the channels-last memory format."""
    return x.contiguous(memory_format=torch.channels_last)


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """1x1 convolution of x (B, in, H, W) by a weight (out, in) or (B, out, in): (B, out, H, W).

    The result is not channels-last. With the three maps of a flow or a picture, a matrix product is faster
    than the library's convolution.
    """
    return (weight @ x.flatten(2)).unflatten(2, x.shape[2:])


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, in place.

    The published activation multiplies its output by sqrt(2). A leaky ReLU commutes with a positive factor,
    so the layers multiply their weights and biases by it instead, which saves a pass over every feature map.
    """
    return F.leaky_relu(x, 0.2, inplace=True)


class EqualLinear(nn.Module):
    """Linear layer with an equalised weight (out, in); every bias is initialised to `bias`."""

    def __init__(self, inner: int, outer: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner))
        self.bias = nn.Parameter(torch.full((outer,), bias))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        return F.linear(x, equalised(self.weight), self.bias)


class ConvLayer(nn.Module):
    """Convolution with optional resampling by two, then a bias and an activation if `activate`.

    Published order: "down" blurs before a strided convolution, "up" up-samples before the convolution. With
    `lean`, "down" averages 2x2 pixels instead of blurring, and "up" up-samples after convolution and bias.
    """

    kernel: Tensor

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
        if resample == "down" and not lean:
            self.register_buffer("kernel", blur_kernel(), persistent=False)

    def forward(self, x: Tensor, factor: float = 1.0) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W'), where H' is H, H/2 or 2H; multiplies the result by `factor`."""
        gain = factor if self.bias is None else factor * GAIN
        weight = self.weight * (gain * fan_gain(self.weight))
        bias = None if self.bias is None else self.bias * gain
        pad = weight.shape[-1] // 2
        if self.resample == "down" and not self.lean:
            y = F.conv2d(blur(x, self.kernel, pad=pad + 1), weight, bias, stride=2)
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
    """Modulated convolution of StyleGAN2: a style scales the input channels (Karras et al., 2020).

    By definition, sample i has its own kernel w s_i, which demodulation divides by its norm over each output
    channel; this needs a grouped convolution. Multiplying the input by s_i and the output by 1 / |w s_i|
    computes the same function with one convolution for the whole batch.
    """

    kernel: Tensor

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
        self._power = Derived(squared_weight)
        if up and not lean:
            self.register_buffer("kernel", blur_kernel(4.0), persistent=False)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (B, in, H, W), style (B, S) -> (B, out, H, W), or (B, out, 2H, 2W) if `up`."""
        y, norm = self.parts(x, style)
        y = y if norm is None else y * norm
        return upsample(y) if self.up and self.lean else y

    def parts(self, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output before demodulation, and the factor of demodulation (B, out, 1, 1), or None.

        Does not include the up-sampling of a `lean` layer: multiplying before it costs a quarter.
        """
        weight = self.weight[0]
        scale = self.modulation(style).float() * fan_gain(weight)
        norm = None
        if self.demodulate:
            power = F.linear(scale.square(), self._power(self.weight, self.training))
            norm = torch.rsqrt(power + 1e-8)[:, :, None, None].to(x.dtype)
        if weight.shape[-1] == 1:
            return pointwise(x, (weight[:, :, 0, 0] * scale[:, None]).to(x.dtype)), norm
        x = x * scale[:, :, None, None].to(x.dtype)
        if self.up and not self.lean:
            return blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), self.kernel, pad=1), norm
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2), norm


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, then a bias and an activation."""

    def __init__(self, inner: int, outer: int, style: int, up: bool = False, lean: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inner, outer, style, up=up, lean=lean)
        self.bias = nn.Parameter(torch.zeros(outer))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (B, in, H, W), style (B, S) -> (B, out, H, W), or (B, out, 2H, 2W) if `up`."""
        y, norm = self.conv.parts(x, style)
        assert norm is not None
        bias = GAIN * self.bias[:, None, None]
        if self.conv.up and self.conv.lean:
            return leaky(upsample(y * (GAIN * norm)) + bias)
        return leaky(torch.addcmul(bias, y, norm, value=GAIN))


class FlowResBlock(nn.Module):
    """h + gamma * conv2(norm(h)) with h = conv1(x); both convolutions are modulated."""

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
    """Residual block: (conv2(conv1(x)) + skip(x)) / sqrt(2); halves height and width if `down`.

    The skip connection is a 1x1 convolution if the number of channels or the resolution changes, else the
    identity. With `lean` the first convolution, which runs at full resolution, keeps the number of channels.
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
        """(B, in, H, W) -> (B, out, H, W), or (B, out, H/2, W/2) if `down`."""
        y: Tensor = self.conv2(self.conv1(x), HALF)
        return torch.add(y, x, alpha=HALF) if self.skip is None else y + self.skip(x, HALF)
