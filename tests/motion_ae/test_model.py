"""Laws of the motion autoencoder at tiny sizes, in both forms and in half precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from motion_ae.config import MotionAEConfig
from motion_ae.glimpses import Glimpses
from motion_ae.model import MotionAE, relative_motion


@pytest.fixture(params=["published", "puppet"])
def config(request: pytest.FixtureRequest) -> MotionAEConfig:
    """Both forms at a small size: every option disabled, every option enabled."""
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


def _active_model(config: MotionAEConfig) -> MotionAE:
    """A model whose flow and RGB layers, which are initialised to (nearly) zero, have an effect."""
    model = MotionAE(config).eval()
    for name, parameter in model.named_parameters():
        if any(head in name for head in ("to_flow", "to_rgb", "blend")):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def _pictures(config: MotionAEConfig, count: int) -> Tensor:
    return torch.rand(count, 3, config.resolution, config.resolution) * 2 - 1


@torch.no_grad()
def test_frames_rendered_one_by_one_equal_frames_rendered_together(config: MotionAEConfig) -> None:
    model, image = _active_model(config), _pictures(config, 1)
    motion = torch.randn(3, config.motion_dim)
    source = model.encode_source(image)
    together = model.decode(motion, source)
    assert torch.equal(together, model.decode(motion, model.encode_source(image)))
    assert together.shape == (3, 3, config.resolution, config.resolution)
    assert together.std() > 0.05
    loud = 40 * motion
    wide = model.render(loud, source)
    assert wide.abs().max() > 1
    assert torch.equal(model.decode(loud, source), wide.clamp(-1, 1))
    alone = torch.cat([model.decode(row[None], source) for row in motion])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-3, "motion changes the picture"


@torch.no_grad()
@pytest.mark.parametrize(("resolution", "levels"), [(64, 3), (128, 4)])
def test_model_works_at_any_resolution_of_its_config(resolution: int, levels: int) -> None:
    tiny, each = MotionAEConfig.tiny(), (1,) * levels
    channels = (8,) * (levels - 1) + (4,)
    config = replace(tiny, resolution=resolution, channels=channels, flow_blocks=each, rgb_blocks=each)
    model = MotionAE(config).eval()
    source = model.encode_source(_pictures(config, 1))
    assert [f.shape[-1] for f in source.features] == [8 * 2**level for level in range(levels)]
    assert model.decode(source.motion, source).shape == (1, 3, resolution, resolution)


@torch.no_grad()
def test_frames_encoded_one_by_one_equal_frames_encoded_together(config: MotionAEConfig) -> None:
    model, images = _active_model(config), _pictures(config, 3)
    together = model.encode(images)
    torch.testing.assert_close(
        torch.cat([model.encode(i[None]) for i in images]), together, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(model.encode_source(images[:1]).motion, together[:1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_relative_motion_adds_displacements(config: MotionAEConfig) -> None:
    model = _active_model(config)
    source = model.encode_source(_pictures(config, 1))
    target, start = torch.randn(4, config.motion_dim), torch.randn(1, config.motion_dim)
    own = relative_motion(start, start, source)
    torch.testing.assert_close(own, source.motion)
    codes = [(motion - model.mean) / model.scale for motion in (target, start, source.motion)]
    to_target, to_start, to_source = (model.directions(code) for code in codes)
    published = source.identity + to_target - to_start + (0 if config.relative else to_source)
    style = model.style(relative_motion(target, start, source), source.identity, source.motion)
    torch.testing.assert_close(style, published, atol=1e-5, rtol=1e-5)


def test_every_parameter_receives_a_gradient(config: MotionAEConfig) -> None:
    model, images = _active_model(config), _pictures(config, 2)
    identity, features = model.encoder(images)
    motion = model.read(images, identity, features).flip(0)
    style = model.style(motion, identity, torch.zeros_like(motion))
    loss = (model.decoder(style, features, images) - images.flip(0)).square().mean()
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_wrong_sizes_raise_value_error() -> None:
    config = MotionAEConfig.tiny()
    with pytest.raises(ValueError, match="must be"):
        MotionAE(config).encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="one entry per level"):
        replace(config, channels=(8, 8, 8))
    with pytest.raises(ValueError, match="one per dimension"):
        replace(config, motion_mean=(0.0,))


def test_presets_keep_their_parameter_budgets() -> None:
    def size(config: MotionAEConfig) -> int:
        return sum(parameter.numel() for parameter in MotionAE(config).parameters())

    assert size(MotionAEConfig.tiny()) < 60_000
    assert size(MotionAEConfig.puppet()) < 3_600_000


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)])
def test_half_precision_is_close_to_float32(
    config: MotionAEConfig, dtype: torch.dtype, tolerance: float
) -> None:
    """The tolerance is a fraction of the standard deviation of pictures, and of motion codes."""
    model, images = _active_model(config), _pictures(config, 3)
    motion = model.encode(images)
    frames = model.render(motion[1:], model.encode_source(images[:1]))
    model.to(dtype)
    assert model.scale.dtype == torch.float32
    half_motion = model.encode(images)
    half_frames = model.render(motion[1:], model.encode_source(images[:1]))
    for half, full in ((half_motion, motion), (half_frames, frames)):
        assert half.dtype == torch.float32
        assert (half - full).square().mean().sqrt() < tolerance * full.std()
    alone = torch.cat([model.render(row[None], model.encode_source(images[:1])) for row in motion[1:]])
    assert (alone - half_frames).square().mean().sqrt() < tolerance * frames.std()


@torch.no_grad()
def test_half_precision_inputs_are_accepted() -> None:
    model = _active_model(MotionAEConfig.tiny())
    image = _pictures(model.config, 1).bfloat16()
    expected = model.encode(image.float())
    assert model.encode(image).equal(expected)
    assert model.encode_source(image).motion.equal(expected)


def test_part_is_located_at_the_centre_of_its_cell() -> None:
    glimpses = Glimpses(replace(MotionAEConfig.tiny(), glimpses=1))
    with torch.no_grad():
        for parameter in glimpses.find.parameters():
            parameter.zero_()
        glimpses.find.weight[0, 0, 1, 1] = 100.0
    feature = torch.zeros(1, glimpses.find.in_channels, 8, 16)
    feature[0, 0, 2, 13] = 1.0
    found = glimpses.locate((feature,) * (glimpses.level + 1))
    torch.testing.assert_close(found, torch.tensor([[[27 / 16 - 1, 5 / 8 - 1]]]))


@torch.no_grad()
def test_glimpses_crop_a_quarter_of_the_picture_around_their_centres() -> None:
    """A picture whose first two colours are the coordinates x and y of its pixels."""
    glimpses, seen = Glimpses(replace(MotionAEConfig.tiny(), glimpses=1)), []
    glimpses.parts[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    axis = (torch.arange(256) * 2 + 1) / 256 - 1
    picture = torch.stack([axis.expand(256, 256), axis[:, None].expand(256, 256), axis.expand(256, 256)])
    glimpses(picture[None], torch.tensor([[[0.25, -0.5]]]))
    offsets = 0.25 * ((torch.arange(64) * 2 + 1) / 64 - 1)
    torch.testing.assert_close(seen[0][0], (0.25 + offsets).expand(64, 64))
    torch.testing.assert_close(seen[0][1], (-0.5 + offsets)[:, None].expand(64, 64))


@torch.no_grad()
def test_glimpses_beyond_the_edge_repeat_the_border() -> None:
    """So in a picture of one colour the codes do not depend on the centres."""
    glimpses, picture = Glimpses(MotionAEConfig.tiny()), torch.full((3, 3, 32, 32), 0.7)
    centres = torch.tensor([0.0, 0.9, -1.0])[:, None, None].expand(3, 3, 2)
    codes = glimpses(picture, centres)
    torch.testing.assert_close(codes, codes[:1].expand_as(codes))
