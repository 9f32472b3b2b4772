"""The tasks: their given streams, their predicted streams, and the delay of motion."""

from __future__ import annotations

from dataclasses import dataclass

from heads.streams import NAMES


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the talker.

    Args:
        name: the name in requests.
        row: row of the task embedding; several tasks may share one.
        given: streams whose true patches are fed. They have no loss.
        predicted: streams that are generated. A stream that is neither given nor predicted is absent.
        delay: patches by which motion lags behind audio; negative if it leads.
    """

    name: str
    row: int
    given: tuple[str, ...]
    predicted: tuple[str, ...]
    delay: int = 0

    def __post_init__(self) -> None:
        known = self.given + self.predicted
        if not self.predicted or len(set(known)) != len(known) or not set(known) <= set(NAMES):
            raise ValueError(
                f"task {self.name!r}: give or predict each of {NAMES} at most once, and predict at least one"
            )
        if "audio" not in known:
            raise ValueError(
                f"task {self.name!r} has no audio: give or predict it, only motion can be absent"
            )

    @property
    def absent(self) -> tuple[str, ...]:
        """Streams that are neither given nor predicted."""
        return tuple(name for name in NAMES if name not in self.given + self.predicted)

    @property
    def uses_stop_predictor(self) -> bool:
        """Whether the stop predictor determines the length. Otherwise, the given stream determines it."""
        return not self.given


def _table(delays: tuple[int, int, int], rows: tuple[int, int, int, int]) -> tuple[Task, ...]:
    t2av, a2v, v2a = delays
    return (
        Task(name="tts", row=rows[0], given=(), predicted=("audio",)),
        Task(name="t2av", row=rows[1], given=(), predicted=("audio", "motion"), delay=t2av),
        Task(name="a2v", row=rows[2], given=("audio",), predicted=("motion",), delay=a2v),
        Task(name="v2a", row=rows[3], given=("motion",), predicted=("audio",), delay=v2a),
    )


# With delay 0, the hidden state that predicts a motion patch depends only on audio before that patch. So
# predicted motion lags behind given audio by one patch, and given motion leads predicted audio by one patch.
PUPPET_TASKS = _table(delays=(0, 1, -1), rows=(0, 1, 2, 3))

# The published weights have two rows and no delays.
RELEASE_TASKS = _table(delays=(0, 0, 0), rows=(0, 1, 1, 1))


def task_named(tasks: tuple[Task, ...], name: str) -> Task:
    """The task called `name`.

    Raises:
        ValueError: there is no such task.
    """
    for task in tasks:
        if task.name == name:
            return task
    raise ValueError(f"unknown task {name!r}: choose one of {', '.join(t.name for t in tasks)}")
