"""The decoder: a style -> flows and masks that warp the source's features, and the picture painted from them.

Two paths climb the levels side by side. The *hidden* path predicts each level's flow and mask, and takes up
the warped features; the *paint* path sees only warped features, and adds its RGB to that of the coarser
levels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.layers import ConvLayer, FlowResBlock, ModulatedConv, ResBlock, StyledConv, channels_last
from motion_ae.upfirdn import upsample


@dataclass(frozen=True)
class Canvas:
    """What one level hands to the next. `flow` holds raw values: two of displacement, one of mask."""

    hidden: Tensor
    paint: Tensor | None = None
    flow: Tensor | None = None
    rgb: Tensor | None = None


def warp(source: Tensor, displacement: Tensor) -> Tensor:
    """Sample (B or 1, C, H, W) at the identity grid plus (B, 2, H, W), x then y, where a picture is 2 wide.

    Outside the picture are zeros; the corners' pixel centres are at -1 and 1.
    """
    batch, _, height, width = displacement.shape
    xs, ys = _axis(displacement, width), _axis(displacement, height)[:, None]
    grid = torch.stack([xs.expand(height, width), ys.expand(height, width)])
    where = (displacement + grid).permute(0, 2, 3, 1)
    source = source.expand(batch, -1, -1, -1)
    return F.grid_sample(source, where, mode="bilinear", padding_mode="zeros", align_corners=True)


def gather(source: Tensor, displacement: Tensor) -> Tensor:
    """`warp`, channels-last: a pixel is the weighted sum of four rows of a table of the source's pixels.

    On a CPU several times as fast as `warp` and what then lays its result out, but its backward pass is slow.
    """
    batch, _, height, width = displacement.shape
    table = source.permute(0, 2, 3, 1).reshape(-1, source.shape[1])
    left, across = _taps(displacement[:, 0], _axis(displacement, width))
    top, down = _taps(displacement[:, 1], _axis(displacement, height)[:, None])
    first = torch.arange(len(source), device=table.device)[:, None, None] * (height * width)
    corner = first + top * width + left
    rows = corner[..., None] + torch.tensor([0, 1, width, width + 1], device=table.device)
    weights = (down[..., :, None] * across[..., None, :]).flatten(3)
    summed = F.embedding_bag(rows.view(-1, 4), table, per_sample_weights=weights.view(-1, 4), mode="sum")
    return summed.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _axis(like: Tensor, size: int) -> Tensor:
    """Pixel centres (size,) along an axis of the identity grid."""
    return torch.linspace(-1.0, 1.0, size, device=like.device, dtype=like.dtype)


def _taps(displacement: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """(B, H, W) along one axis -> the first of the two pixels to sample, int64, and the weights (B, H, W, 2).

    The two are always inside; a weight is 1 - distance or 0, and so beyond the border as well.
    """
    size = axis.numel()
    at = (displacement + (axis + 1)) * ((size - 1) / 2)
    first = at.floor().clamp(0, size - 2)
    return first.long(), torch.stack([1 - (at - first).abs(), 1 - (at - first - 1).abs()], -1).relu()


def sketch(canvas: Canvas, image: Tensor) -> Tensor:
    """A level's picture (B, 3, h, h) without parameters of its own: the small image warped, or paint.

    Stands in for the blend while only the coarser levels are trained.
    """
    assert canvas.flow is not None
    assert canvas.rgb is not None
    small = F.interpolate(image, size=canvas.flow.shape[-2:], mode="area")
    warped = warp(small, torch.tanh(canvas.flow[:, :2]))
    return torch.lerp(canvas.rgb, warped, torch.sigmoid(canvas.flow[:, 2:]))


class ToFlow(nn.Module):
    """Predicts flow and mask, and warps the source's features by them."""

    def __init__(self, width: int, style: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.conv = ModulatedConv(width, 3, style, size=1, demodulate=False)
        nn.init.zeros_(self.conv.weight)  # training starts from the source as it is

    def forward(
        self, hidden: Tensor, style: Tensor, feature: Tensor, coarser: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """-> warped features (B, C, H, W), mask (B, 1, H, W), raw flow and mask (B, 3, H, W)."""
        raw = self.conv(hidden, style) + self.bias
        if coarser is not None:
            raw = raw + upsample(coarser)
        mask = torch.sigmoid(raw[:, 2:])
        flow = torch.tanh(raw[:, :2])
        if flow.is_cpu and not torch.is_grad_enabled():
            return gather(feature, flow), mask, raw
        return channels_last(warp(feature, flow)), mask, raw


class ToRGB(nn.Module):
    """RGB of one level, added to that of the coarser ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.conv = ConvLayer(width, 3, 1)
        self.conv.weight.data *= 0.1  # training starts from nearly nothing painted

    def forward(self, paint: Tensor, coarser: Tensor | None) -> Tensor:
        """(B, C, H, W), (B, 3, H/2, W/2) or None -> (B, 3, H, W)."""
        rgb: Tensor = self.conv(paint) + self.bias
        return rgb if coarser is None else rgb + upsample(coarser)


class Level(nn.Module):
    """One resolution of the decoder. `coarser` is the width of the level below."""

    def __init__(self, config: MotionAEConfig, index: int) -> None:
        super().__init__()
        width, style = config.channels[index], config.style_dim
        coarser = config.channels[max(index - 1, 0)]
        self.up = StyledConv(coarser, width, style, up=True, lean=config.lean)
        self.flow_blocks = nn.ModuleList(
            FlowResBlock(width, style, config.norm_groups) for _ in range(config.flow_blocks[index])
        )
        self.to_flow = ToFlow(width, style)
        self.paint_up = ConvLayer(coarser, width, resample="up", lean=config.lean) if index else None
        self.rgb_blocks = nn.ModuleList(ResBlock(width, width) for _ in range(config.rgb_blocks[index]))
        self.to_rgb = ToRGB(width)
        self.inpaint, self.finest = config.inpaint, index == len(config.channels) - 1

    def forward(self, canvas: Canvas, style: Tensor, feature: Tensor) -> Canvas:
        """The coarser level's canvas, style (B, S), source feature (B or 1, C, H, W) -> this level's."""
        hidden = self.up(canvas.hidden, style)
        for block in self.flow_blocks:
            hidden = block(hidden, style)
        warped, mask, flow = self.to_flow(hidden, style, feature, canvas.flow)
        if self.inpaint or not self.finest:
            hidden = torch.lerp(hidden, warped, mask)
        paint = hidden if self.inpaint else warped * mask
        if self.paint_up is not None:
            paint = paint + self.paint_up(canvas.paint)
        for block in self.rgb_blocks:
            paint = block(paint)
        return Canvas(hidden, paint, flow, self.to_rgb(paint, canvas.rgb))


class Blend(nn.Module):
    """The warped source image mixed with the painted picture, at twice the features' resolution.

    Convolutions at the features' resolution see both and make four sub-pixels of mask and RGB correction.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.from_paint = nn.Conv2d(width, 16, 3, padding=1)
        self.from_warp = nn.Conv2d(12, 16, 1, bias=False)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        assert self.from_paint.bias is not None
        nn.init.ones_(self.from_paint.bias[12:])  # of the mask: training starts from mostly the source

    def forward(self, canvas: Canvas, image: Tensor) -> Tensor:
        """Finest canvas (H/2 wide) and source image (B or 1, 3, H, W) -> picture (B, 3, H, W)."""
        assert canvas.flow is not None
        assert canvas.rgb is not None
        assert canvas.paint is not None
        # Displacements count from first to last pixel centre: at more pixels, a little more of the picture.
        unit = 2 * (canvas.flow.shape[-1] - 1) / (image.shape[-1] - 1)
        flow = F.interpolate(torch.tanh(canvas.flow[:, :2]) * unit, scale_factor=2, mode="bilinear")
        warped = warp(image, flow)
        # The 1x1 convolution of every 2x2 pixels' values is a convolution of kernel and stride 2.
        kernel = channels_last(self.from_warp.weight.view(-1, 3, 2, 2))
        seen = self.from_paint(canvas.paint) + F.conv2d(warped, kernel, stride=2)
        detail = F.pixel_shuffle(seen, 2).to(image.dtype)  # narrower under autocast
        return torch.lerp(upsample(canvas.rgb) + detail[:, :3], warped, torch.sigmoid(detail[:, 3:]))


class Decoder(nn.Module):
    """Style (B, S) and the source's features -> picture (B, 3, H, W), not clamped."""

    def __init__(self, config: MotionAEConfig) -> None:
        super().__init__()
        wide = config.channels[0]
        self.constant = nn.Parameter(torch.randn(1, wide, 4, 4))
        self.first = StyledConv(wide, wide, config.style_dim)
        self.levels = nn.ModuleList(Level(config, i) for i in range(len(config.channels)))
        self.blend = Blend(config.channels[-1]) if config.blend else None

    def canvases(self, style: Tensor, features: tuple[Tensor, ...]) -> list[Canvas]:
        """The levels' canvases, coarse to fine; features as `Encoder` gives them, batch B or 1.

        Fewer features than levels give the coarser canvases alone, for training in stages.
        """
        constant = channels_last(self.constant).expand(len(style), -1, -1, -1)
        canvas = Canvas(self.first(constant, style))
        made = []
        for level, feature in zip(self.levels, features, strict=False):
            canvas = level(canvas, style, feature)
            made.append(canvas)
        return made

    def forward(self, style: Tensor, features: tuple[Tensor, ...], image: Tensor) -> Tensor:
        """(B, S), features, source image (B or 1, 3, H, W; read only by the blend) -> (B, 3, H, W)."""
        return self.picture(self.canvases(style, features)[-1], image)

    def picture(self, finest: Canvas, image: Tensor) -> Tensor:
        """The finest canvas and the source image -> (B, 3, H, W)."""
        assert finest.rgb is not None
        return finest.rgb if self.blend is None else self.blend(finest, image)
