"""The motion of a part continues from the motion of the previous part."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from heads.streams import Streams
from talker.clips.continuation import SEAM_FRAMES, Continuation, Seam
from talker.clips.record import Record
from talker.generation.request import Request


def test_the_gap_between_two_parts_decays() -> None:
    """There is no step at the border, later steps are bounded, and motion is unchanged elsewhere."""
    drawn = torch.cat([torch.zeros(8, 3), torch.ones(20, 3)])
    seam, patches = Seam(), drawn.split(4)
    motion = torch.cat([seam(patch, begins=number in (0, 2)) for number, patch in enumerate(patches)])
    assert torch.equal(motion[:9], torch.zeros(9, 3))
    assert torch.equal(motion[8 + SEAM_FRAMES :], drawn[8 + SEAM_FRAMES :])
    assert motion.diff(dim=0).abs().max() <= 1 / SEAM_FRAMES + 1e-6


def test_a_part_continues_from_a_gap_that_has_not_decayed_yet() -> None:
    seam = Seam()
    drawn = [torch.full((4, 1), value) for value in (0.0, 1.0, 5.0)]
    motion = torch.cat([seam(patch, begins=True) for patch in drawn])
    assert motion[8] == motion[7] < 1


def test_free_steps_of_the_usual_size_are_kept() -> None:
    """The step at a border keeps twice the usual size, and the rest of the gap decays."""
    seam, straight = Seam(free=2.0), torch.arange(28.0)[:, None]
    drawn = straight + torch.where(torch.arange(28) < 8, 0.0, 30.0)[:, None]
    patches = enumerate(drawn.split(4))
    motion = torch.cat([seam(patch, begins=number in (0, 2)) for number, patch in patches])
    assert motion[8] - motion[7] == 2.0
    assert torch.equal(motion[8 + SEAM_FRAMES :], drawn[8 + SEAM_FRAMES :])


def test_motion_with_usual_steps_at_the_borders_is_unchanged() -> None:
    seam, straight = Seam(free=2.0), torch.arange(28.0)[:, None]
    assert torch.equal(torch.cat([seam(patch, begins=True) for patch in straight.split(4)]), straight)


def test_steps_at_the_borders_are_no_usual_steps() -> None:
    jumps = torch.tensor([0.0, 1, 2, 31]).repeat_interleave(4)  # of 1, 1 and 29 at the borders
    seam, drawn = Seam(free=2.0), (torch.arange(16.0) + jumps)[:, None]
    motion = torch.cat([seam(patch, begins=True) for patch in drawn.split(4)])
    assert torch.equal(motion[:12], drawn[:12])
    assert motion[12] - motion[11] == 2.0


class Patches:
    """Patches with one word each."""

    def __init__(self, *values: float, reason: str = "stop") -> None:
        self._patches = [Streams(audio=torch.full((4, 1), v), motion=torch.full((4, 1), v)) for v in values]
        self.words, self.finish_reason, self.closed = [("w", 1)], reason, 0

    def __iter__(self) -> Iterator[Streams]:
        return iter(self._patches)

    def tail(self, frames: int) -> Streams:
        return Streams.cat(self._patches).map(lambda x: x[-frames:])

    def close(self) -> None:
        self.closed += 1


def parts_of(*generations: Patches, **options: float) -> tuple[Record, Continuation]:
    record, left = Record(4), iter(generations)
    return record, Continuation(record, lambda request: next(left), **options)


def taken(record: Record, patches: Iterator[Streams]) -> list[Streams]:
    found = []
    for patch in patches:
        record.patches += 1
        found.append(patch)
    return found


def test_a_part_that_is_generated_again_leaves_no_trace_of_the_first_attempt() -> None:
    record, parts = parts_of(Patches(1.0), Patches(2.0, 3.0, reason="length"), Patches(4.0))
    taken(record, parts.part(Request(text="", task="t2av")))
    state = parts.state
    dropped = taken(record, parts.part(Request(text="", task="t2av")))
    assert (record.starts, record.ends, parts.reasons) == ([0, 1], [1, 3], ["stop", "length"])
    record.patches -= len(dropped)
    parts.state = state
    assert (record.starts, record.ends, parts.reasons, record.words) == ([0], [1], ["stop"], [("w", 1)])
    assert parts.tail["audio"].tolist() == [[1.0]] * 4
    taken(record, parts.part(Request(text="", task="t2av")))
    assert (record.starts, record.ends, parts.reasons) == ([0, 1], [1, 2], ["stop", "stop"])
    assert record.words == [("w", 1), ("w", 5)]
    assert parts.tail["audio"].tolist() == [[4.0]] * 4


def test_a_part_that_is_left_early_ends_its_generation() -> None:
    record, parts = parts_of(generation := Patches(1.0, 2.0, 3.0))
    patches = parts.part(Request(text="", task="t2av"))
    next(patches)
    patches.close()
    assert generation.closed == 1
    assert (record.starts, record.ends, parts.tail) == ([0], [], None)
    assert record.speaks(0)
    assert record.speaks(5)


def test_the_tail_has_the_motion_as_it_was_shown_and_a_waiting_face_closes_every_gap() -> None:
    """A waiting face continues no words: no step of the usual size is kept."""
    record, parts = parts_of(Patches(0.0, 1.0), carried=2, free_steps=2.0)
    taken(record, parts.part(Request(text="", task="t2av")))
    shown = parts.idle(Streams(audio=torch.zeros(4, 1), motion=torch.full((4, 1), 9.0)), begins=True)
    assert shown["motion"][0] == 1.0
    assert torch.equal(parts.tail["motion"][4:], shown["motion"])
    assert len(parts.tail["motion"]) == 8
    again = parts.idle(Streams(audio=torch.zeros(4, 1), motion=torch.full((4, 1), 9.0)), begins=False)
    assert 0 < again["motion"][0] - shown["motion"][-1] < 1


def test_a_record_knows_which_patches_are_speech() -> None:
    record = Record(4)
    assert not record.speaks(0)
    record.starts, record.ends = [2, 5, 9], [5, 7]
    assert [record.speaks(k) for k in range(12)] == [False] * 2 + [True] * 5 + [False] * 2 + [True] * 3
