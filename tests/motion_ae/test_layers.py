"""Layers of the motion autoencoder against their definitions, and the cache of derived weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from motion_ae.directions import Directions, orthonormal
from motion_ae.layers import Derived, ModulatedConv, equalised
from motion_ae.upfirdn import blur, blur_kernel, upsample


def modulated_conv_by_definition(conv: ModulatedConv, x: Tensor, style: Tensor) -> Tensor:
    """The slow definition: a grouped convolution in which every sample has its own kernel."""
    batch, inner = x.shape[:2]
    kernel = equalised(conv.weight[0]) * conv.modulation(style)[:, None, :, None, None]
    if conv.demodulate:
        kernel = kernel * torch.rsqrt(kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, batch * inner, *x.shape[2:])
    if not conv.up:
        y = F.conv2d(x, kernel.flatten(0, 1), padding=kernel.shape[-1] // 2, groups=batch)
        return y.reshape(batch, -1, *y.shape[2:])
    y = F.conv_transpose2d(x, kernel.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    return blur(y.reshape(batch, -1, *y.shape[2:]), blur_kernel(4.0), pad=1)


@pytest.mark.parametrize(("demodulate", "up"), [(True, False), (False, False), (True, True)])
def test_modulated_conv_equals_its_definition(demodulate: bool, up: bool) -> None:
    conv = ModulatedConv(6, 5, 7, demodulate=demodulate, up=up)
    x, style = torch.randn(3, 6, 8, 8), torch.randn(3, 7)
    expected = modulated_conv_by_definition(conv, x, style)
    torch.testing.assert_close(conv(x, style), expected, atol=2e-6, rtol=1e-5)


def test_upsample_equals_zero_insertion_and_filtering() -> None:
    x = torch.randn(2, 3, 5, 5)
    inserted = torch.zeros(2, 3, 10, 10)
    inserted[:, :, ::2, ::2] = x
    kernel = blur_kernel(4.0).expand(3, 1, 4, 4)
    expected = F.conv2d(F.pad(inserted, (2, 1, 2, 1)), kernel, groups=3)
    torch.testing.assert_close(upsample(x), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_represents_the_blur_kernel_exactly(dtype: torch.dtype) -> None:
    assert blur_kernel(4.0).to(dtype).float().equal(blur_kernel(4.0))


def test_directions_are_orthonormal_and_linear() -> None:
    directions = Directions(16, 6)
    basis = directions.basis()
    torch.testing.assert_close(basis.T @ basis, torch.eye(6), atol=1e-6, rtol=0)
    a, b = torch.randn(2, 3, 6)
    torch.testing.assert_close(directions(a) + directions(b), directions(a + b), atol=1e-5, rtol=1e-5)


def _load(directions: Directions) -> None:
    directions.load_state_dict(Directions(16, 6).state_dict())


def _assign(directions: Directions) -> None:
    directions.load_state_dict(Directions(16, 6).state_dict(), assign=True)


def _convert_and_back(directions: Directions) -> None:
    directions.to(torch.bfloat16).to(torch.float32)


def _take_a_training_step(directions: Directions) -> None:
    directions.train()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(directions(torch.randn(3, 6)).sum(), directions.weight)
    directions.weight.sub_(gradient)
    directions.eval()


def _average(directions: Directions) -> None:
    """The update of an averaged model, which stays in evaluation mode."""
    torch._foreach_lerp_(
        list(directions.state_dict().values()), list(Directions(16, 6).state_dict().values()), 0.5
    )


def _write_data_in_training(directions: Directions) -> None:
    """Sharded optimisers write through `.data`, which leaves no trace on the parameter."""
    directions.train()
    directions.basis()
    directions.weight.data.mul_(torch.randn(16, 6))
    assert directions.basis().equal(orthonormal(directions.weight))
    directions.eval()


CHANGES = [_load, _assign, _convert_and_back, _take_a_training_step, _average, _write_data_in_training]


@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_basis_follows_every_change_of_the_weight(change: Callable[[Directions], None]) -> None:
    directions = Directions(16, 6).eval()
    before = directions.basis()
    change(directions)
    assert directions.basis().equal(orthonormal(directions.weight))
    assert not directions.basis().equal(before)


@torch.no_grad()
def test_copy_follows_its_own_weight() -> None:
    directions = Directions(16, 6).eval()
    before = directions.basis()
    copied = copy.deepcopy(directions)
    copied.weight.mul_(torch.randn(16, 6))
    assert copied.basis().equal(orthonormal(copied.weight))
    assert directions.basis() is before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_derived_tensor_is_computed_once_without_gradients(mode: Callable[[], torch.no_grad]) -> None:
    calls: list[Tensor] = []

    def double(weight: Tensor) -> Tensor:
        calls.append(weight)
        return weight * 2

    derived, parameter = Derived(double), torch.nn.Parameter(torch.ones(2))
    with mode():
        assert derived(parameter, training=False).equal(parameter * 2)
        assert derived(parameter, training=False).equal(parameter * 2)
    assert len(calls) == 1


def test_derived_tensor_is_differentiable_with_gradients() -> None:
    derived, parameter = Derived(torch.square), torch.nn.Parameter(torch.full((2,), 3.0))
    with torch.no_grad():
        derived(parameter, training=False)
    derived(parameter, training=False).sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [6.0, 6.0]
