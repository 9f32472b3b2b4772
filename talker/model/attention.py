"""Causal attention in one kernel, for the training pass: flash-attn where it is installed and can run, else
PyTorch's. Generation writes its attention out instead (`talker.backbone.Attention.attend`): fused kernels
round a row by its neighbours.
"""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

INSTALLED = importlib.util.find_spec("flash_attn") is not None


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (B, heads, L, d), k and v (B, kv_heads, L, d) -> (B, heads, L, d); position i sees 0 to i."""
    if torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if INSTALLED and q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
        from flash_attn import flash_attn_func

        mixed: Tensor = flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)), causal=True)
        return mixed.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
