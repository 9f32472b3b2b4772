"""Laws of the motion autoencoder, on tiny sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.decoder import gather, warp
from motion_ae.directions import Directions
from motion_ae.layers import ModulatedConv, equalised
from motion_ae.model import MotionAE, relative_motion
from motion_ae.upfirdn import blur, blur_kernel, upsample


@pytest.fixture(params=["published", "puppet"])
def config(request: pytest.FixtureRequest) -> MotionAEConfig:
    """Both forms, small: every option off, every option on."""
    tiny = MotionAEConfig.tiny()
    if request.param == "puppet":
        return tiny
    return replace(
        tiny,
        channels=(8, 8, 4),
        flow_blocks=(1, 1, 1),
        rgb_blocks=(1, 1, 1),
        lean=False,
        blend=False,
        inpaint=False,
        relative=False,
        motion_mean=(),
        motion_scale=(),
    )


def _lively(config: MotionAEConfig) -> MotionAE:
    """A network whose flow and colour heads, (nearly) zero when training starts, do something."""
    model = MotionAE(config).eval()
    for name, parameter in model.named_parameters():
        if any(head in name for head in ("to_flow", "to_rgb", "blend")):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def _pictures(config: MotionAEConfig, count: int) -> Tensor:
    return torch.rand(count, 3, config.resolution, config.resolution) * 2 - 1


def _grouped_definition(conv: ModulatedConv, x: Tensor, style: Tensor) -> Tensor:
    """Every sample has its own kernel: the definition, slow."""
    batch, inner = x.shape[:2]
    kernel = equalised(conv.weight[0]) * conv.modulation(style)[:, None, :, None, None]
    if conv.demodulate:
        kernel = kernel * torch.rsqrt(kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, batch * inner, *x.shape[2:])
    if not conv.up:
        y = F.conv2d(x, kernel.flatten(0, 1), padding=kernel.shape[-1] // 2, groups=batch)
        return y.reshape(batch, -1, *y.shape[2:])
    y = F.conv_transpose2d(x, kernel.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    return blur(y.reshape(batch, -1, *y.shape[2:]), pad=1, gain=4.0)


@pytest.mark.parametrize(("demodulate", "up"), [(True, False), (False, False), (True, True)])
def test_fast_modulated_convolution_is_the_per_sample_one(demodulate: bool, up: bool) -> None:
    conv = ModulatedConv(6, 5, 7, demodulate=demodulate, up=up)
    x, style = torch.randn(3, 6, 8, 8), torch.randn(3, 7)
    torch.testing.assert_close(conv(x, style), _grouped_definition(conv, x, style), atol=2e-6, rtol=1e-5)


def test_upsampling_is_zero_insertion_and_the_kernel() -> None:
    x = torch.randn(2, 3, 5, 5)
    spread = torch.zeros(2, 3, 10, 10)
    spread[:, :, ::2, ::2] = x
    kernel = blur_kernel(4.0).expand(3, 1, 4, 4)
    expected = F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel, groups=3)
    torch.testing.assert_close(upsample(x), expected)


def test_warp_by_nothing_is_the_picture() -> None:
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(warp(x, torch.zeros(2, 2, 8, 8)), x.expand(2, -1, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sources", [1, 3])
def test_gathering_rows_is_the_librarys_warp(sources: int) -> None:
    x, displacement = torch.randn(sources, 5, 8, 12), torch.randn(3, 2, 8, 12)
    assert (displacement.abs() > 2).any(), "some samples lie outside"
    torch.testing.assert_close(gather(x, displacement), warp(x, displacement), atol=1e-5, rtol=1e-5)


def test_directions_are_orthonormal_and_linear() -> None:
    directions = Directions(16, 6)
    basis = directions.basis()
    torch.testing.assert_close(basis.T @ basis, torch.eye(6), atol=1e-6, rtol=0)
    a, b = torch.randn(2, 3, 6)
    torch.testing.assert_close(directions(a) + directions(b), directions(a + b), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_portrait_once_or_again_and_frames_alone_or_together(config: MotionAEConfig) -> None:
    model, image = _lively(config), _pictures(config, 1)
    motion = torch.randn(3, config.motion_dim)
    portrait = model.portrait(image)
    together = model.decode(motion, portrait)
    assert torch.equal(together, model.decode(motion, model.portrait(image)))
    assert together.shape == (3, 3, config.resolution, config.resolution)
    assert together.std() > 0.05
    alone = torch.cat([model.decode(row[None], portrait) for row in motion])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-3, "motion changes the picture"


@torch.no_grad()
@pytest.mark.parametrize(("resolution", "levels"), [(128, 4), (256, 5), (512, 6)])
@torch.no_grad()
def test_resolution_is_a_number_in_the_configuration(resolution: int, levels: int) -> None:
    tiny, each = MotionAEConfig.tiny(), (1,) * levels
    channels = (8,) * (levels - 1) + (4,)
    config = replace(tiny, resolution=resolution, channels=channels, flow_blocks=each, rgb_blocks=each)
    model = MotionAE(config).eval()
    portrait = model.portrait(_pictures(config, 1))
    assert [f.shape[-1] for f in portrait.features] == [8 * 2**level for level in range(levels)]
    assert model.decode(portrait.motion, portrait).shape == (1, 3, resolution, resolution)


def test_encoding_alone_or_together(config: MotionAEConfig) -> None:
    model, images = _lively(config), _pictures(config, 3)
    together = model.encode(images)
    torch.testing.assert_close(
        torch.cat([model.encode(i[None]) for i in images]), together, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(model.portrait(images[:1]).motion, together[:1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_relative_motion(config: MotionAEConfig) -> None:
    model = _lively(config)
    portrait = model.portrait(_pictures(config, 1))
    target, start = torch.randn(4, config.motion_dim), torch.randn(1, config.motion_dim)
    own = relative_motion(start, start, portrait)
    torch.testing.assert_close(own, portrait.motion)
    codes = [(motion - model.mean) / model.scale for motion in (target, start, portrait.motion)]
    moved, began, source = (model.directions(code) for code in codes)
    published = portrait.identity + moved - began + (0 if config.relative else source)
    style = model.style(relative_motion(target, start, portrait), portrait.identity, portrait.motion)
    torch.testing.assert_close(style, published, atol=1e-5, rtol=1e-5)


def test_every_parameter_learns(config: MotionAEConfig) -> None:
    model, images = _lively(config), _pictures(config, 2)
    identity, features = model.encoder(images)
    motion = model.read(images, identity, features).flip(0)
    style = model.style(motion, identity, torch.zeros_like(motion))
    loss = (model.decoder(style, features, images) - images.flip(0)).square().mean()
    loss.backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


def test_wrong_sizes_are_refused() -> None:
    config = MotionAEConfig.tiny()
    with pytest.raises(ValueError, match="must be"):
        MotionAE(config).encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="one a level"):
        replace(config, channels=(8, 8, 8))
    with pytest.raises(ValueError, match="motion dimension"):
        replace(config, motion_mean=(0.0,))


def test_presets_keep_their_budgets() -> None:
    def size(config: MotionAEConfig) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in MotionAE(config).parameters())

    assert size(MotionAEConfig.tiny()) < 60_000
    assert size(MotionAEConfig.puppet()) < 3_600_000
    assert 9.0e8 < size(MotionAEConfig.base()) < 9.2e8
