"""The order in which clips are read: batches of similar length, as a function of seed and epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.draws import generator

POOL_SHARDS = 8


def order(
    frames: NDArray[np.int64], shard: NDArray[np.int64], rows: int, seed: int, epoch: int
) -> Iterator[int]:
    """Yield every clip number of an epoch once, in the order of reading.

    The shards are shuffled and read in pools of POOL_SHARDS, so that reads stay local. The clips of a pool
    are shuffled, sorted by length and split into batches of `rows` clips; then the batches are shuffled.
    Clips that do not fill a batch move on to the next pool.

    Epochs follow each other without a gap: the first clips of an epoch complete the last batch of the epoch
    before. Except for that batch, all clips of a batch have similar lengths.

    Args:
        frames: (clips,) length of each clip.
        shard: (clips,) number of the shard that stores each clip.
        rows: clips per batch.
    """
    g = generator(seed, -1 - epoch)
    shards = np.unique(shard)
    shards = shards[torch.randperm(len(shards), generator=g).numpy()]
    missing = -epoch * len(frames) % rows  # clips that complete the last batch of the previous epoch
    waiting: list[int] = []
    for first in range(0, len(shards), POOL_SHARDS):
        pool = np.flatnonzero(np.isin(shard, shards[first : first + POOL_SHARDS]))
        waiting += pool[torch.randperm(len(pool), generator=g).numpy()].tolist()
        yield from waiting[:missing]
        waiting, missing = waiting[missing:], max(0, missing - len(waiting))
        whole = len(waiting) // rows * rows
        by_length = sorted(waiting[:whole], key=lambda clip: int(frames[clip]))
        for batch in torch.randperm(whole // rows, generator=g).tolist():
            yield from by_length[batch * rows : (batch + 1) * rows]
        waiting = waiting[whole:]
    yield from waiting


def batches_from(
    frames: NDArray[np.int64], shard: NDArray[np.int64], rows: int, seed: int, step: int
) -> Iterator[list[int]]:
    """Yield the `rows` clip numbers of step `step` and of every later step, without end.

    Steps are counted from 0 over all epochs. The batches of earlier steps are not read, so a resumed run
    continues with the batches of a run that was never interrupted. Arguments as in `order`.
    """
    epoch, first = divmod(step * rows, len(frames))
    epochs = (order(frames, shard, rows, seed, number) for number in itertools.count(epoch))
    clips = itertools.islice(itertools.chain.from_iterable(epochs), first, None)
    while True:
        yield list(itertools.islice(clips, rows))
