"""Settings of the solver by name. Imports no PyTorch, so that the command can check its options at once."""

from __future__ import annotations

from dataclasses import dataclass


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
