"""The speaker recipe: its draws, its loss, its measure."""

import dataclasses

import torch
from tiny_recipes import hum, tiny

from recipes.train_speaker import draw, equal_error_rate, pair_loss
from talker.speaker import PCM_RATE

RUN = tiny("speaker", "rows=2", "seconds=0.5")


def test_draws_are_of_the_step_alone():
    pcm, again, other = (draw(hum(3), RUN, step) for step in (7, 7, 8))
    assert pcm.equal(again)
    assert not pcm.equal(other)
    assert not pcm.equal(draw(hum(3), dataclasses.replace(RUN, seed=1), 7))
    assert pcm.shape == (4, PCM_RATE // 2)


def test_partners_side_by_side_cost_nothing():
    one, two = torch.eye(2, 8)
    assert pair_loss(torch.stack([one, one, two, two])) < 1e-6
    assert pair_loss(torch.stack([one, two, one, two])) > 10


def test_equal_error_rate_of_known_scores():
    assert equal_error_rate(torch.tensor([0.8, 0.9]), torch.tensor([0.1, 0.2])) == 0
    line = torch.linspace(0, 1, 101)
    assert abs(equal_error_rate(line, line) - 0.5) < 0.02
    assert abs(equal_error_rate(line + 0.6, line) - 0.2) < 0.02
