"""The discriminator of frames, adversarial losses and perceptual distances."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from motion_ae.discriminator import Discriminator, DiscriminatorConfig, minibatch_deviation
from motion_ae.losses import non_saturating_loss, r1, sparsity
from motion_ae.perceptual import FilterDistance, VGGDistance, scales


def pictures_with_edges() -> torch.Tensor:
    """Pictures with edges (2, 3, 64, 64): a few boxes on a gradient."""
    pictures = torch.linspace(-0.5, 0.5, 64).expand(2, 3, 64, 64).clone()
    pictures[:, 0, 10:30, 20:40] = 0.9
    pictures[:, 1, 25:50, 5:25] = -0.7
    pictures[1, :, 40:44] = 0.3
    return pictures


def test_non_saturating_loss_in_closed_form() -> None:
    assert non_saturating_loss(torch.zeros(3)).item() == pytest.approx(log(2))
    assert non_saturating_loss(torch.tensor([50.0])).item() == pytest.approx(0, abs=1e-6)
    assert non_saturating_loss(torch.tensor([-50.0])).item() == pytest.approx(50)


def test_r1_of_a_linear_discriminator_is_its_squared_weight() -> None:
    weight = torch.randn(12, requires_grad=True)
    pictures = torch.randn(5, 3, 2, 2, requires_grad=True)
    penalty = r1(pictures.flatten(1) @ weight, pictures)
    torch.testing.assert_close(penalty, weight.square().sum())
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 2 * weight)


def test_sparsity_is_the_mean_absolute_code() -> None:
    assert sparsity(torch.tensor([[1.0, -3.0], [0.0, 0.0]])) == 1


def test_discriminator_accepts_its_resolutions_only() -> None:
    discriminator = Discriminator(DiscriminatorConfig.tiny())
    for size in (4, 8, 16, 32):
        assert discriminator(torch.randn(3, 3, size, size)).shape == (3,)
    for size in (2, 24, 64):
        with pytest.raises(ValueError, match=r"4, 8, \.\.\., 32"):
            discriminator(torch.randn(1, 3, size, size))


def test_r1_has_a_gradient_for_every_layer_of_the_resolution() -> None:
    discriminator = Discriminator(DiscriminatorConfig.tiny())
    pictures = torch.randn(2, 3, 32, 32, requires_grad=True)
    r1(discriminator(pictures), pictures).backward()
    reached = {name for name, p in discriminator.named_parameters() if p.grad is not None and p.grad.any()}
    weights = {name for name, _ in discriminator.named_parameters() if name.endswith("weight")}
    assert weights - reached == {f"stems.{level}.weight" for level in range(3)}


def test_minibatch_deviation_of_equal_samples_is_zero() -> None:
    x = torch.randn(1, 3, 4, 4).expand(4, 3, 4, 4)
    torch.testing.assert_close(minibatch_deviation(x, 4), torch.full((4, 1, 4, 4), 1e-4))
    mixed = torch.cat([x[:2], x[:2] + 1])
    assert minibatch_deviation(mixed, 4)[0, 0, 0, 0] == pytest.approx(0.5, abs=1e-3)
    assert minibatch_deviation(torch.randn(3, 3, 4, 4), 2).max() == pytest.approx(1e-4), (
        "three samples do not divide into groups of two"
    )


def test_minibatch_deviation_is_that_of_the_group_of_each_sample() -> None:
    """Of four samples in groups of two, the first and the third form a group."""
    x = torch.tensor([0.0, 5.0, 1.0, 5.0])[:, None, None, None].expand(4, 3, 2, 2)
    deviation = minibatch_deviation(x, 2)[:, 0, 0, 0]
    torch.testing.assert_close(deviation, torch.tensor([0.5, 0.0, 0.5, 0.0]), atol=1e-3, rtol=0)


def vgg() -> VGGDistance:
    """VGG19 with random weights, which obey the same laws as trained ones."""
    from torchvision.models import vgg

    torch.manual_seed(0)
    layers = vgg.make_layers(vgg.cfgs["E"])
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return VGGDistance({f"features.{key}": value for key, value in layers.state_dict().items()})


@pytest.mark.parametrize("kind", [FilterDistance, pytest.param(vgg, marks=pytest.mark.long)])
def test_perceptual_distance_grows_with_blur_and_shift(kind: type[FilterDistance]) -> None:
    distance, sharp = kind(), pictures_with_edges()
    assert distance(sharp, sharp) == 0
    blurred, blurs = sharp, [0.0]
    for _ in range(3):
        blurred = F.avg_pool2d(blurred, 3, stride=1, padding=1, count_include_pad=False)
        blurs.append(distance(blurred, sharp).item())
    shifts = [distance(sharp.roll(by, -1), sharp).item() for by in range(4)]
    assert blurs == sorted(set(blurs))
    assert shifts == sorted(set(shifts))
    torch.testing.assert_close(
        distance(blurred, sharp), distance(blurred.flip(-1), sharp.flip(-1)), rtol=0.2, atol=0
    )


def test_filter_distance_ignores_brightness() -> None:
    distance, sharp = FilterDistance(), pictures_with_edges()
    assert distance(sharp + 0.1, sharp) < 1e-5
    made = sharp.clone().requires_grad_()
    distance(made, sharp.flip(-1)).backward()
    assert made.grad is not None
    assert made.grad.isfinite().all()


def test_filter_distance_of_mirrored_pictures_is_the_same() -> None:
    distance, sharp = FilterDistance(), pictures_with_edges()
    other = sharp.roll(3, -2)
    torch.testing.assert_close(distance(sharp, other), distance(sharp.flip(-1), other.flip(-1)))


def test_scales_stop_at_the_smallest_width() -> None:
    for size, widths in ((256, [256, 128, 64, 32]), (64, [64, 32, 16])):
        blank = torch.zeros(1, 3, size, size)
        assert [ours.shape[-1] for ours, _ in scales(blank, blank, 16)] == widths


@pytest.mark.long
def test_vgg_distance_rejects_other_weights() -> None:
    with pytest.raises(ValueError, match="not torchvision's"):
        VGGDistance({"features.0.weight": torch.zeros(3)})
