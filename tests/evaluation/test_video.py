"""PSNR and SSIM in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from evaluation.video import SquaredError, crop, squared_error, ssim


def test_psnr_in_closed_form() -> None:
    target = torch.zeros(3, 20, 20)
    assert squared_error(target, target).psnr == math.inf
    assert squared_error(target + 0.1, target).psnr == pytest.approx(20.0, abs=1e-4)
    assert math.isnan(SquaredError().psnr)


def test_psnr_of_a_set_is_that_of_the_summed_error() -> None:
    target = torch.zeros(1, 10, 10)
    pooled = squared_error(target + 0.1, target) + squared_error(target, target)
    assert pooled.psnr == pytest.approx(10 * math.log10(2 / 0.01), abs=1e-4)


def test_error_is_measured_inside_the_box_only() -> None:
    image, target = torch.zeros(3, 20, 20), torch.zeros(3, 20, 20)
    image[:, :5] = 1
    assert squared_error(image, target, (0, 5, 20, 20)).psnr == math.inf
    assert squared_error(image, target, (0, 0, 20, 5)).psnr == pytest.approx(0.0)
    assert crop(image, (-3, -3, 4, 6)).shape == (3, 6, 4)
    with pytest.raises(ValueError, match="outside"):
        crop(image, (30, 0, 40, 10))


def test_different_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="same shape"):
        squared_error(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))


def test_ssim_in_closed_form() -> None:
    image = torch.rand(3, 32, 32)
    assert ssim(image, image) == pytest.approx(1.0)
    flat, brighter = torch.full((1, 32, 32), 0.4), torch.full((1, 32, 32), 0.6)
    expected = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    assert ssim(flat, brighter) == pytest.approx(expected, abs=1e-6)
    assert ssim(image, 1 - image) < 0
    with pytest.raises(ValueError, match="11x11"):
        ssim(image, image, (0, 0, 10, 32))
