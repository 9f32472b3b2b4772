"""The times and lengths of Euler steps to the bit, and guidance in half precision."""

import numpy as np
import pytest
import torch

from heads.sampling import Sampling
from heads.solver import euler_steps, guide, schedule

LAST_BIT = [(3, -0.6), (18, -0.5), (20, -0.4)]
"""Steps and sway for which the carried times or lengths differ from those of the schedule."""


@pytest.mark.parametrize(("steps", "sway"), [(1, 1.0), (2, 0.0), (5, 1.0), (10, 1.0), (25, 0.0), *LAST_BIT])
def test_each_time_is_the_previous_time_minus_the_previous_length(steps, sway):
    """And each length leads from that time, not from the scheduled one, to the next scheduled time."""
    scheduled = schedule(steps, sway).numpy()
    time = np.float32(1)
    for (taken, length), following in zip(
        euler_steps(Sampling(steps=steps, sway=sway)), scheduled[1:], strict=True
    ):
        assert taken == time
        assert length == time - following
        time = time - np.float32(length)


def from_schedule(steps: int, sway: float) -> tuple[tuple[float, float], ...]:
    times = schedule(steps, sway)
    return tuple(zip(times[:-1].tolist(), (times[:-1] - times[1:]).tolist(), strict=True))


@pytest.mark.parametrize(("steps", "sway"), LAST_BIT)
def test_carried_steps_differ_from_the_schedule_in_the_last_bit(steps, sway):
    assert euler_steps(Sampling(steps=steps, sway=sway)) != from_schedule(steps, sway)


@pytest.mark.parametrize("sway", [0.0, 0.5, 1.0])
def test_carried_steps_equal_the_schedule_without_negative_sway(sway):
    for steps in range(1, 30):
        assert euler_steps(Sampling(steps=steps, sway=sway)) == from_schedule(steps, sway)


def test_zero_star_factor_is_computed_in_float32():
    """The squared norm of these velocities exceeds the range of float16."""
    plus = torch.full((1, 4, 100), 20.0, dtype=torch.float16)
    guided = guide(plus, plus / 2, 2.0, zero_star=True)
    torch.testing.assert_close(guided, plus.float(), atol=0.05, rtol=0)
