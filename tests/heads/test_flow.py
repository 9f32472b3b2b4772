"""Flow matching and its solver, compared with closed forms."""

import math

import pytest
import torch

from heads.flow import draws, logit_normal, on_path, velocity_target
from heads.sampling import Sampling
from heads.solver import euler, euler_steps, guide, schedule, still_steps
from heads.streams import Streams


def test_path_starts_at_data_and_ends_at_noise():
    data, noise = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    assert on_path(data, noise, torch.zeros(3)).equal(data)
    assert on_path(data, noise, torch.ones(3)).equal(noise)


def test_velocity_is_the_derivative_of_the_path():
    data, noise = torch.randn(2, 4, 5).double(), torch.randn(2, 4, 5).double()
    time = torch.tensor([0.3, 0.8], dtype=torch.float64)
    slope = (on_path(data, noise, time + 1e-4) - on_path(data, noise, time - 1e-4)) / 2e-4
    torch.testing.assert_close(slope, velocity_target(data, noise), atol=1e-8, rtol=0)


def test_times_are_logit_normal():
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    logit = torch.logit(logit_normal(normal).double())
    assert abs(logit.mean() + 0.4) < 0.02
    assert abs(logit.std() - 1) < 0.02


def test_draws_depend_on_the_generator_and_have_the_given_rates():
    like = Streams(audio=torch.zeros(4000, 4, 2), motion=torch.zeros(4000, 4, 3))
    one, two = (draws(like, torch.Generator().manual_seed(5)) for _ in range(2))
    for name, target in like.items():
        assert one.noise[name].equal(two.noise[name])
        assert one.noise[name].shape == target.shape
        assert abs(one.keep_hidden[name].float().mean() - 0.9) < 0.02
        assert abs(one.keep_context[name].float().mean() - 0.95) < 0.02
    assert not one.time["audio"].equal(one.time["motion"])


@pytest.mark.parametrize("sway", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 10, 25])
def test_schedule_decreases_from_one_to_zero_and_steps_add_up(steps, sway):
    times = schedule(steps, sway)
    assert times.shape == (steps + 1,)
    assert times[0] == 1
    assert abs(times[-1]) < 1e-6
    assert (times.diff() < 0).all()
    taken = euler_steps(Sampling(steps=steps, sway=sway))
    assert len(taken) == steps
    assert math.isclose(sum(length for _, length in taken), 1, abs_tol=1e-6)
    torch.testing.assert_close(torch.tensor([time for time, _ in taken]), times[:-1], atol=1e-6, rtol=0)


def test_sway_takes_smaller_steps_near_the_noise():
    lengths = -schedule(10, 1.0).diff()
    assert (lengths.diff() > 0).all()


def test_solver_is_exact_on_straight_paths():
    """With the constant velocity noise - data, Euler's method reaches the data with any number of steps."""
    data, noise = Streams(torch.randn(2, 4, 5)), Streams(torch.randn(2, 4, 5))
    velocity = noise.zip(data, torch.sub)
    for steps in (1, 3, 10):
        sampling = Sampling(steps=steps, temperature=1, zero_star=False)
        result = euler(lambda x, time: velocity, noise, sampling)
        torch.testing.assert_close(result["audio"], data["audio"], atol=1e-5, rtol=0)


def test_solver_error_is_of_first_order():
    """The solution of dx/dt = x from time 1 to 0 is x e^-1. Half the step size gives half the error."""
    start = Streams(torch.ones(1, 1, 1).double())

    def error(steps: int) -> float:
        sampling = Sampling(steps=steps, temperature=1, sway=0, zero_star=False)
        return abs(euler(lambda x, time: x, start, sampling)["audio"].item() - math.exp(-1))

    assert 1.9 < error(20) / error(40) < 2.1


def test_zero_star_skips_the_first_steps():
    assert [still_steps(n) for n in (1, 10, 48, 49, 73, 74)] == [1, 1, 1, 2, 2, 3]
    times = []
    noise = Streams(torch.ones(1, 1, 1))
    euler(lambda x, time: times.append(time) or x, noise, Sampling(steps=10))
    assert times == [time for time, _ in euler_steps(Sampling(steps=10))][1:]
    single = Sampling(steps=1, temperature=0.5)
    skipped = euler(lambda x, time: pytest.fail("the only step is skipped"), noise, single)
    assert skipped["audio"].item() == 0.5


def test_guidance_of_one_is_the_conditional_velocity():
    plus, minus = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    for zero_star in (True, False):
        torch.testing.assert_close(guide(plus, minus, 1.0, zero_star), plus)


def test_zero_star_ignores_the_scale_of_the_unconditional_velocity():
    plus, minus = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    torch.testing.assert_close(guide(plus, minus, 2.0, True), guide(plus, 7 * minus, 2.0, True))
    torch.testing.assert_close(guide(plus, minus, 2.0, False), 2 * plus - minus)


def test_zero_star_guidance_of_a_zero_velocity_is_finite():
    plus = torch.randn(3, 4, 5)
    torch.testing.assert_close(guide(plus, torch.zeros_like(plus), 2.0, True), 2 * plus)


def test_sampling_without_steps_is_refused():
    with pytest.raises(ValueError, match="at least one step"):
        Sampling(steps=0)
