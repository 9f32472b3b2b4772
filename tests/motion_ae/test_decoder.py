"""Warping and blending against closed forms: flows that move a picture by whole pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from motion_ae.config import MotionAEConfig
from motion_ae.decoder import Blend, LevelOutput, coarse_picture, gather, warp
from motion_ae.model import MotionAE
from motion_ae.upfirdn import upsample

CERTAIN = 50.0  # a logit whose sigmoid is 1 in float32


def raw_flow(cells: int, right: int, down: int, mask: float) -> Tensor:
    """Raw flow (1, 3, cells, cells) that samples so many cells further right and down, and a mask logit."""
    displacement = torch.tensor([right, down]) * 2 / (cells - 1)
    return torch.cat([displacement.atanh(), torch.tensor([mask])]).view(1, 3, 1, 1).expand(1, 3, cells, cells)


def moved(picture: Tensor, right: int, down: int) -> Tensor:
    """`picture` (1, C, H, W) sampled so many pixels further right and down; zeros come in at the border."""
    width = picture.shape[-1]
    result = torch.zeros_like(picture)
    result[..., : width - down, : width - right] = picture[..., down:, right:]
    return result


def test_warp_without_displacement_is_the_identity() -> None:
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(warp(x, torch.zeros(2, 2, 8, 8)), x.expand(2, -1, -1, -1), atol=1e-5, rtol=0)


def test_warp_samples_at_the_displacement_in_pixels() -> None:
    x = torch.randn(1, 3, 8, 8)
    displacement = raw_flow(8, 2, 1, 0)[:, :2].tanh()
    torch.testing.assert_close(warp(x, displacement), moved(x, 2, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sources", [1, 3])
def test_gather_equals_warp(sources: int) -> None:
    x, displacement = torch.randn(sources, 5, 8, 12), torch.randn(3, 2, 8, 12)
    assert (displacement.abs() > 2).any(), "some samples lie outside of the picture"
    torch.testing.assert_close(gather(x, displacement), warp(x, displacement), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_are_sampled_at_single_pixels(dtype: torch.dtype) -> None:
    """bfloat16 has 8 bits: coordinates in it would be off by up to half a pixel at a width of 128."""
    x = torch.randn(1, 3, 128, 128).to(dtype)
    displacement = raw_flow(128, 3, 5, 0)[:, :2].tanh()
    for sampled in (warp(x, displacement), gather(x, displacement)):
        assert sampled.dtype == dtype
        torch.testing.assert_close(sampled, moved(x, 3, 5), atol=0.02, rtol=0.01)


def finest_output(cells: int, flow: Tensor) -> LevelOutput:
    hidden, rgb = torch.zeros(1, 4, cells, cells), torch.randn(1, 3, cells, cells)
    return LevelOutput(hidden, torch.randn(1, 4, cells, cells), flow, rgb)


def test_blend_moves_the_image_by_twice_the_cells_of_the_flow() -> None:
    blend, image = Blend(4), torch.rand(1, 3, 32, 32)
    torch.nn.init.constant_(blend.from_paint.bias[12:], CERTAIN)
    picture = blend(finest_output(16, raw_flow(16, 3, 1, 0)), image)
    torch.testing.assert_close(picture, moved(image, 6, 2), atol=1e-5, rtol=0)


def test_untrained_blend_mixes_image_and_paint_by_sigmoid_of_one() -> None:
    blend, image, finest = Blend(4), torch.rand(1, 3, 32, 32), finest_output(16, torch.zeros(1, 3, 16, 16))
    share = torch.sigmoid(torch.tensor(1.0))
    expected = share * image + (1 - share) * upsample(finest.rgb)
    torch.testing.assert_close(blend(finest, image), expected, atol=1e-5, rtol=0)


def test_blend_predicts_four_pixels_per_cell() -> None:
    """Bias c of 16 belongs to channel c // 4 (RGB, then mask) at pixel (c // 2 % 2, c % 2) of every cell."""
    blend, image = Blend(4), torch.zeros(1, 3, 8, 8)
    torch.nn.init.constant_(blend.from_paint.bias[12:], -CERTAIN)
    for channel in range(12):
        blend.from_paint.bias.data[:12] = 0
        blend.from_paint.bias.data[channel] = 1
        finest = LevelOutput(image, torch.zeros(1, 4, 4, 4), torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
        expected = torch.zeros(1, 3, 8, 8)
        expected[:, channel // 4, channel // 2 % 2 :: 2, channel % 2 :: 2] = 1
        torch.testing.assert_close(blend(finest, image), expected)


def test_coarse_picture_shows_the_moved_image_where_the_mask_is_one() -> None:
    image = torch.rand(1, 3, 8, 8)
    level = finest_output(8, raw_flow(8, 2, 1, CERTAIN))
    torch.testing.assert_close(coarse_picture(level, image), moved(image, 2, 1), atol=1e-5, rtol=0)


def test_coarse_picture_shows_the_paint_where_the_mask_is_zero() -> None:
    level = finest_output(8, raw_flow(8, 2, 1, -CERTAIN))
    assert level.rgb is not None
    torch.testing.assert_close(coarse_picture(level, torch.rand(1, 3, 32, 32)), level.rgb)


def test_coarse_picture_averages_the_image_down() -> None:
    image = torch.rand(1, 3, 32, 32)
    picture = coarse_picture(finest_output(8, raw_flow(8, 0, 0, CERTAIN)), image)
    blocks = image.unflatten(3, (8, 4)).unflatten(2, (8, 4)).mean((3, 5))
    torch.testing.assert_close(picture, blocks, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_renderer_moves_the_source_by_the_flow_of_its_finest_level(dtype: torch.dtype) -> None:
    """The flow heads of an untrained network predict their biases alone; its blend shows the source."""
    model = MotionAE(MotionAEConfig.tiny()).eval()
    assert model.decoder.blend is not None
    cells = model.config.feature_resolution
    model.decoder.levels[-1].to_flow.bias.copy_(raw_flow(cells, 2, 1, 0)[..., :1, :1])
    torch.nn.init.constant_(model.decoder.blend.from_paint.bias[12:], CERTAIN)
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    model.to(dtype)
    picture = model.decode(torch.zeros(1, 6), model.encode_source(image))
    assert picture.dtype == torch.float32
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(picture, moved(image, 4, 2), atol=tolerance, rtol=0)
