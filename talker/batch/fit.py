"""Length policy: where the speech of a cue starts, how fast it is, and where it is cut."""

from __future__ import annotations

from dataclasses import dataclass

from talker.clock import SAMPLE_RATE

SLOWEST, FASTEST = 0.9, 1.15  # tempo of "fit"


@dataclass(frozen=True)
class Placement:
    """Speech on the timeline of the video, in samples at 24 kHz.

    Attributes:
        start: first sample.
        samples: length on the timeline, after the change of tempo.
        tempo: factor of speed.
        cut: seconds of speech, at its own tempo, that are left out at the end.
    """

    start: int
    samples: int
    tempo: float = 1.0
    cut: float = 0.0


def place(start: int, room: int, spoken: int, policy: str, most: int | None = None) -> Placement:
    """Place speech of `spoken` samples at `start`.

    - "fit": the tempo is changed within SLOWEST..FASTEST so that the speech fills the cue;
    - "extend": the speech continues after the cue, up to `most`;
    - "trim": the speech is cut at the end of the cue.

    Args:
        start: first sample of the cue.
        room: length of the cue in samples.
        spoken: length of the speech in samples, 0 or more.
        policy: one of the above.
        most: samples from `start` to the next cue; None: unlimited.
    """
    if not spoken:
        return Placement(start, 0)
    tempo = 1.0
    if policy == "fit":
        tempo = min(max(spoken / room, SLOWEST), FASTEST)
    if policy == "extend":
        room = spoken if most is None else most
    length = min(round(spoken / tempo), room)
    return Placement(start, length, tempo, max(0.0, spoken - length * tempo) / SAMPLE_RATE)
