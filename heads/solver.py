"""Euler steps from noise to data over the sway schedule, with classifier-free guidance, for any velocity."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from heads.sampling import Sampling
from heads.streams import Streams

Velocity = Callable[[Streams, float], Streams]


def schedule(steps: int, sway: float) -> Tensor:
    """Times (steps + 1,) from 1 to 0: t = u + sway (cos(pi u / 2) - 1 + u) over uniform u."""
    u = torch.linspace(1, 0, steps + 1)
    return u + sway * (torch.cos(math.pi / 2 * u) - 1 + u)


@functools.lru_cache(maxsize=64)
def euler_steps(sampling: Sampling) -> tuple[tuple[float, float], ...]:
    """(time, length) of each step, exact float32 values.

    As in the published sampler, each time is the previous time minus the previous length, and each length is
    the time minus the next time of the schedule. For a sway of 0 or more this equals the schedule to the bit;
    for a negative sway the last bit can differ, and the time embedding multiplies times by 1000.
    """
    times = schedule(sampling.steps, sampling.sway)
    taken = []
    time, length = times[0], times[0] - times[1]
    for following in range(2, sampling.steps + 2):
        taken.append((time.item(), length.item()))
        time = time - length
        if following <= sampling.steps:
            length = time - times[following]
    return tuple(taken)


def still_steps(steps: int) -> int:
    """Number of steps at the start that use a zero velocity with `zero_star`."""
    return max(1, int(0.04 * (steps + 1)))


def guide(conditional: Tensor, unconditional: Tensor, guidance: float, zero_star: bool) -> Tensor:
    """Classifier-free guidance of velocities (B, ...).

    With `zero_star`, each row of the unconditional velocity v- is first multiplied by <v+, v-> / |v-|^2,
    where v+ is the conditional velocity (CFG-Zero*, arXiv 2503.18886). The factor is computed in float32; the
    result is then float32.
    """
    if zero_star:
        plus, minus = conditional.flatten(1).float(), unconditional.flatten(1).float()
        scale = (plus * minus).sum(1) / (minus.square().sum(1) + 1e-8)
        unconditional = unconditional * scale.view(-1, *[1] * (conditional.dim() - 1))
    return unconditional + guidance * (conditional - unconditional)


def euler(velocity: Velocity, noise: Streams, sampling: Sampling) -> Streams:
    """Integrate `velocity(x, time)` from `noise` (B, ...) at time 1 to data of the same shapes at time 0."""
    x = noise.map(lambda z: z * sampling.temperature)
    still = still_steps(sampling.steps) if sampling.zero_star else 0
    for time, length in euler_steps(sampling)[still:]:
        change = velocity(x, time).map(lambda v: v * -length)  # noqa: B023 - used at once
        x = x.zip(change, torch.add)
    return x
