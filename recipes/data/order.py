"""Which clips make which batch: packed by length, in an order that (seed, epoch) alone decides."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.launch import generator

POOL_SHARDS = 8


def order(
    frames: NDArray[np.int64], shard: NDArray[np.int64], rows: int, seed: int, epoch: int
) -> Iterator[int]:
    """Clip numbers of an epoch, each once, in the order of reading.

    Epochs follow each other without a gap, and every `rows` clips make a batch: the first clips of an epoch
    fill up the batch that the last ones of the former began. All other batches hold clips of similar length.
    Clips come from POOL_SHARDS shards at a time, so that reading stays local.

    Args:
        frames: (clips,) lengths.
        shard: (clips,) the shard each clip lies in.
    """
    g = generator(seed, -1 - epoch)
    shards = np.unique(shard)
    shards = shards[torch.randperm(len(shards), generator=g).numpy()]
    missing = -epoch * len(frames) % rows  # in the batch that the former epoch began
    waiting: list[int] = []
    for first in range(0, len(shards), POOL_SHARDS):
        inside = np.flatnonzero(np.isin(shard, shards[first : first + POOL_SHARDS]))
        waiting += inside[torch.randperm(len(inside), generator=g).numpy()].tolist()
        yield from waiting[:missing]
        waiting, missing = waiting[missing:], max(0, missing - len(waiting))
        whole = len(waiting) // rows * rows
        pool = sorted(waiting[:whole], key=lambda clip: int(frames[clip]))
        for batch in torch.randperm(whole // rows, generator=g).tolist():
            yield from pool[batch * rows : (batch + 1) * rows]
        waiting = waiting[whole:]
    yield from waiting


def batches_from(
    frames: NDArray[np.int64], shard: NDArray[np.int64], rows: int, seed: int, step: int
) -> Iterator[list[int]]:
    """The `rows` clips of step `step` (counted from 0 over all epochs) and of all later ones, without end."""
    epoch, first = divmod(step * rows, len(frames))
    epochs = (order(frames, shard, rows, seed, number) for number in itertools.count(epoch))
    clips = itertools.islice(itertools.chain.from_iterable(epochs), first, None)
    while True:
        yield list(itertools.islice(clips, rows))
