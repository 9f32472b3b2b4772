"""The motion of a part continues from the motion of the previous part."""

from __future__ import annotations

import torch

from talker.clips.continuation import SEAM_FRAMES, Seam


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
