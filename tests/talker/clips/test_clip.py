"""How the parts of a clip meet."""

from __future__ import annotations

import torch

from talker.clips.clip import SEAM_FRAMES, Seam


def test_a_part_eases_out_of_the_one_before() -> None:
    """No step where they meet, none larger than its share of the gap later, nothing changed elsewhere."""
    drawn = torch.cat([torch.zeros(8, 3), torch.ones(20, 3)])
    seam, parts = Seam(), drawn.split(4)
    motion = torch.cat([seam(part, begins=number in (0, 2)) for number, part in enumerate(parts)])
    assert torch.equal(motion[:9], torch.zeros(9, 3))
    assert torch.equal(motion[8 + SEAM_FRAMES :], drawn[8 + SEAM_FRAMES :])
    assert motion.diff(dim=0).abs().max() <= 1 / SEAM_FRAMES + 1e-6


def test_a_part_that_ends_before_it_has_eased_out_hands_on_where_it_is() -> None:
    seam = Seam()
    drawn = [torch.full((4, 1), value) for value in (0.0, 1.0, 5.0)]
    motion = torch.cat([seam(part, begins=True) for part in drawn])
    assert motion[8] == motion[7] < 1


def test_usual_steps_are_left_alone() -> None:
    """Words go on across a border: its step keeps twice the usual size, and the rest of the gap dies away."""
    seam, straight = Seam(free=2.0), torch.arange(28.0)[:, None]
    drawn = straight + torch.where(torch.arange(28) < 8, 0.0, 30.0)[:, None]
    motion = torch.cat([seam(part, begins=number in (0, 2)) for number, part in enumerate(drawn.split(4))])
    assert motion[8] - motion[7] == 2.0
    assert torch.equal(motion[8 + SEAM_FRAMES :], drawn[8 + SEAM_FRAMES :])
    going = Seam(free=2.0)
    assert torch.equal(torch.cat([going(part, begins=True) for part in straight.split(4)]), straight)
