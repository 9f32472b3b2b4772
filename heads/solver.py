"""Euler steps from noise to data over the sway schedule, with classifier-free guidance, for any velocity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from heads.streams import Streams

Velocity = Callable[[Streams, float], Streams]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings for sampling a patch.

    Attributes:
        steps: number of Euler steps.
        guidance: scale of classifier-free guidance; 1 uses the conditional velocity only.
        temperature: factor of the initial noise.
        sway: coefficient of the sway schedule; 0 is uniform, 1 takes smaller steps near the noise.
        zero_star: CFG-Zero*: rescale the unconditional velocity, and use a zero velocity for the first 4 % of
            the steps.
    """

    steps: int = 10
    guidance: float = 2.0
    temperature: float = 0.7
    sway: float = 1.0
    zero_star: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sampling needs at least one step, got {self.steps}")

    @cached_property
    def euler_steps(self) -> tuple[tuple[float, float], ...]:
        """(time, length) of each step, exact float32 values. Computed once per object.

        As in the published sampler, each time is the previous time minus the previous length, and each length
        is the time minus the next time of the schedule. For a sway of 0 or more this equals the schedule to
        the bit; for a negative sway the last bit can differ, and the time embedding multiplies times by 1000.
        """
        times = schedule(self.steps, self.sway)
        taken = []
        time, length = times[0], times[0] - times[1]
        for following in range(2, self.steps + 2):
            taken.append((time.item(), length.item()))
            time = time - length
            if following <= self.steps:
                length = time - times[following]
        return tuple(taken)

    @classmethod
    def paper(cls) -> Sampling:
        """The settings of the paper."""
        return cls()

    @classmethod
    def release(cls) -> Sampling:
        """The settings of the released command line."""
        return cls(temperature=0.3)

    @classmethod
    def puppet(cls) -> Sampling:
        """The settings of the embedded default: fewer steps, less noise, more guidance; see docs/log.md."""
        return cls(steps=5, temperature=0.6, guidance=3.0)


SAMPLINGS = {"paper": Sampling.paper(), "release": Sampling.release(), "puppet": Sampling.puppet()}


def schedule(steps: int, sway: float) -> Tensor:
    """Times (steps + 1,) from 1 to 0: t = u + sway (cos(pi u / 2) - 1 + u) over uniform u."""
    u = torch.linspace(1, 0, steps + 1)
    return u + sway * (torch.cos(math.pi / 2 * u) - 1 + u)


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
    for time, length in sampling.euler_steps[still:]:
        change = velocity(x, time).map(lambda v: v * -length)  # noqa: B023 - used at once
        x = x.zip(change, torch.add)
    return x
