"""The shared block: rotations, permutation, padding of inner widths."""

import pytest
import torch

from heads.layers import Block, RMSNorm, SwiGLU, ffn_width, pad_inner_widths
from heads.rope import Rope, rotate


def test_rotation_keeps_lengths_and_sees_only_distance():
    table = Rope(16).w
    q, k = torch.randn(16), torch.randn(16)
    turned = [rotate(x.expand(20, 16), table[:20]) for x in (q, k)]
    torch.testing.assert_close(turned[0].norm(dim=-1), q.norm().expand(20))
    products = turned[0] @ turned[1].T
    for distance in (-3, 0, 5):
        line = products.diagonal(distance)
        torch.testing.assert_close(line, line[:1].expand_as(line), atol=1e-4, rtol=1e-4)


def test_position_zero_is_not_turned():
    x = torch.randn(1, 16)
    assert rotate(x, Rope(16)(1)).equal(x)


def test_table_is_computed_not_loaded():
    """Half-precision checkpoints would round the table; its own values stay."""
    rope = Rope(16)
    rope.load_state_dict({"w": rope.w.half().float()})
    assert rope.w.equal(Rope(16).w)
    with pytest.raises(RuntimeError, match="size mismatch"):
        rope.load_state_dict({"w": torch.zeros(3)})


def test_norm_ignores_scale():
    norm, x = RMSNorm(64), torch.randn(3, 64)
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm(5 * x), norm(x), atol=1e-4, rtol=0)


def test_padded_inner_width_computes_the_same():
    block, rotation, x = Block(64, 4, ffn_width(64)), Rope(16)(6), torch.randn(2, 6, 64)
    assert block.mlp.fc1.out_features == 170
    before = block(x, rotation)
    pad_inner_widths(block)
    assert block.mlp.fc1.weight.shape == (192, 64)
    torch.testing.assert_close(block(x, rotation), before, atol=1e-6, rtol=0)
    pad_inner_widths(block)
    assert block.mlp.proj.weight.shape == (64, 192)


@pytest.mark.parametrize("capacity", [4, 8, 16])
@pytest.mark.parametrize("width", [64, 192, 1024])
def test_padded_swiglu_is_the_same_in_every_slot(width, capacity):
    mlp = SwiGLU(width, ffn_width(width))
    pad_inner_widths(mlp)
    batch = torch.randn(capacity, 1, width)
    outcome = mlp(batch)
    for slot in range(capacity):
        moved = torch.randn(capacity, 1, width)
        moved[slot] = batch[0]
        assert mlp(moved)[slot].equal(outcome[0]), slot
