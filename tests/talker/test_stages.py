"""Channels and groups of workers: errors, early exits, and channels from outside of the group."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterable, Iterator

import pytest
import torch

from talker.stages import Cancelled, Channel, Stages, raise_if_cancelled


def in_thread(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


# -- channels ------------------------------------------------------------------------------------------------


def test_iteration_gives_all_items_in_order_until_the_channel_is_closed() -> None:
    channel: Channel[int] = Channel(2)

    def produce() -> None:
        for k in range(50):
            channel.put(k)
        channel.close()

    producer = in_thread(produce)
    assert list(channel) == list(range(50))
    assert list(channel) == []
    producer.join(5)
    assert not producer.is_alive()


def test_put_waits_while_the_channel_is_full() -> None:
    channel: Channel[int] = Channel(2)
    done: list[int] = []

    def produce() -> None:
        with contextlib.suppress(Cancelled):
            for k in range(4):
                channel.put(k)
                done.append(k)

    producer = in_thread(produce)
    time.sleep(0.05)
    assert done == [0, 1]
    assert next(iter(channel)) == 0
    time.sleep(0.05)
    assert done == [0, 1, 2]
    channel.cancel()
    producer.join(5)
    assert not producer.is_alive()


def test_offer_never_waits() -> None:
    channel: Channel[int] = Channel(1)
    assert [channel.offer(1), channel.offer(2)] == [True, False]
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        channel.offer(3)
    assert list(channel) == [1]
    channel.cancel()
    with pytest.raises(Cancelled):
        channel.offer(4)


def test_put_after_close_raises() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        channel.put(2)
    assert list(channel) == [1]


def test_cancelling_wakes_reader_and_writer() -> None:
    full: Channel[int] = Channel(1)
    empty: Channel[int] = Channel(1)
    full.put(0)
    outcomes: list[str] = []

    def attempt(work, name: str) -> None:
        try:
            work()
        except Cancelled:
            outcomes.append(name)

    threads = [
        in_thread(lambda: attempt(lambda: full.put(1), "put")),
        in_thread(lambda: attempt(lambda: list(empty), "read")),
    ]
    time.sleep(0.05)
    assert outcomes == []
    for channel in (full, empty):
        channel.cancel()
        assert channel.cancelled
    for thread in threads:
        thread.join(5)
    assert sorted(outcomes) == ["put", "read"]
    with pytest.raises(Cancelled):
        list(full)
    with pytest.raises(Cancelled):
        full.put(2)


# -- groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["first", "second", "last"])
def test_an_error_in_any_stage_reaches_the_caller(broken: str) -> None:
    def work(stage: str, items: Iterable[int]) -> Iterator[int]:
        for k in items:
            if stage == broken and k == 5:
                raise RuntimeError(stage)
            yield k

    def run() -> None:
        with Stages() as stages:
            left, right, out = (stages.channel(2) for _ in range(3))
            stages.feed(lambda: work("first", range(1000)), left, right)
            stages.feed(lambda: work("second", left), out)
            for _ in zip(work("last", right), out, strict=True):
                pass

    before = threading.active_count()
    with pytest.raises(RuntimeError, match=broken):
        run()
    assert threading.active_count() == before


def test_the_first_error_is_raised() -> None:
    failed = threading.Event()

    def first() -> Iterator[int]:
        raise KeyError("first")
        yield

    def second() -> Iterator[int]:
        failed.wait(5)
        raise KeyError("second")
        yield

    def run() -> None:
        with Stages() as stages:
            outputs = [stages.channel(1) for _ in range(2)]
            stages.feed(second, outputs[1])
            stages.feed(first, outputs[0])
            with contextlib.suppress(Cancelled):
                list(outputs[0])
            failed.set()

    with pytest.raises(KeyError, match="first"):
        run()


def test_leaving_early_joins_the_workers() -> None:
    def numbers() -> Iterator[int]:
        with Stages() as stages:
            out = stages.channel(2)
            stages.feed(itertools.count, out)
            yield from out

    before = threading.active_count()
    reader = numbers()
    assert list(itertools.islice(reader, 5)) == [0, 1, 2, 3, 4]
    assert threading.active_count() == before + 1
    reader.close()
    assert threading.active_count() == before


def test_long_work_between_items_can_be_cancelled() -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def endless() -> Iterator[int]:
        begun.set()
        while True:
            try:
                raise_if_cancelled()
            except Cancelled:
                cancelled.set()
                raise
            time.sleep(0.001)
        yield

    raise_if_cancelled()  # outside of a worker it does nothing
    with Stages() as stages:
        stages.feed(endless, stages.channel(1))
        assert begun.wait(5)
        raise_if_cancelled()
    assert cancelled.is_set()


def test_torch_threads_are_set_in_the_worker_and_restored() -> None:
    """The number that torch gives to a new thread is the one that was set last in any thread."""
    seen: list[int] = []

    def look() -> Iterator[None]:
        yield seen.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        with Stages() as stages:
            out = stages.channel(1)
            stages.feed(look, out, torch_threads=1)
            list(out)
        in_thread(lambda: list(look())).join()
        assert seen == [1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_other_threads_do_not_change_the_number_of_torch_threads_of_a_worker() -> None:
    """Else the bits of a result would depend on which worker starts last."""
    seen: dict[int, int] = {}
    barrier = threading.Barrier(2, timeout=5)

    def work(count: int) -> Iterator[None]:
        barrier.wait()
        torch.ones(64, 64) @ torch.ones(64, 64)
        yield seen.update({count: torch.get_num_threads()})

    with Stages() as stages:
        for count in (2, 1):
            out = stages.channel(1)
            stages.feed(lambda count=count: work(count), out, torch_threads=count)
        list(out)
    assert seen == {2: 2, 1: 1}


def test_cancelling_an_adopted_channel_ends_its_readers() -> None:
    outside: Channel[int] = Channel(1)

    def run() -> None:
        with Stages() as stages:
            stages.adopt(outside)
            out = stages.channel(1)
            stages.feed(lambda: iter(outside), out)
            list(out)

    timer = threading.Timer(0.05, outside.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        run()
    timer.join()


def test_the_end_of_the_group_cancels_an_adopted_channel() -> None:
    outside: Channel[int] = Channel(1)
    with Stages() as stages:
        stages.adopt(outside)
        assert not outside.cancelled
    assert outside.cancelled
    with pytest.raises(Cancelled):
        outside.put(1)
