"""Batches: a function of (seed, epoch), packed by length, every clip once an epoch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recipes.data.order import POOL_SHARDS, batches_from, packed

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(25, 750, 3000)
SHARD = np.repeat(np.arange(30), 100)
BUDGET = 6000


def test_each_clip_is_in_one_batch_and_no_batch_exceeds_the_budget() -> None:
    batches = packed(FRAMES, SHARD, BUDGET, seed=0, epoch=0)
    assert sorted(itertools.chain(*batches)) == list(range(3000))
    sizes = [len(batch) * FRAMES[batch].max() for batch in batches]
    assert max(sizes) <= BUDGET
    real = sum(FRAMES) / sum(sizes)
    assert real > 0.95  # padding is little
    assert np.mean(np.array(sizes) > 0.8 * BUDGET) > 0.9


def test_order_follows_from_seed_and_epoch_alone() -> None:
    first = packed(FRAMES, SHARD, BUDGET, 0, 0)
    assert first == packed(FRAMES, SHARD, BUDGET, 0, 0)
    assert first != packed(FRAMES, SHARD, BUDGET, 0, 1)
    assert first != packed(FRAMES, SHARD, BUDGET, 1, 0)


def test_a_resumed_run_goes_on_where_it_was() -> None:
    from_start = batches_from(FRAMES, SHARD, BUDGET, 0, 0)
    for step in (0, 1, 150, len(packed(FRAMES, SHARD, BUDGET, 0, 0)) + 3, 700):
        resumed = batches_from(FRAMES, SHARD, BUDGET, 0, step)
        expected = list(itertools.islice(batches_from(FRAMES, SHARD, BUDGET, 0, 0), step, step + 5))
        assert list(itertools.islice(resumed, 5)) == expected
    assert next(from_start)


def test_reading_stays_within_a_few_shards() -> None:
    batches = packed(FRAMES, SHARD, BUDGET, 0, 0)
    open_shards = [set(SHARD[batch].tolist()) for batch in batches[: len(batches) // 4]]
    assert len(set().union(*open_shards)) <= POOL_SHARDS


def test_a_clip_beyond_the_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="exceeds the budget"):
        packed(FRAMES, SHARD, 500, 0, 0)
