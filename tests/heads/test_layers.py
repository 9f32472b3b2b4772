"""The shared transformer block: rotary positions, normalisation, padding of inner widths."""

import pytest
import torch

from heads.config import DiTConfig
from heads.layers import Attention, Block, RMSNorm, SwiGLU, ffn_width, pad_inner_widths
from heads.rope import Rope, rotate


def test_rotated_products_depend_on_the_distance_only():
    table = Rope(16).w
    q, k = torch.randn(16), torch.randn(16)
    rotated = [rotate(x.expand(20, 16), table[:20]) for x in (q, k)]
    torch.testing.assert_close(rotated[0].norm(dim=-1), q.norm().expand(20))
    products = rotated[0] @ rotated[1].T
    for distance in (-3, 0, 5):
        line = products.diagonal(distance)
        torch.testing.assert_close(line, line[:1].expand_as(line), atol=1e-4, rtol=1e-4)


def test_position_zero_is_not_rotated():
    x = torch.randn(1, 16)
    assert rotate(x, Rope(16)(1)).equal(x)


def test_loaded_table_is_replaced_by_the_computed_one():
    """A half-precision checkpoint has rounded the table."""
    rope = Rope(16)
    rope.load_state_dict({"w": rope.w.half().float()})
    assert rope.w.equal(Rope(16).w)
    with pytest.raises(RuntimeError, match="size mismatch"):
        rope.load_state_dict({"w": torch.zeros(3)})


def test_positions_select_rows_of_the_table():
    rope = Rope(16)
    positions = torch.tensor([5, 0, 5, 1023])
    assert rope(positions).equal(torch.stack([rope.w[position] for position in positions]))
    assert rope(torch.arange(7)).equal(rope(7))
    with pytest.raises(ValueError, match="1024 positions"):
        rope(1025)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rotation_in_half_precision_uses_a_float32_table(dtype):
    rope, x = Rope(16).to(dtype), torch.randn(6, 16).to(dtype)
    assert rope.w.equal(Rope(16).w)
    rotated = rotate(x, rope(6))
    assert rotated.equal(rotate(x.float(), Rope(16)(6)).to(dtype))


def test_norm_in_float16_does_not_overflow():
    """300 squared exceeds the range of float16."""
    norm, x = RMSNorm(64).half(), torch.full((1, 64), 300.0, dtype=torch.float16)
    assert norm(x).equal(torch.ones(1, 64, dtype=torch.float16))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.005)])
def test_block_in_half_precision_is_close_to_float32(dtype, tolerance):
    block, rotation, x = Block(64, 4, ffn_width(64)), Rope(16)(6), torch.randn(2, 6, 64)
    expected = block(x, rotation)
    half = block.to(dtype)(x.to(dtype), rotation)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), expected, atol=tolerance, rtol=0)


def test_norm_does_not_depend_on_the_scale_of_its_input():
    norm, x = RMSNorm(64), torch.randn(3, 64)
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm(5 * x), norm(x), atol=1e-4, rtol=0)


def test_outputs_of_the_last_tokens_are_those_of_all_tokens():
    block, rotation, x = Block(64, 4, 128), Rope(16)(9), torch.randn(2, 9, 64)
    for last in (1, 4, 9):
        torch.testing.assert_close(block(x, rotation, last), block(x, rotation)[:, -last:], atol=1e-5, rtol=0)


def test_padded_block_computes_the_same_function():
    block, rotation, x = Block(64, 4, ffn_width(64)), Rope(16)(6), torch.randn(2, 6, 64)
    assert block.mlp.fc1.out_features == 170
    before = block(x, rotation)
    block.mlp.fc1.requires_grad_(False)
    pad_inner_widths(block)
    assert [layer.weight.requires_grad for layer in (block.mlp.fc1, block.mlp.fc2)] == [False, True]
    assert block.mlp.fc1.weight.shape == (192, 64)
    torch.testing.assert_close(block(x, rotation), before, atol=1e-6, rtol=0)
    pad_inner_widths(block)
    assert block.mlp.proj.weight.shape == (64, 192)


@pytest.mark.parametrize(
    ("width", "capacity"), [(64, 4), (64, 8), (64, 16), (192, 4), (192, 8), (192, 16), (1024, 4)]
)
def test_row_of_padded_swiglu_is_the_same_in_every_slot(width, capacity):
    mlp = SwiGLU(width, ffn_width(width))
    pad_inner_widths(mlp)
    batch = torch.randn(capacity, 1, width)
    expected = mlp(batch)
    for slot in range(capacity):
        moved = torch.randn(capacity, 1, width)
        moved[slot] = batch[0]
        assert mlp(moved)[slot].equal(expected[0]), slot


def test_heads_of_other_widths_are_refused():
    with pytest.raises(ValueError, match="width 66 must be a multiple of heads 4"):
        Attention(66, 4)
    with pytest.raises(ValueError, match="even head width, got 15"):
        Rope(15)
    for width in (36, 66):  # heads of 9 channels; no multiple of the heads
        with pytest.raises(ValueError, match="a multiple of 2 \\* heads = 8"):
            DiTConfig(channels=1, global_channels=1, hidden_width=8, width=width, layers=1, heads=4, ffn=8)
