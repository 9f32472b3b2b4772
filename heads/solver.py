"""From noise to data: Euler steps over the sway schedule, with classifier-free guidance, for any callable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from heads.streams import Streams

Velocity = Callable[[Streams, float], Streams]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a patch is drawn.

    Attributes:
        steps: Euler steps.
        guidance: 1 follows the conditional velocity alone.
        temperature: factor on the initial noise.
        sway: how far the schedule leans towards small steps near the noise; 0 is uniform.
        zero_star: rescale the unconditional velocity, and stand still for the first 4 % of the steps.
    """

    steps: int = 10
    guidance: float = 2.0
    temperature: float = 0.7
    sway: float = 1.0
    zero_star: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sampling takes at least one step, got {self.steps}")

    @classmethod
    def paper(cls) -> Sampling:
        """As the paper reports it."""
        return cls()

    @classmethod
    def release(cls) -> Sampling:
        """As the released command line runs."""
        return cls(temperature=0.3)

    @classmethod
    def puppet(cls) -> Sampling:
        """As the embedded default runs: fewer steps, less noise, more guidance; see docs/log.md."""
        return cls(steps=5, temperature=0.6, guidance=3.0)


SAMPLINGS = {"paper": Sampling.paper(), "release": Sampling.release(), "puppet": Sampling.puppet()}


def schedule(steps: int, sway: float) -> Tensor:
    """Times (steps + 1,) from 1 to 0: t = u + sway (cos(pi u / 2) - 1 + u) over uniform u."""
    u = torch.linspace(1, 0, steps + 1)
    return u + sway * (torch.cos(math.pi / 2 * u) - 1 + u)


@cache
def euler_steps(steps: int, sway: float) -> tuple[tuple[float, float], ...]:
    """(time, length) of each step, float32 values.

    The time is carried by subtraction instead of read from the schedule: the time embedding multiplies it by
    1000, so that a last-bit difference would be seen in the result.
    """
    times = schedule(steps, sway)
    taken = []
    time, length = times[0], times[0] - times[1]
    for following in range(2, steps + 2):
        taken.append((time.item(), length.item()))
        time = time - length
        if following <= steps:
            length = time - times[following]
    return tuple(taken)


def still_steps(steps: int) -> int:
    """How many first steps take a zero velocity under zero-star guidance."""
    return max(1, int(0.04 * (steps + 1)))


def guide(conditional: Tensor, unconditional: Tensor, guidance: float, zero_star: bool) -> Tensor:
    """Classifier-free guidance of velocities (B, ...); zero-star first scales the unconditional one to fit.

    The scale is the projection <v+, v-> / |v-|^2 of each row (CFG-Zero*, arXiv 2503.18886).
    """
    if zero_star:
        plus, minus = conditional.flatten(1), unconditional.flatten(1)
        scale = (plus * minus).sum(1) / (minus.square().sum(1) + 1e-8)
        unconditional = unconditional * scale.view(-1, *[1] * (conditional.dim() - 1))
    return unconditional + guidance * (conditional - unconditional)


def euler(velocity: Velocity, noise: Streams, sampling: Sampling) -> Streams:
    """Follow `velocity(x, time)` from `noise` (B, ...) at time 1 to data at time 0; same shapes."""
    x = noise.map(lambda z: z * sampling.temperature)
    still = still_steps(sampling.steps) if sampling.zero_star else 0
    for time, length in euler_steps(sampling.steps, sampling.sway)[still:]:
        change = velocity(x, time).map(lambda v: v * -length)  # noqa: B023 - used at once
        x = x.zip(change, torch.add)
    return x
