"""What the run configs of recipes have in common; the rest of each stands at the top of its recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recipes.launch import warmup_cosine


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Adam and its rate.

    Args:
        rate, betas, decay: of Adam, or AdamW where weights decay.
        warmup: steps of a linear rise; after them a cosine.
        floor: share of the rate that is left at the last step.
        ema: decay of the averaged weights, which are the ones exported.
    """

    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.0
    warmup: int
    floor: float = 0.01
    ema: float = 0.999

    def factor(self, steps: int) -> Callable[[int], float]:
        """Factor on the rate at each step of a training of `steps`."""
        return warmup_cosine(self.warmup, steps, self.floor)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training.

    Args:
        steps: how many in all; the rate reaches its floor at the last.
        seed: of the first weights and of every draw.
        optim: see there.
        log_every, validate_every: steps.
        save_seconds: between checkpoints.
    """

    steps: int
    seed: int = 0
    optim: Optim
    log_every: int = 50
    validate_every: int = 250
    save_seconds: float = 120.0
