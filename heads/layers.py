"""The pre-norm transformer block of the heads and the patch encoders.

Parameter names and shapes are those of the published checkpoints. On a CPU the result of a row does not
depend on the other rows of the batch, to the bit: attention is written as a plain softmax, and all widths are
multiples of 64 (`pad_inner_widths` pads those of SwiGLU).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads.rope import rotate

LANES = 64
ALIGNED = 8  # alignment of the matrix units of a GPU, in two-byte values


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last dimension; the mean square is computed in float32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)"""
        wide = x.float()
        normalised = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return normalised.to(x.dtype) * self.scale


class Attention(nn.Module):
    """Bidirectional self-attention without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotation: Tensor, last: int | None = None) -> Tensor:
        """x (B, T, width), rotation (T, head_dim / 2, 2) -> (B, T, width).

        With `last`, only the last `last` tokens are queries and are returned.
        """
        last = x.shape[1] if last is None else last
        of_q, of_kv = self.qkv.weight.split((x.shape[2], 2 * x.shape[2]))
        q = F.linear(x[:, -last:], of_q).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = F.linear(x, of_kv).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, rotation[-last:]), rotate(k, rotation)
        # Not F.scaled_dot_product_attention: on a CPU its rounding of a row depends on the position of the
        # row in the batch, and its backward pass is slow at these lengths.
        weight = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        return self.proj((weight @ v).transpose(1, 2).flatten(-2))


class SwiGLU(nn.Module):
    """proj(silu(fc1 x) * fc2 x) without biases."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner, bias=False)
        self.fc2 = nn.Linear(width, inner, bias=False)
        self.proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)"""
        missing = -self.fc1.out_features % ALIGNED
        if not (missing and x.is_cuda):
            return self.proj(F.silu(self.fc1(x)) * self.fc2(x))
        # The published width, 2730, would halve the speed of a GPU. The parameters keep that width.
        fc1, fc2 = (F.pad(layer.weight, (0, 0, 0, missing)) for layer in (self.fc1, self.fc2))
        return F.linear(F.silu(F.linear(x, fc1)) * F.linear(x, fc2), F.pad(self.proj.weight, (0, missing)))


class Block(nn.Module):
    """x + attention(norm x), then x + SwiGLU(norm x)."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = RMSNorm(width)
        self.mlp = SwiGLU(width, ffn)

    def forward(self, x: Tensor, rotation: Tensor, last: int | None = None) -> Tensor:
        """x (B, T, width), rotation (T, head_dim / 2, 2) -> (B, T, width), or its last `last` tokens."""
        last = x.shape[1] if last is None else last
        x = x[:, -last:] + self.attn(self.norm1(x), rotation, last)
        return x + self.mlp(self.norm2(x))


def ffn_width(width: int) -> int:
    """The published inner width of SwiGLU: two thirds of 4 * width, rounded down."""
    return 8 * width // 3


@torch.no_grad()
def pad_inner_widths(module: nn.Module) -> None:
    """Pad the inner width of every SwiGLU inside `module` with zeros to a multiple of 64, in place.

    Call it after loading. The padded module computes the same function. Without padding, a row whose width is
    not a multiple of the vector length is rounded differently at its end, depending on its position in the
    batch.
    """
    for mlp in module.modules():
        if not isinstance(mlp, SwiGLU):
            continue
        missing = -mlp.fc1.out_features % LANES
        if not missing:
            continue
        for layer in (mlp.fc1, mlp.fc2):
            layer.weight = nn.Parameter(F.pad(layer.weight, (0, 0, 0, missing)), layer.weight.requires_grad)
            layer.out_features += missing
        mlp.proj.weight = nn.Parameter(F.pad(mlp.proj.weight, (0, missing)), mlp.proj.weight.requires_grad)
        mlp.proj.in_features += missing
