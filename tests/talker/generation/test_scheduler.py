"""The scheduler: requests are independent of each other, queues are bounded, and tickets can be cancelled."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from takes import QUICK

from heads.streams import Streams
from talker.generation.autoregressive import AutoregressiveGenerator
from talker.generation.request import Request
from talker.generation.scheduler import QUEUED_PATCHES, Scheduler, Ticket
from talker.model.config import TalkerConfig
from talker.model.defaults import StopRule
from talker.model.model import TalkerModel
from talker.text.tokenizer import PhonemeTokenizer

# -- a batch that counts -------------------------------------------------------------------------------------


class Counting:
    """A request whose patches hold 0, 1, 2, ...; `Request.frames` is their number."""

    def __init__(self, request: Request) -> None:
        self.request, self.made = request, 0
        self.patches: deque[Streams] = deque()
        self.finish_reason: str | None = None
        self.paused = False
        self.words: list[tuple[str, int]] = []

    def tail(self, frames: int) -> Streams:
        return Streams()


class CountingBatch:
    """Records the requests that join.

    The text "unreadable" raises in `prepare`, "broken" in `join`, and "explosive" in `step`.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.rows: list[Counting] = []
        self.joined: list[str] = []
        self.prepared_in: set[threading.Thread] = set()
        self.most_rows = self.steps = 0

    @property
    def free(self) -> int:
        return self.capacity - len(self.rows)

    def prepare(self, request: Request) -> Request:
        self.prepared_in.add(threading.current_thread())
        if request.text == "unreadable":
            raise ValueError("this text cannot be spoken")
        return request

    def join(self, request: Request) -> Counting:
        self.joined.append(request.text)
        if request.text == "broken":
            time.sleep(0.02)  # a reader waits already
            raise ValueError("this request does not fit")
        self.rows.append(Counting(request))
        self.most_rows = max(self.most_rows, len(self.rows))
        return self.rows[-1]

    def step(self) -> None:
        self.steps += 1
        for row in [row for row in self.rows if not row.paused]:
            if row.request.text == "explosive":
                raise RuntimeError("the batch failed")
            row.patches.append(Streams(audio=torch.full((4, 1), float(row.made))))
            row.made += 1
            if row.made == row.request.frames:
                row.finish_reason = "length"
                self.rows.remove(row)

    def leave(self, running: Counting) -> None:
        running.finish_reason = running.finish_reason or "interrupted"
        self.rows = [row for row in self.rows if row is not running]


class CancellingBatch(CountingBatch):
    """Cancels its ticket at the end of the first step."""

    def __init__(self) -> None:
        super().__init__(1)
        self.submitted = threading.Event()
        self.ticket: Ticket | None = None

    def step(self) -> None:
        super().step()
        self.submitted.wait()
        self.ticket.cancel()


def test_a_patch_of_the_step_in_which_a_request_is_cancelled_is_dropped() -> None:
    batch = CancellingBatch()
    with Scheduler(batch) as scheduler:
        batch.ticket = ticket = scheduler.submit(counting())
        batch.submitted.set()
        while batch.rows or not batch.steps:
            time.sleep(0.001)
        assert list(ticket) == []
        assert ticket.finish_reason == "interrupted"
        assert batch.steps == 1


@pytest.fixture
def batch() -> CountingBatch:
    return CountingBatch(2)


@pytest.fixture
def scheduler(batch: CountingBatch) -> Iterator[Scheduler]:
    with Scheduler(batch) as scheduler:
        yield scheduler


def counting(text: str = "", patches: int = 10) -> Request:
    return Request(text=text, task="tts", frames=patches)


def numbers(ticket: Ticket) -> list[int]:
    """What the remaining patches of a counting request hold."""
    return [int(patch["audio"][0, 0]) for patch in ticket]


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "the condition did not become true within 5 s"
        time.sleep(0.001)


def made(ticket: Ticket) -> int:
    """Patches that the batch has generated."""
    assert isinstance(ticket.running, Counting)
    return ticket.running.made


def test_a_ticket_yields_all_patches_and_the_reason(scheduler: Scheduler) -> None:
    ticket = scheduler.submit(counting(patches=23))
    assert ticket.finish_reason is None
    assert numbers(ticket) == list(range(23))
    assert ticket.finish_reason == "length"
    assert numbers(ticket) == []


def test_a_slow_reader_bounds_its_queue_and_does_not_block_others(scheduler: Scheduler) -> None:
    slow, fast = scheduler.submit(counting(patches=100)), scheduler.submit(counting(patches=50))
    assert numbers(fast) == list(range(50))
    assert made(slow) == len(slow.queue) == QUEUED_PATCHES
    assert int(next(slow)["audio"][0, 0]) == 0
    assert made(slow) <= QUEUED_PATCHES + 1
    assert numbers(slow) == list(range(1, 100))


def test_a_step_is_taken_when_a_queue_is_half_full(scheduler: Scheduler) -> None:
    ticket = scheduler.submit(counting(patches=100))
    wait_until(lambda: len(ticket.queue) > QUEUED_PATCHES // 2)
    time.sleep(0.02)
    before = made(ticket)
    assert before == QUEUED_PATCHES // 2 + 1
    next(ticket)
    wait_until(lambda: made(ticket) == before + 1)


def test_no_step_is_taken_for_paused_tickets_alone(scheduler: Scheduler, batch: CountingBatch) -> None:
    ticket = scheduler.submit(counting(patches=100))
    next(ticket)
    ticket.pause()
    while ticket.queue:
        next(ticket)
    time.sleep(0.02)
    before = batch.steps
    time.sleep(0.02)
    assert batch.steps == before


def test_cancelling_frees_the_row_of_a_paused_ticket(scheduler: Scheduler, batch: CountingBatch) -> None:
    ticket = scheduler.submit(counting(patches=100))
    next(ticket)
    ticket.pause()
    time.sleep(0.02)
    assert batch.free == 1
    ticket.cancel()
    wait_until(lambda: batch.free == 2)


def test_a_paused_ticket_generates_nothing_until_it_is_resumed(scheduler: Scheduler) -> None:
    paused = scheduler.submit(counting(patches=40))
    next(paused)
    paused.pause()
    assert numbers(scheduler.submit(counting(patches=20))) == list(range(20))  # a running step has ended
    before = made(paused)
    assert before <= QUEUED_PATCHES + 1
    while paused.queue:
        next(paused)
    assert numbers(scheduler.submit(counting(patches=20))) == list(range(20))
    assert made(paused) == before
    paused.resume()
    assert numbers(paused) == list(range(before, 40))
    assert paused.finish_reason == "length"


def test_requests_beyond_the_capacity_run_in_order_of_submission(
    scheduler: Scheduler, batch: CountingBatch
) -> None:
    tickets = [scheduler.submit(counting(str(k), patches=2 + k % 3)) for k in range(7)]
    for k, ticket in enumerate(tickets):
        assert numbers(ticket) == list(range(2 + k % 3))
    assert batch.joined == [str(k) for k in range(7)]
    assert batch.most_rows == 2


def test_cancelling_frees_the_row_for_the_next_request() -> None:
    batch = CountingBatch(1)
    with Scheduler(batch) as scheduler:
        first, second, third = (scheduler.submit(counting(str(k), patches=30)) for k in range(3))
        next(first)
        second.cancel()
        first.cancel()
        assert numbers(first) == numbers(second) == []
        assert first.finish_reason == second.finish_reason == "interrupted"
        assert numbers(third) == list(range(30))
        assert batch.joined == ["0", "2"]
        assert first.running is not None
        assert first.running.finish_reason == "interrupted"


def test_cancelling_drops_the_patches_in_the_queue(scheduler: Scheduler) -> None:
    ticket = scheduler.submit(counting(patches=100))
    wait_until(lambda: len(ticket.queue) > QUEUED_PATCHES // 2)
    ticket.cancel()
    assert numbers(ticket) == []


def test_cancelling_after_the_end_keeps_the_reason(scheduler: Scheduler, batch: CountingBatch) -> None:
    ticket = scheduler.submit(counting(patches=2))
    numbers(ticket)
    ticket.cancel()
    assert ticket.finish_reason == "length"
    assert numbers(scheduler.submit(counting(patches=3))) == [0, 1, 2]
    assert batch.free == 2


def test_an_error_in_join_belongs_to_its_ticket(scheduler: Scheduler) -> None:
    good, broken, later = (scheduler.submit(counting(text)) for text in ("good", "broken", "later"))
    with pytest.raises(ValueError, match="does not fit"):
        next(broken)
    assert broken.finish_reason == "interrupted"
    assert numbers(good) == numbers(later) == list(range(10))
    with pytest.raises(ValueError, match="does not fit"):  # also if no other request runs
        next(scheduler.submit(counting("broken")))


def test_a_request_is_prepared_in_the_thread_that_submits_it(
    scheduler: Scheduler, batch: CountingBatch
) -> None:
    """Converting a text to token ids can take long, and must not delay the rows."""
    with pytest.raises(ValueError, match="cannot be spoken"):
        scheduler.submit(counting("unreadable"))
    assert numbers(scheduler.submit(counting(patches=3))) == [0, 1, 2]
    assert batch.prepared_in == {threading.current_thread()}


def test_an_error_in_step_reaches_all_tickets_and_later_submissions(batch: CountingBatch) -> None:
    before = threading.active_count()
    with Scheduler(batch) as scheduler:
        tickets = [scheduler.submit(counting(text, patches=60)) for text in ("good", "explosive", "waits")]
        for ticket in tickets:
            with pytest.raises(RuntimeError, match="the batch failed"):
                numbers(ticket)
            assert ticket.finish_reason == "interrupted"
        with pytest.raises(RuntimeError, match="closed") as caught:
            scheduler.submit(counting())
        assert str(caught.value.__cause__) == "the batch failed"
    assert threading.active_count() == before


def test_closing_interrupts_all_tickets_and_ends_the_thread(batch: CountingBatch) -> None:
    before = threading.active_count()
    scheduler = Scheduler(batch)
    running = [scheduler.submit(counting(patches=10_000)) for _ in range(2)]
    waiting = scheduler.submit(counting("waits"))
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(numbers, ticket) for ticket in (*running, waiting)]
        wait_until(lambda: all(ticket.running and made(ticket) for ticket in running))
        scheduler.close()
        results = [reader.result(5) for reader in readers]
    for ticket, seen in zip(running, results, strict=False):
        assert seen == list(range(len(seen)))
        assert len(seen) < 10_000
        assert ticket.finish_reason == "interrupted"
    assert (results[2], waiting.finish_reason) == ([], "interrupted")
    assert batch.free == 2
    assert "waits" not in batch.joined
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        scheduler.submit(counting())
    scheduler.close()


def test_closing_restores_the_number_of_torch_threads(batch: CountingBatch) -> None:
    seen: list[int] = []
    torch.set_num_threads(2)
    try:
        with Scheduler(batch, threads=1) as scheduler:
            numbers(scheduler.submit(counting()))
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(1)
    assert seen == [2]


def test_many_threads_submit_at_once(scheduler: Scheduler, batch: CountingBatch) -> None:
    def work(number: int) -> list[list[int]]:
        return [numbers(scheduler.submit(counting(patches=number % 5 + k + 1))) for k in range(5)]

    with ThreadPoolExecutor(8) as pool:
        for number, results in enumerate(pool.map(work, range(8))):
            assert results == [list(range(number % 5 + k + 1)) for k in range(5)]
    assert batch.most_rows == 2


# -- a model -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> AutoregressiveGenerator:
    torch.manual_seed(0)
    config, tokenizer = TalkerConfig.tiny(), PhonemeTokenizer()
    backbone = dataclasses.replace(config.backbone, vocab=tokenizer.vocab_size)
    return AutoregressiveGenerator(
        TalkerModel(dataclasses.replace(config, backbone=backbone)).eval(), tokenizer
    )


def requests(generator: AutoregressiveGenerator) -> list[Request]:
    """One or two requests of each task, of different lengths."""
    config = generator.model.config
    draw = torch.Generator().manual_seed(0)

    def of(number: int) -> Request:
        frames = 8 + 4 * number
        latents = {name: torch.randn(frames, width, generator=draw) for name, width in config.widths.items()}
        task = config.tasks[number % 4]
        return Request(
            text="Go on then.",
            task=task.name,
            speaker=torch.randn(config.global_widths["audio"], generator=draw),
            first_motion=torch.randn(config.global_widths["motion"], generator=draw),
            given=Streams(**{name: latents[name] for name in task.given}) if task.given else None,
            frames=frames,
            seed=number,
            sampling=QUICK,
            stop=StopRule.never(),
        )

    return [of(number) for number in range(6)]


def test_tickets_yield_the_values_of_the_request_alone(generator: AutoregressiveGenerator) -> None:
    wanted = requests(generator)

    def alone(request: Request) -> Streams:
        with generator.scheduler(4) as scheduler:
            return Streams.cat(list(scheduler.submit(request)))

    expected = [alone(request) for request in wanted]
    with generator.scheduler(4) as scheduler:
        tickets = [scheduler.submit(request) for request in wanted]
        tickets[1].pause()
        results = {number: Streams.cat(list(tickets[number])) for number in (3, 0, 2)}
        tickets[1].resume()
        results |= {number: Streams.cat(list(tickets[number])) for number in (5, 4, 1)}
    for number, one in enumerate(expected):
        assert results[number].names == one.names
        for name, x in one.items():
            assert torch.equal(results[number][name], x)
    assert {ticket.finish_reason for ticket in tickets} <= {"length", "overflow"}
    for ticket, result in zip(tickets, (results[k] for k in range(6)), strict=True):
        tail = ticket.tail(4)
        for name, x in result.items():
            assert torch.allclose(tail[name].float(), x[-4:])


def test_rows_of_a_model_wait_while_their_queue_is_full_or_paused(generator: AutoregressiveGenerator) -> None:
    long, short, *_ = requests(generator)[::-1]
    with generator.scheduler(4) as scheduler:
        paused, slow = scheduler.submit(long), scheduler.submit(long)
        next(paused)
        paused.pause()
        assert len(list(scheduler.submit(short))) > QUEUED_PATCHES
        for ticket in (paused, slow):
            assert ticket.running is not None
            assert len(ticket.queue) <= QUEUED_PATCHES
        held = len(list(itertools.islice(paused, len(paused.queue))))
        assert held <= QUEUED_PATCHES
        assert len(list(scheduler.submit(short))) > QUEUED_PATCHES
        assert len(paused.queue) == 0
        assert len(slow.queue) == QUEUED_PATCHES
