"""Causal attention in one fused kernel, for training: flash-attn if it is available, else PyTorch's.

Generation does not use fused kernels, because in them the rounding of a row depends on the other rows. See
`talker.model.backbone.Attention.attend`.
"""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

INSTALLED = importlib.util.find_spec("flash_attn") is not None


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention in which position i attends to positions 0 to i.

    Args:
        q: (B, heads, L, head_dim).
        k, v: (B, kv_heads, L, head_dim).

    Returns:
        (B, heads, L, head_dim), in the dtype of autocast if it is enabled.
    """
    if torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if INSTALLED and q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
        from flash_attn import flash_attn_func

        mixed: Tensor = flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)), causal=True)
        return mixed.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
