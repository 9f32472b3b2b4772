"""Generates several clips at once as rows of one batch. Their inputs are prepared in threads of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from talker.clips.clip import Clip, Generate, Take
from talker.errors import UserError
from talker.stages import Cancelled, Channel, Stages
from talker.system import System

GENERATED_AHEAD = 2  # clips that wait for a row while all rows are in use
FEWEST_PREPARING = 2  # threads that build clips and read their inputs, at least

Plan = Clip | Callable[[], Clip]


def map_clips(system: System, clips: Iterable[Plan], capacity: int, ordered: bool) -> Iterator[Take]:
    """See `Talker.map`."""
    generating = capacity + GENERATED_AHEAD
    with Stages() as stages, system.generator.scheduler(capacity) as scheduler:
        queue = _Queue(stages, clips, most=2 * generating)
        stages.feed(queue.distribute)
        for _ in range(max(FEWEST_PREPARING, system.threads)):
            stages.feed(queue.prepare)
        for _ in range(generating):
            stages.feed(lambda: queue.generate(scheduler.submit))
        yield from queue.in_order() if ordered else queue.as_they_finish()
    if queue.error is not None:
        raise queue.error


class _Queue:
    """Passes plans from the thread that takes them to those that prepare, and to those that generate.

    Attributes:
        error: the error of the iterator of plans, or None.
    """

    def __init__(self, stages: Stages, clips: Iterable[Plan], most: int) -> None:
        """`most`: greatest number of takes that are in work or finished and not yet yielded."""
        self._clips = clips
        self._room: Channel[None] = stages.channel(most)
        for _ in range(most):
            self._room.put(None)
        self._plans: Channel[tuple[int, Plan]] = stages.channel(most)
        self._prepared: Channel[tuple[int, Take]] = stages.channel(most)
        self._done: Channel[tuple[int, Take | None]] = stages.channel(most + 1)
        self.error: BaseException | None = None

    def distribute(self) -> Iterator[None]:
        """Take the plans one by one while there is room. Clips without inputs to read need no preparation."""
        count = 0
        try:
            for _, plan in zip(self._room, self._clips, strict=False):
                if isinstance(plan, Clip) and not plan.reads_inputs:
                    self._prepared.put((count, Take(plan)))
                else:
                    self._plans.put((count, plan))
                count += 1
        except Cancelled:
            raise
        except BaseException as error:  # raised after the takes of the earlier plans
            self.error = error
        self._done.put((count, None))
        yield from ()

    def prepare(self) -> Iterator[None]:
        """Build clips and read their inputs."""
        for number, plan in self._plans:
            take = Take(plan if isinstance(plan, Clip) else None)
            try:
                clip = plan() if callable(plan) else plan
                if not isinstance(clip, Clip):
                    raise UserError(f"a map takes clips, and functions that return a clip, not {clip!r}")
                take = clip.take()
                take.prepare()
            except Cancelled:
                raise
            except Exception as error:
                take.error = error
            (self._prepared if take.error is None else self._done).put((number, take))
        yield from ()

    def generate(self, generate: Generate) -> Iterator[None]:
        """Generate the latents of takes."""
        for number, take in self._prepared:
            try:
                take.keep(generate)
            except Cancelled:
                raise
            except Exception as error:
                take.error = error
            self._done.put((number, take))
        yield from ()

    def _finished(self) -> Iterator[tuple[int, Take]]:
        """The takes with the numbers of their plans, as they finish, until all plans have one."""
        count, plans = 0, None
        for number, take in self._done:
            if take is None:
                plans = number
            else:
                yield number, take
                count += 1
            if count == plans:
                return

    def as_they_finish(self) -> Iterator[Take]:
        """Yield the takes in the order in which they are finished."""
        for _, take in self._finished():
            self._room.put(None)
            yield take

    def in_order(self) -> Iterator[Take]:
        """Yield the takes in the order of their plans."""
        held: dict[int, Take] = {}
        following = 0
        for number, take in self._finished():
            held[number] = take
            while following in held:
                self._room.put(None)
                yield held.pop(following)
                following += 1
