"""Discriminators of waveforms, adversarial and semantic losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audio_vae.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    PeriodDiscriminator,
    SpectralDiscriminator,
    fold,
)
from audio_vae.losses import MeaningLoss, feature_matching, least_squares


def tiny_discriminator() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(DiscriminatorConfig.tiny())


@pytest.mark.parametrize("samples", [1, 2, 7, 12, 1000])
@pytest.mark.parametrize("period", [1, 2, 3, 11])
def test_fold_keeps_every_sample(samples: int, period: int) -> None:
    pcm = torch.randn(2, samples)
    folded = fold(pcm, period)
    assert folded.shape == (2, 1, -(-samples // period), period)
    flat = folded.flatten(1)
    assert torch.equal(flat[:, :samples], pcm)
    assert not flat[:, samples:].any()


@pytest.mark.parametrize("samples", [1, 5, 31, 64, 1000, 1001])
def test_discriminator_accepts_any_length(samples: int) -> None:
    pcm = torch.randn(2, samples).requires_grad_()
    maps = tiny_discriminator()(pcm)
    assert len(maps) == 4
    assert all(len(part) > 1 and part[-1].shape[:2] == (2, 1) for part in maps)
    least_squares(maps, 1.0).backward()
    assert pcm.grad is not None
    assert pcm.grad.isfinite().all()


def test_row_does_not_depend_on_the_other_rows() -> None:
    discriminator, pcm = tiny_discriminator(), torch.randn(3, 500)
    together, alone = discriminator(pcm), discriminator(pcm[1:2])
    for part, single in zip(together, alone, strict=True):
        torch.testing.assert_close(part[-1][1:2], single[-1])


@torch.no_grad()
def test_logits_do_not_depend_on_the_lengths_of_normalised_weights() -> None:
    discriminator, pcm = tiny_discriminator(), torch.randn(1, 200)
    before = [maps[-1] for maps in discriminator(pcm)]
    for name, parameter in discriminator.named_parameters():
        if name.endswith("weight.original1"):
            parameter.mul_(3)
    scaled = [name for name, _ in discriminator.named_parameters() if name.endswith("weight.original1")]
    convolutions = [part for part in discriminator.modules() if isinstance(part, torch.nn.Conv2d)]
    assert len(scaled) == len(convolutions)
    for maps, logits in zip(discriminator(pcm), before, strict=True):
        torch.testing.assert_close(maps[-1], logits)


def test_column_of_a_period_depends_on_its_own_samples_only() -> None:
    part = tiny_discriminator().parts[0]  # period 2
    pcm = torch.randn(1, 400)
    other = pcm.clone()
    other[:, 1::2] += 1
    even = slice(0, None, 2)
    assert torch.equal(part(pcm)[-1][..., even], part(other)[-1][..., even])
    assert not torch.equal(part(pcm)[-1][..., 1], part(other)[-1][..., 1])


@pytest.mark.parametrize("size", [32, 512])
def test_spectrum_of_a_full_scale_tone_has_magnitude_one(size: int) -> None:
    """At every FFT length the layers read values of the same size."""
    part, seen = SpectralDiscriminator(size, 4, (0.0, 1.0)), []
    part.bands[0][0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    part(torch.cos(2 * torch.pi * torch.arange(8 * size) / 8)[None])
    assert seen[0].square().sum(1).sqrt().max() == pytest.approx(1, rel=1e-3)


def test_least_squares_in_closed_form() -> None:
    maps: list[list[Tensor]] = [[torch.full((2, 1, 3, 2), 0.5)], [torch.zeros(2, 4), torch.full((2, 1), 3.0)]]
    assert least_squares(maps, 1.0).item() == pytest.approx((0.25 + 4) / 2)
    assert least_squares(maps, 0.0).item() == pytest.approx((0.25 + 9) / 2)


def test_feature_matching_has_a_gradient_for_the_decoded_speech_only() -> None:
    real = tiny_discriminator()(torch.randn(1, 300))
    assert feature_matching(real, real) == 0
    made = [[maps[0] + 0.5, *maps[1:-1], maps[-1] + 100] for maps in real]
    layers = sum(len(maps) - 1 for maps in real)
    assert feature_matching(made, real).item() == pytest.approx(0.5 * len(real) / layers)
    ours, goal = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    feature_matching([[ours, ours]], [[goal, goal]]).backward()
    assert ours.grad is not None
    assert goal.grad is None


def test_semantic_loss_in_closed_form() -> None:
    loss = MeaningLoss(4, 4)
    loss.read = torch.nn.Sequential()  # the identity
    features = torch.tensor([[[1.0, 0, 0, 0]]])
    assert loss(features, features) == pytest.approx(0, abs=1e-6)
    assert loss(2 * features, features).item() == pytest.approx(1 / 4)
    assert loss(-features, features).item() == pytest.approx(4 / 4 + 2)


def test_layers_of_a_period_discriminator_but_the_last_have_a_stride_of_three() -> None:
    maps = PeriodDiscriminator(2, (4, 4, 4))(torch.randn(1, 2 * 54))
    assert [part.shape[2] for part in maps] == [18, 6, 6, 6]


def test_period_discriminator_has_the_published_size() -> None:
    part = PeriodDiscriminator(2, DiscriminatorConfig.base().period_widths)
    weights = sum(p.numel() for name, p in part.named_parameters() if name.endswith("weight"))
    assert weights == 5 * (32 + 32 * 128 + 128 * 512 + 512 * 1024 + 1024 * 1024) + 3 * 1024
