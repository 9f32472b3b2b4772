"""The causal language model: Qwen3, with a preallocated cache and a step of fixed shape.

The same function and parameter names as transformers' Qwen3 (a test compares the two), written out because
importing transformers costs seconds at every start, and because its attention rounds a row by its neighbours:
here generation's attention is the plain softmax form, over the whole preallocated length, under a mask.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from talker.model.attention import causal_attention
from talker.model.cache import KVCache
from talker.model.config import BackboneConfig

PREFILL_MULTIPLE = 64


class Norm(nn.Module):
    """RMSNorm, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)"""
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def half_turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate channel i together with channel i + head_dim / 2: x (..., head_dim), cos and sin its half."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    """Grouped-query attention with normalised queries and keys."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        width, head = config.width, config.head_dim
        self.q_proj = nn.Linear(width, config.heads * head, bias=False)
        self.k_proj = nn.Linear(width, config.kv_heads * head, bias=False)
        self.v_proj = nn.Linear(width, config.kv_heads * head, bias=False)
        self.o_proj = nn.Linear(config.heads * head, width, bias=False)
        self.q_norm = Norm(head, config.eps)
        self.k_norm = Norm(head, config.eps)

    def project(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, L, width), turn: cosine and sine (B, L, 1, d / 2) -> q (B, heads, L, d), k and v alike."""
        head = self.config.head_dim
        q = half_turn(self.q_norm(self.q_proj(x).unflatten(-1, (-1, head))), *turn)
        k = half_turn(self.k_norm(self.k_proj(x).unflatten(-1, (-1, head))), *turn)
        v = self.v_proj(x).unflatten(-1, (-1, head))
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """q (B, heads, L, d), k and v (B, kv_heads, T, d), mask (B or 1, L, T): 0, -inf -> (B, L, width)."""
        rows, heads, length, head = q.shape
        # Queries that share a key-value head are laid out as further rows of one matrix.
        grouped = q.reshape(rows, self.config.kv_heads, -1, head) * head**-0.5
        logits = (grouped @ k.transpose(-1, -2)).view(rows, heads, length, -1) + mask[:, None]
        weight = torch.softmax(logits, dim=-1, dtype=torch.float32).to(v.dtype)
        mixed = weight.view(rows, self.config.kv_heads, -1, k.shape[2]) @ v
        return self.join(mixed.view(rows, heads, length, head))

    def join(self, mixed: Tensor) -> Tensor:
        """(B, heads, L, d) -> (B, L, width)."""
        return self.o_proj(mixed.transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    """down(silu(gate x) * up x)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.ffn, bias=False)
        self.up_proj = nn.Linear(config.width, config.ffn, bias=False)
        self.down_proj = nn.Linear(config.ffn, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)"""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = Norm(config.width, config.eps)
        self.post_attention_layernorm = Norm(config.width, config.eps)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """x (B, L, width) -> the same; every position sees those before it."""
        q, k, v = self.self_attn.project(self.input_layernorm(x), turn)
        return self.finish(x, self.self_attn.join(causal_attention(q, k, v)))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Everything after attention; (B, L, width)."""
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """Embeddings (B, L, width) -> hidden states after the final norm. Rows are padded on the right."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False  # training: keep a layer's input alone, compute the rest again backwards
        self.embed_tokens = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config.width, config.eps)

    def _layers(self) -> Iterator[Layer]:
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer

    def turn(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B, L), whole or not -> cosine and sine, each (B, L, 1, head_dim / 2)."""
        half = torch.arange(0, self.config.head_dim, 2, device=positions.device, dtype=torch.float32)
        frequency = 1.0 / self.config.rope_theta ** (half / self.config.head_dim)
        angle = positions.float()[..., None, None] * frequency
        dtype = self.norm.weight.dtype
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, L, width), positions (B, L) -> hidden states (B, L, width): the vectorised training pass."""
        turn = self.turn(positions)
        for layer in self._layers():
            x = checkpoint(layer, x, turn, use_reentrant=False) if self.recompute else layer(x, turn)
        return self.norm(x)

    def prefill(self, x: Tensor, positions: Tensor, cache: KVCache, row: int) -> Tensor:
        """A prompt (1, L, width) at positions (1, L) into one row of the cache; returns the last hidden
        state (width,).

        Always one call for one request, its length padded to a multiple of 64: a row's numbers never
        depend on what is prefilled beside it. The padding's keys are overwritten before any mask lets them
        be seen.

        Raises:
            ValueError: the prompt is longer than the cache.
        """
        length = x.shape[1]
        if length > cache.positions:
            raise ValueError(f"the prompt takes {length} of {cache.positions} positions: shorten the text")
        padding = -length % PREFILL_MULTIPLE
        x, keys, values = F.pad(x, (0, 0, 0, padding)), [], []
        turn = self.turn(F.pad(positions, (0, padding)))
        mask = torch.full((1, x.shape[1], x.shape[1]), -torch.inf, device=x.device, dtype=x.dtype).triu(1)
        for layer in self._layers():
            q, k, v = layer.self_attn.project(layer.input_layernorm(x), turn)
            x = layer.finish(x, layer.self_attn.attend(q, k, v, mask))
            keys.append(k)
            values.append(v)
        cache.fill(row, keys, values)
        return self.norm(x)[0, length - 1]

    def step(self, x: Tensor, positions: Tensor, at: Tensor, cache: KVCache) -> Tensor:
        """One token a row, (R, width) -> (R, width).

        positions (R,) rotate it; it is stored at slots at (R,) int64, one behind the last one of its row.
        """
        slots = torch.arange(cache.positions, device=x.device)
        mask = torch.zeros(len(x), 1, cache.positions, device=x.device, dtype=x.dtype)
        mask = mask.masked_fill(slots > at[:, None, None], -torch.inf)
        turn = self.turn(positions[:, None])
        x = x[:, None]
        for number, layer in enumerate(self._layers()):
            q, k, v = layer.self_attn.project(layer.input_layernorm(x), turn)
            cache.write(number, at, k[:, :, 0], v[:, :, 0])
            attended = layer.self_attn.attend(q, cache.keys[number], cache.values[number], mask)
            x = layer.finish(x, attended)
        return self.norm(x)[:, 0]
