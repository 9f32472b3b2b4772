"""The key-value cache: preallocated, owned by the caller, one row a request."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from talker.model.config import BackboneConfig


@dataclass(frozen=True)
class KVCache:
    """Keys and values of every layer, each (rows, kv_heads, positions, head_dim).

    Every row starts at slot 0. Attention always spans all positions under a mask, so the arithmetic of a row
    depends neither on its length nor on its neighbours. A masked cell has a weight of exactly 0, but 0 times
    NaN is NaN: so a row is cleared when a request enters, whatever a broken one left there.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @classmethod
    def empty(
        cls,
        config: BackboneConfig,
        rows: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> KVCache:
        """Zeros for `rows` requests of at most `config.max_positions` tokens."""
        shape = (rows, config.kv_heads, config.max_positions, config.head_dim)

        def fresh() -> tuple[Tensor, ...]:
            return tuple(torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.layers))

        return cls(fresh(), fresh())

    @property
    def positions(self) -> int:
        """Tokens that a row holds."""
        return self.keys[0].shape[2]

    def fill(self, row: int, keys: list[Tensor], values: list[Tensor]) -> None:
        """A prefill's keys and values, (1, kv_heads, L, head_dim) a layer, then zeros, become a row."""
        for own, new in zip(self.keys + self.values, keys + values, strict=True):
            own[row, :, new.shape[2] :] = 0
            own[row, :, : new.shape[2]] = new[0]

    def write(self, layer: int, at: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store one token a row: at (rows,) int64, keys and values (rows, kv_heads, head_dim)."""
        rows = torch.arange(len(at), device=at.device)
        self.keys[layer][rows, :, at] = keys
        self.values[layer][rows, :, at] = values
