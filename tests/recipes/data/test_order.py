"""The order of clips: a function of (seed, epoch), packed by length, every clip once an epoch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recipes.data.order import POOL_SHARDS, batches_from, order

RNG = np.random.default_rng(0)
CLIPS, ROWS = 3001, 16
FRAMES = RNG.integers(25, 750, CLIPS)
SHARD = np.arange(CLIPS) // 100


def batches(step: int, count: int, clips: int = CLIPS, rows: int = ROWS, seed: int = 0) -> list[list[int]]:
    return list(itertools.islice(batches_from(FRAMES[:clips], SHARD[:clips], rows, seed, step), count))


@pytest.mark.parametrize("clips", [CLIPS, 160, 17, 16, 5, 1])
def test_every_batch_is_full_and_every_epoch_has_each_clip_once(clips: int) -> None:
    found = batches(0, -(-3 * clips // ROWS), clips)
    assert {len(batch) for batch in found} == {ROWS}
    read = list(itertools.chain(*found))
    for epoch in range(3):
        own = read[epoch * clips : (epoch + 1) * clips]
        assert own == list(order(FRAMES[:clips], SHARD[:clips], ROWS, 0, epoch))
        assert sorted(own) == list(range(clips))


def test_batches_hold_clips_of_similar_length() -> None:
    found = batches(0, 3 * CLIPS // ROWS)
    padded = [ROWS * FRAMES[batch].max() for batch in found]
    assert sum(FRAMES[batch].sum() for batch in found) / sum(padded) > 0.95
    assert np.std(padded[:10]) > 500, "not in the order of their lengths"


def test_order_follows_from_seed_and_epoch_alone() -> None:
    first = batches(0, 20)
    assert first == batches(0, 20)
    assert first != batches(0, 20, seed=1)
    assert list(order(FRAMES, SHARD, ROWS, 0, 0)) != list(order(FRAMES, SHARD, ROWS, 0, 1))


@pytest.mark.parametrize("clips", [CLIPS, 16, 5])
def test_a_resumed_run_goes_on_where_it_was(clips: int) -> None:
    whole = batches(0, 420, clips)
    for step in (1, 150, 187, 188, 400):
        assert batches(step, 5, clips) == whole[step : step + 5]


def test_a_shard_is_read_in_one_go() -> None:
    place = np.argsort(list(order(FRAMES, SHARD, ROWS, 0, 0)))  # of each clip
    for own in np.split(place, np.arange(100, CLIPS, 100))[:-1]:
        # What does not fill a batch is read with the next shards.
        assert np.ptp(np.sort(own)[:-ROWS]) <= POOL_SHARDS * 100
