"""The causal language model: Qwen3, with a preallocated cache and a step of fixed shape.

It computes the same function as Qwen3 in transformers and has the same parameter names (a test compares the
two). It does not use transformers, because the import takes seconds, and because the rounding of a row in its
attention depends on the other rows. Here, attention during generation is a plain softmax over the whole
preallocated length, with a mask.
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
        """`eps` is added to the mean square."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)"""
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def rotate_half(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding, which rotates channel i together with channel i + head_dim / 2.

    Args:
        x: (..., head_dim).
        cos, sin: (..., head_dim / 2), broadcast to the shape of x.

    Returns:
        (..., head_dim)
    """
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

    def project(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries, keys and values, and apply the rotary embedding.

        Args:
            x: (B, L, width).
            rotary: cosine and sine, each (B, L, 1, head_dim / 2).

        Returns:
            q (B, heads, L, head_dim), k and v (B, kv_heads, L, head_dim)
        """
        head = self.config.head_dim
        q = rotate_half(self.q_norm(self.q_proj(x).unflatten(-1, (-1, head))), *rotary)
        k = rotate_half(self.k_norm(self.k_proj(x).unflatten(-1, (-1, head))), *rotary)
        v = self.v_proj(x).unflatten(-1, (-1, head))
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Softmax attention with a mask, followed by the output projection.

        Args:
            q: (B, heads, L, head_dim).
            k, v: (B, kv_heads, T, head_dim).
            mask: (B or 1, L, T), 0 or -inf, added to the logits.

        Returns:
            (B, L, width)
        """
        rows, heads, length, head = q.shape
        # The queries that share a key-value head become rows of one matrix.
        grouped = q.reshape(rows, self.config.kv_heads, -1, head) * head**-0.5
        logits = (grouped @ k.transpose(-1, -2)).view(rows, heads, length, -1) + mask[:, None]
        weight = torch.softmax(logits, dim=-1, dtype=torch.float32).to(v.dtype)
        mixed = weight.view(rows, self.config.kv_heads, -1, k.shape[2]) @ v
        return self.project_out(mixed.view(rows, heads, length, head))

    def project_out(self, mixed: Tensor) -> Tensor:
        """Merge the heads (B, heads, L, head_dim) and apply the output projection: (B, L, width)."""
        return self.o_proj(mixed.transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    """Gated MLP: down(silu(gate(x)) * up(x))."""

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

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """(B, L, width) -> (B, L, width), with causal attention. `rotary`: see `Attention.project`."""
        q, k, v = self.self_attn.project(self.input_layernorm(x), rotary)
        return self.finish(x, self.self_attn.project_out(causal_attention(q, k, v)))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Compute the rest of the layer from its input `x` and the attention output, both (B, L, width)."""
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """Maps embeddings (B, L, width) to hidden states after the final norm. Rows are padded on the right."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False  # training: recompute the activations of a layer in the backward pass
        self.embed_tokens = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config.width, config.eps)

    def _layers(self) -> Iterator[Layer]:
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine, each (B, L, 1, head_dim / 2), of positions (B, L), which may be fractional."""
        half = torch.arange(0, self.config.head_dim, 2, device=positions.device, dtype=torch.float32)
        frequency = 1.0 / self.config.rope_theta ** (half / self.config.head_dim)
        angle = positions.float()[..., None, None] * frequency
        dtype = self.norm.weight.dtype
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Hidden states (B, L, width) of x (B, L, width) at positions (B, L): the training pass."""
        rotary = self.rotary(positions)
        for layer in self._layers():
            x = checkpoint(layer, x, rotary, use_reentrant=False) if self.recompute else layer(x, rotary)
        return self.norm(x)

    def prefill(self, x: Tensor, positions: Tensor, cache: KVCache, row: int) -> Tensor:
        """Process a prompt (1, L, width) at positions (1, L) and store its keys and values in a cache row.

        Each call processes one request, padded to a multiple of PREFILL_MULTIPLE tokens, so that the values
        do not depend on other requests. The mask hides the keys of the padding until they are overwritten.

        Returns:
            (width,) hidden state of the last token.

        Raises:
            ValueError: the prompt is longer than the cache.
        """
        length = x.shape[1]
        if length > cache.positions:
            raise ValueError(f"the prompt takes {length} of {cache.positions} positions: shorten the text")
        padding = -length % PREFILL_MULTIPLE
        x, keys, values = F.pad(x, (0, 0, 0, padding)), [], []
        rotary = self.rotary(F.pad(positions, (0, padding)))
        mask = torch.full((1, x.shape[1], x.shape[1]), -torch.inf, device=x.device, dtype=x.dtype).triu(1)
        for layer in self._layers():
            q, k, v = layer.self_attn.project(layer.input_layernorm(x), rotary)
            x = layer.finish(x, layer.self_attn.attend(q, k, v, mask))
            keys.append(k)
            values.append(v)
        cache.fill(row, keys, values)
        return self.norm(x)[0, length - 1]

    def step(self, x: Tensor, positions: Tensor, cells: Tensor, cache: KVCache) -> Tensor:
        """Process one token of every row.

        Args:
            x: (R, width) embeddings.
            positions: (R,) rotary positions.
            cells: (R,) int64, the cache positions where keys and values are stored. Each follows the last
                cell of its row.
            cache: keys and values of R rows, changed in place.

        Returns:
            (R, width) hidden states.
        """
        every_cell = torch.arange(cache.positions, device=x.device)
        mask = torch.zeros(len(x), 1, cache.positions, device=x.device, dtype=x.dtype)
        mask = mask.masked_fill(every_cell > cells[:, None, None], -torch.inf)
        rotary = self.rotary(positions[:, None])
        x = x[:, None]
        for number, layer in enumerate(self._layers()):
            q, k, v = layer.self_attn.project(layer.input_layernorm(x), rotary)
            cache.write(number, cells, k[:, :, 0], v[:, :, 0])
            attended = layer.self_attn.attend(q, cache.keys[number], cache.values[number], mask)
            x = layer.finish(x, attended)
        return self.norm(x)[:, 0]
