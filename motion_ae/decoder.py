"""The decoder: a style predicts flows and masks, which warp the source's features; these give the picture.

Every level has two paths. The *hidden* path predicts the flow and the mask of the level and mixes the warped
features into its own. The *paint* path reads the warped features only (with `inpaint`, the hidden path too)
and adds its RGB to the RGB of the coarser levels.

Data types: features and paths have the type of the weights. Flows, masks of the blend, coordinates and
pictures are float32, because half precision cannot address single pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.layers import ConvLayer, FlowResBlock, ModulatedConv, ResBlock, StyledConv, channels_last
from motion_ae.upfirdn import upsample


@dataclass(frozen=True)
class LevelOutput:
    """The output of one level, and the input of the next.

    Attributes:
        hidden: the hidden path (B, C, H, W).
        paint: the paint path (B, C, H, W).
        flow: raw flow (B, 3, H, W) in float32: two channels of displacement before tanh, one of the mask
            before sigmoid.
        rgb: the picture so far (B, 3, H, W) in float32.
    """

    hidden: Tensor
    paint: Tensor | None = None
    flow: Tensor | None = None
    rgb: Tensor | None = None


def warp(source: Tensor, displacement: Tensor) -> Tensor:
    """Sample source (B or 1, C, H, W) at the identity grid plus displacement (B, 2, H, W), x before y.

    Coordinates run from -1 to 1 between the centres of the outermost pixels; outside the picture the source
    is zero. Samples in float32 and returns the type of `source`.
    """
    batch, _, height, width = displacement.shape
    displacement = displacement.float()
    xs, ys = _axis(displacement, width), _axis(displacement, height)[:, None]
    grid = torch.stack([xs.expand(height, width), ys.expand(height, width)])
    where = (displacement + grid).permute(0, 2, 3, 1)
    pixels = source.float().expand(batch, -1, -1, -1)
    sampled = F.grid_sample(pixels, where, mode="bilinear", padding_mode="zeros", align_corners=True)
    return sampled.to(source.dtype)


def gather(source: Tensor, displacement: Tensor) -> Tensor:
    """The same function as `warp`, with a channels-last result: pixels are weighted sums of four table rows.

    On a CPU it is several times as fast as `warp` followed by a change of format. Its backward pass is slow.
    """
    batch, _, height, width = displacement.shape
    displacement = displacement.float()
    table = source.permute(0, 2, 3, 1).reshape(-1, source.shape[1])
    left, across = _taps(displacement[:, 0], _axis(displacement, width))
    top, down = _taps(displacement[:, 1], _axis(displacement, height)[:, None])
    first = torch.arange(len(source), device=table.device)[:, None, None] * (height * width)
    corner = first + top * width + left
    rows = corner[..., None] + torch.tensor([0, 1, width, width + 1], device=table.device)
    weights = (down[..., :, None] * across[..., None, :]).flatten(3).to(table.dtype)
    summed = F.embedding_bag(rows.view(-1, 4), table, per_sample_weights=weights.view(-1, 4), mode="sum")
    return summed.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _axis(like: Tensor, size: int) -> Tensor:
    """Coordinates of the pixel centres along one axis of the identity grid, (size,)."""
    return torch.linspace(-1.0, 1.0, size, device=like.device, dtype=like.dtype)


def _taps(displacement: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """Linear interpolation along one axis, from displacements (B, H, W).

    Returns the index of the first of the two pixels to sample, (B, H, W) int64, and the weights of both,
    (B, H, W, 2). Both pixels are always inside the picture. A weight is max(0, 1 - distance), which is also
    right beyond the border.
    """
    size = axis.numel()
    position = (displacement + (axis + 1)) * ((size - 1) / 2)
    first = position.floor().clamp(0, size - 2)
    offset = position - first
    return first.long(), torch.stack([1 - offset.abs(), 1 - (offset - 1).abs()], -1).relu()


def coarse_picture(level: LevelOutput, image: Tensor) -> Tensor:
    """The picture (B, 3, h, h) of a coarse level, from its RGB and the source image (B or 1, 3, H, W).

    Replaces the blend while only the coarser levels are trained: the image is averaged down and warped by the
    level's flow; where the level's mask is 1 the result shows the image, where it is 0 the RGB.
    """
    assert level.flow is not None
    assert level.rgb is not None
    small = F.interpolate(image.float(), size=level.flow.shape[-2:], mode="area")
    warped = warp(small, torch.tanh(level.flow[:, :2]))
    return torch.lerp(level.rgb, warped, torch.sigmoid(level.flow[:, 2:]))


class ToFlow(nn.Module):
    """Predicts the flow and the mask of a level, and warps the source's features by the flow."""

    def __init__(self, width: int, style: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.conv = ModulatedConv(width, 3, style, size=1, demodulate=False)
        nn.init.zeros_(self.conv.weight)  # training starts from the source as it is

    def forward(
        self, hidden: Tensor, style: Tensor, feature: Tensor, coarser: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden path (B, C, H, W), style (B, S), source features (B or 1, C, H, W), raw flow of the coarser
        level (B, 3, H/2, W/2) or None -> warped features (B, C, H, W), mask (B, 1, H, W), raw flow
        (B, 3, H, W) in float32 (see `LevelOutput`).
        """
        raw = self.conv(hidden, style).float() + self.bias
        if coarser is not None:
            raw = raw + upsample(coarser)
        mask = torch.sigmoid(raw[:, 2:]).to(hidden.dtype)
        flow = torch.tanh(raw[:, :2])
        if flow.is_cpu and not torch.is_grad_enabled():
            return gather(feature, flow).to(hidden.dtype), mask, raw
        return channels_last(warp(feature, flow)).to(hidden.dtype), mask, raw


class ToRGB(nn.Module):
    """The RGB of one level, added to the RGB of the coarser levels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.conv = ConvLayer(width, 3, 1)
        self.conv.weight.data *= 0.1  # training starts from nearly nothing painted

    def forward(self, paint: Tensor, coarser: Tensor | None) -> Tensor:
        """Paint path (B, C, H, W), coarser RGB (B, 3, H/2, W/2) or None -> RGB (B, 3, H, W) in float32."""
        rgb: Tensor = self.conv(paint).float() + self.bias
        return rgb if coarser is None else rgb + upsample(coarser)


class Level(nn.Module):
    """One resolution of the decoder; level 0 is the coarsest."""

    def __init__(self, config: MotionAEConfig, index: int) -> None:
        super().__init__()
        width, style = config.channels[index], config.style_dim
        coarser = config.channels[max(index - 1, 0)]  # channels of the previous level
        self.up = StyledConv(coarser, width, style, up=True, lean=config.lean)
        self.flow_blocks = nn.ModuleList(
            FlowResBlock(width, style, config.norm_groups) for _ in range(config.flow_blocks[index])
        )
        self.to_flow = ToFlow(width, style)
        self.paint_up = ConvLayer(coarser, width, resample="up", lean=config.lean) if index else None
        self.rgb_blocks = nn.ModuleList(ResBlock(width, width) for _ in range(config.rgb_blocks[index]))
        self.to_rgb = ToRGB(width)
        self.inpaint, self.finest = config.inpaint, index == len(config.channels) - 1

    def forward(self, coarser: LevelOutput, style: Tensor, feature: Tensor) -> LevelOutput:
        """Output of the coarser level, style (B, S), source features (B or 1, C, H, W) -> output."""
        hidden = self.up(coarser.hidden, style)
        for block in self.flow_blocks:
            hidden = block(hidden, style)
        warped, mask, flow = self.to_flow(hidden, style, feature, coarser.flow)
        if self.inpaint or not self.finest:
            hidden = torch.lerp(hidden, warped, mask)
        paint = hidden if self.inpaint else warped * mask
        if self.paint_up is not None:
            paint = paint + self.paint_up(coarser.paint)
        for block in self.rgb_blocks:
            paint = block(paint)
        return LevelOutput(hidden, paint, flow, self.to_rgb(paint, coarser.rgb))


class Blend(nn.Module):
    """Mixes the warped source image with the painted picture, at twice the resolution of the features.

    Convolutions at the resolution of the features read both; for each cell they predict the mask and an RGB
    correction of its four pixels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.from_paint = nn.Conv2d(width, 16, 3, padding=1)
        self.from_warp = nn.Conv2d(12, 16, 1, bias=False)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        assert self.from_paint.bias is not None
        nn.init.ones_(self.from_paint.bias[12:])  # mask: training starts from mostly the warped source

    def forward(self, finest: LevelOutput, image: Tensor) -> Tensor:
        """Output of the finest level (H/2 wide), source image (B or 1, 3, H, W) -> picture (B, 3, H, W).

        The picture is float32.
        """
        assert finest.flow is not None
        assert finest.rgb is not None
        assert finest.paint is not None
        # Coordinates span the outermost pixel centres, a larger part of the picture at a higher resolution:
        # one pixel of the flow is 2 / (W/2 - 1) there and must become two pixels of 2 / (W - 1) here.
        unit = 2 * (finest.flow.shape[-1] - 1) / (image.shape[-1] - 1)
        flow = F.interpolate(torch.tanh(finest.flow[:, :2]) * unit, scale_factor=2, mode="bilinear")
        warped = warp(image.float(), flow)
        # A 1x1 convolution of the values of 2x2 pixels is a convolution of kernel size and stride 2.
        kernel = channels_last(self.from_warp.weight.view(-1, 3, 2, 2))
        mixed = self.from_paint(finest.paint) + F.conv2d(warped.to(kernel.dtype), kernel, stride=2)
        detail = F.pixel_shuffle(mixed, 2).float()
        return torch.lerp(upsample(finest.rgb) + detail[:, :3], warped, torch.sigmoid(detail[:, 3:]))


class Decoder(nn.Module):
    """Styles and the features of the source -> pictures, which are not clamped."""

    def __init__(self, config: MotionAEConfig) -> None:
        super().__init__()
        wide = config.channels[0]
        self.constant = nn.Parameter(torch.randn(1, wide, 4, 4))
        self.first = StyledConv(wide, wide, config.style_dim)
        self.levels = nn.ModuleList(Level(config, i) for i in range(len(config.channels)))
        self.blend = Blend(config.channels[-1]) if config.blend else None

    def level_outputs(self, style: Tensor, features: tuple[Tensor, ...]) -> list[LevelOutput]:
        """The output of every level, coarse to fine, for styles (B, S).

        `features` come from `Encoder` with a batch of B or 1. If there are fewer features than levels, the
        finer levels are left out (training in stages).
        """
        style = style.to(self.constant.dtype)
        constant = channels_last(self.constant).expand(len(style), -1, -1, -1)
        output = LevelOutput(self.first(constant, style))
        outputs = []
        for level, feature in zip(self.levels, features, strict=False):
            output = level(output, style, feature)
            outputs.append(output)
        return outputs

    def forward(self, style: Tensor, features: tuple[Tensor, ...], image: Tensor) -> Tensor:
        """Styles (B, S), features, source image (B or 1, 3, H, W) -> pictures (B, 3, H, W) in float32.

        Only the blend reads the source image.
        """
        return self.picture(self.level_outputs(style, features)[-1], image)

    def picture(self, finest: LevelOutput, image: Tensor) -> Tensor:
        """Output of the finest level and the source image (B or 1, 3, H, W) -> pictures (B, 3, H, W)."""
        assert finest.rgb is not None
        return finest.rgb if self.blend is None else self.blend(finest, image)
