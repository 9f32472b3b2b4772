"""Which clips make which batch: packed by length, in an order that (seed, epoch) alone decides."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.launch import generator

POOL_SHARDS = 8


def packed(
    frames: NDArray[np.int64], shard: NDArray[np.int64], budget: int, seed: int, epoch: int
) -> list[list[int]]:
    """Clip numbers of every batch of an epoch; each clip is in one of them.

    A batch holds clips of similar length, so many that, padded to the longest, they have at most `budget`
    frames. Clips are drawn from `POOL_SHARDS` shards at a time, so that reading stays local.

    Args:
        frames: (clips,) lengths.
        shard: (clips,) the shard each clip lies in.

    Raises:
        ValueError: a clip alone exceeds the budget.
    """
    if frames.max(initial=0) > budget:
        raise ValueError(f"a clip of {frames.max()} frames exceeds the budget of {budget} frames a batch")
    g = generator(seed, -1 - epoch)
    shards = np.unique(shard)[torch.randperm(len(np.unique(shard)), generator=g).numpy()]
    batches: list[list[int]] = []
    carried: list[int] = []  # a batch that was not full joins the next pool
    for first in range(0, len(shards), POOL_SHARDS):
        inside = np.flatnonzero(np.isin(shard, shards[first : first + POOL_SHARDS]))
        pool = [*carried, *inside.tolist()]
        mixed = [pool[i] for i in torch.randperm(len(pool), generator=g).tolist()]
        full, carried = _fill(sorted(mixed, key=lambda clip: int(frames[clip])), frames, budget)
        batches += [full[i] for i in torch.randperm(len(full), generator=g).tolist()]
    return [*batches, carried] if carried else batches


def batches_from(
    frames: NDArray[np.int64], shard: NDArray[np.int64], budget: int, seed: int, step: int
) -> Iterator[list[int]]:
    """Batches of step `step` (counted from 0 over all epochs) and of all later ones, without end."""
    for epoch in itertools.count():
        batches = packed(frames, shard, budget, seed, epoch)
        yield from batches[step:]
        step = max(0, step - len(batches))


def _fill(clips: list[int], frames: NDArray[np.int64], budget: int) -> tuple[list[list[int]], list[int]]:
    """Batches of clips that are sorted by length, and the last one, which has room."""
    batches: list[list[int]] = []
    batch: list[int] = []
    for clip in clips:
        if (len(batch) + 1) * int(frames[clip]) > budget:
            batches.append(batch)
            batch = []
        batch.append(clip)
    return batches, batch
