"""The order of clips follows from seed and epoch; batches hold similar lengths and come in random order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recipes.data.order import POOL_SHARDS, batches_from, order

CLIPS, ROWS, PER_SHARD = 3001, 16, 100
FRAMES = np.random.default_rng(0).integers(25, 750, CLIPS)
SHARD = np.arange(CLIPS) // PER_SHARD
POOL = POOL_SHARDS * PER_SHARD  # clips


def batches(step: int, count: int, clips: int = CLIPS, seed: int = 0) -> list[list[int]]:
    return list(itertools.islice(batches_from(FRAMES[:clips], SHARD[:clips], ROWS, seed, step), count))


def batches_of_epoch(
    frames: np.ndarray, epoch: int, seed: int = 0, shard: np.ndarray = SHARD
) -> list[list[int]]:
    """The full batches that lie inside one epoch."""
    found = list(order(frames, shard[: len(frames)], ROWS, seed, epoch))[-epoch * len(frames) % ROWS :]
    return [found[first : first + ROWS] for first in range(0, len(found) - ROWS + 1, ROWS)]


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
    padded = sum(ROWS * FRAMES[batch].max() for batch in found)
    assert sum(FRAMES[batch].sum() for batch in found) / padded > 0.95


def test_batches_of_a_pool_come_in_random_order_of_length() -> None:
    for epoch in range(3):
        lengths = [FRAMES[batch].mean() for batch in batches_of_epoch(FRAMES, epoch)[: POOL // ROWS]]
        # Batches in order of length have a correlation of 1 with their position.
        assert abs(np.corrcoef(lengths, np.arange(len(lengths)))[0, 1]) < 0.4


def test_clips_of_equal_length_meet_in_other_batches_in_every_epoch() -> None:
    equal = np.full(POOL, 100)  # one pool: only its shuffle changes which clips form a batch
    first, second = ({frozenset(batch) for batch in batches_of_epoch(equal, epoch)} for epoch in (0, 1))
    assert len(first) == len(second) == POOL // ROWS
    assert not first & second
    assert all(len({SHARD[clip] for clip in batch}) > 1 for batch in first)


def test_shards_meet_in_other_pools_in_every_epoch() -> None:
    def first_pool(epoch: int) -> set[int]:
        read = list(itertools.chain(*batches_of_epoch(FRAMES, epoch)))
        return {int(SHARD[clip]) for clip in read[: POOL // 2]}

    assert first_pool(0) != first_pool(1)


def test_order_follows_from_seed_and_epoch_alone() -> None:
    first = batches(0, 20)
    assert first == batches(0, 20)
    assert first != batches(0, 20, seed=1)
    assert list(order(FRAMES, SHARD, ROWS, 0, 0)) != list(order(FRAMES, SHARD, ROWS, 0, 1))


@pytest.mark.parametrize("clips", [CLIPS, 16, 5])
def test_batches_from_a_step_are_those_of_a_run_that_began_at_step_0(clips: int) -> None:
    steps = (1, 150, 187, 188, 400) if clips == CLIPS else (1, 2, 30)
    whole = batches(0, max(steps) + 5, clips)
    for step in steps:
        assert batches(step, 5, clips) == whole[step : step + 5]


def test_clips_of_a_shard_are_read_within_one_pool() -> None:
    position = np.argsort(list(order(FRAMES, SHARD, ROWS, 0, 0)))  # of each clip
    for own in np.split(position, np.arange(PER_SHARD, CLIPS, PER_SHARD))[:-1]:
        # The clips that do not fill a batch are read with the next pool.
        assert np.ptp(np.sort(own)[:-ROWS]) <= POOL
