"""Euler steps to the bit: the time embedding multiplies times by 1000, so that the last bit matters."""

import numpy as np
import pytest
import torch

from heads.solver import euler_steps, guide, schedule


@pytest.mark.parametrize("sway", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5, 10, 25])
def test_each_time_is_the_previous_time_minus_the_previous_length(steps, sway):
    """And each length leads from that time, not from the scheduled one, to the next scheduled time."""
    scheduled = schedule(steps, sway).numpy()
    time = np.float32(1)
    for (taken, length), following in zip(euler_steps(steps, sway), scheduled[1:], strict=True):
        assert taken == time
        assert length == time - following
        time = time - np.float32(length)


def test_carried_times_differ_from_the_schedule():
    """Otherwise the test above could not tell one from the other."""
    carried = [time for time, _ in euler_steps(25, 1.0)]
    lengths = [length for _, length in euler_steps(25, 1.0)]
    assert carried != schedule(25, 1.0)[:-1].tolist()
    assert lengths != (-schedule(25, 1.0).diff()).tolist()


def test_cache_of_steps_is_bounded():
    for steps in range(1, 200):
        euler_steps(steps, 0.5)
    assert euler_steps.cache_info().currsize <= 64


def test_zero_star_factor_is_computed_in_float32():
    """The squared norm of these velocities exceeds the range of float16."""
    plus = torch.full((1, 4, 100), 20.0, dtype=torch.float16)
    guided = guide(plus, plus / 2, 2.0, zero_star=True)
    torch.testing.assert_close(guided, plus.float(), atol=0.05, rtol=0)
