"""The key-value cache: preallocated, owned by the caller, with one row per request."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from talker.model.config import BackboneConfig


@dataclass(frozen=True)
class KVCache:
    """Keys and values of every layer, each (rows, kv_heads, positions, head_dim).

    Every row starts at position 0. Attention always covers all positions with a mask, so the rounding of a
    row depends neither on its length nor on the other rows. The weight of a masked cell is exactly 0, but 0
    times NaN is NaN. So a row is cleared when a request enters it, in case an earlier request left NaN there.
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
        """A cache of zeros for `rows` requests of at most `config.max_positions` tokens."""
        shape = (rows, config.kv_heads, config.max_positions, config.head_dim)

        def fresh() -> tuple[Tensor, ...]:
            return tuple(torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.layers))

        return cls(fresh(), fresh())

    @property
    def positions(self) -> int:
        """Capacity of a row in tokens."""
        return self.keys[0].shape[2]

    def fill(self, row: int, keys: list[Tensor], values: list[Tensor]) -> None:
        """Set a row to the keys and values of a prompt, (1, kv_heads, L, head_dim) per layer, and zeros."""
        for own, new in zip(self.keys + self.values, keys + values, strict=True):
            own[row, :, new.shape[2] :] = 0
            own[row, :, : new.shape[2]] = new[0]

    def write(self, layer: int, cells: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values (rows, kv_heads, head_dim) at one cell of each row: cells (rows,) int64."""
        rows = torch.arange(len(cells), device=cells.device)
        self.keys[layer][rows, :, cells] = keys
        self.values[layer][rows, :, cells] = values
