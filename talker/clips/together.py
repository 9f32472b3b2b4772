"""Generates several clips at once: their requests are rows of one batch, and workers prepare their inputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from talker.clips.clip import Clip, Generate, Take
from talker.errors import UserError
from talker.stages import Cancelled, Channel, Stages
from talker.system import System

PREPARED_AHEAD = 2  # clips that workers prepare while all rows are in use

Plan = Clip | Callable[[], Clip]


def map_clips(system: System, clips: Iterable[Plan], capacity: int, ordered: bool) -> Iterator[Take]:
    """See `Talker.map`."""
    workers = capacity + PREPARED_AHEAD
    queue = _Queue(clips, most=2 * workers, workers=workers)
    with Stages() as stages, system.generator.scheduler(capacity) as scheduler:
        stages.adopt(queue.done)
        for _ in range(workers):
            stages.feed(lambda: queue.work(scheduler.submit))
        yield from queue.in_order() if ordered else queue.as_they_finish()
    if queue.error is not None:
        raise queue.error


class _Queue:
    """Distributes plans to workers and collects their takes with the numbers of the plans."""

    def __init__(self, clips: Iterable[Plan], most: int, workers: int) -> None:
        """`most`: greatest number of takes that are in work or finished and not yet yielded."""
        self._clips, self._number = iter(clips), 0
        self._lock = threading.Lock()
        self._room = threading.Semaphore(most)
        self._workers = workers
        self.done: Channel[tuple[int, Take]] = Channel(most)
        self.error: BaseException | None = None

    def work(self, generate: Generate) -> Iterator[None]:
        """Make takes until there are no more plans. Each worker runs this function."""
        while (plan := self._next()) is not None:
            self.done.put((plan[0], _made(plan[1], generate)))
        with self._lock:
            self._workers -= 1
            if self._workers == 0:
                self.done.close()
        yield from ()

    def _next(self) -> tuple[int, Plan] | None:
        while not self._room.acquire(timeout=0.1):
            if self.done.cancelled:
                raise Cancelled
        with self._lock:
            try:
                plan = next(self._clips)
            except BaseException as error:  # raised after the takes of the earlier plans
                if not isinstance(error, StopIteration):
                    self.error = error
                self._clips = iter(())
                self._room.release()
                return None
            self._number += 1
            return self._number - 1, plan

    def as_they_finish(self) -> Iterator[Take]:
        """Yield the takes in the order in which they are finished."""
        for _, take in self.done:
            self._room.release()
            yield take

    def in_order(self) -> Iterator[Take]:
        """Yield the takes in the order of their plans."""
        held: dict[int, Take] = {}
        following = 0
        for number, take in self.done:
            held[number] = take
            while following in held:
                self._room.release()
                yield held.pop(following)
                following += 1


def _made(plan: Plan, generate: Generate) -> Take:
    """Build the clip of a plan and generate its latents. An error is stored in the take."""
    take = Take(plan if isinstance(plan, Clip) else None)
    try:
        clip = plan() if callable(plan) else plan
        if not isinstance(clip, Clip):
            raise UserError(f"a map takes clips, and functions that return a clip, not {clip!r}")
        take = clip.take()
        take.keep(generate)
    except Cancelled:
        raise
    except Exception as error:
        take.error = error
    return take
