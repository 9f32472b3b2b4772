"""The tasks: what is given, what is predicted, and by how many patches motion lags. Data, no branches."""

from __future__ import annotations

from dataclasses import dataclass

from heads.streams import NAMES


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the talker.

    Args:
        name: what commands call it.
        row: its row of the task embedding; several tasks may share one.
        given: streams whose true patches are fed; they carry no loss.
        predicted: streams that are generated. A stream in neither is absent.
        delay: patches by which motion lags behind audio; negative where it leads.
    """

    name: str
    row: int
    given: tuple[str, ...]
    predicted: tuple[str, ...]
    delay: int = 0

    def __post_init__(self) -> None:
        known = self.given + self.predicted
        if not self.predicted or len(set(known)) != len(known) or not set(known) <= set(NAMES):
            raise ValueError(f"task {self.name!r}: give each of {NAMES} at most one part, and predict one")
        if "audio" not in known:
            raise ValueError(f"task {self.name!r} has no audio; only motion can be replaced by an embedding")

    @property
    def absent(self) -> tuple[str, ...]:
        """Streams that are neither given nor predicted."""
        return tuple(name for name in NAMES if name not in self.given + self.predicted)

    @property
    def ends_itself(self) -> bool:
        """Whether the stop predictor decides the length; a given stream decides it otherwise."""
        return not self.given


def _table(delays: tuple[int, int, int], rows: tuple[int, int, int, int]) -> tuple[Task, ...]:
    t2av, a2v, v2a = delays
    return (
        Task(name="tts", row=rows[0], given=(), predicted=("audio",)),
        Task(name="t2av", row=rows[1], given=(), predicted=("audio", "motion"), delay=t2av),
        Task(name="a2v", row=rows[2], given=("audio",), predicted=("motion",), delay=a2v),
        Task(name="v2a", row=rows[3], given=("motion",), predicted=("audio",), delay=v2a),
    )


# At delay 0 the state that predicts a motion patch has heard the audio only up to the patch before. So motion
# that follows given audio lags by a patch (it has heard its own sound), and motion that is given leads by
# one.
PUPPET_TASKS = _table(delays=(0, 1, -1), rows=(0, 1, 2, 3))

# The published weights have two rows, and no delay anywhere.
RELEASE_TASKS = _table(delays=(0, 0, 0), rows=(0, 1, 1, 1))


def task_named(tasks: tuple[Task, ...], name: str) -> Task:
    """The task of that name; ValueError lists the choices."""
    for task in tasks:
        if task.name == name:
            return task
    raise ValueError(f"there is no task {name!r}; choose one of {', '.join(t.name for t in tasks)}")
