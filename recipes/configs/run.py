"""What the run configs of recipes have in common; the rest of each stands at the top of its recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from recipes.launch import warmup_cosine


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Adam and its rate.

    Args:
        lr, betas, decay: of Adam, or AdamW where weights decay.
        warmup: steps of a linear rise; below 1 a share of all steps.
        schedule: after the warm-up a cosine to `floor` of the rate, or constant with a linear fall to nothing
            over the last fifth.
        clip: most norm of the gradient.
        ema: decay of the averaged weights, which are the ones exported.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.0
    warmup: float
    schedule: Literal["cosine", "fall"] = "cosine"
    floor: float = 0.01
    clip: float = 1.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        wrong = [f"{name} must be above 0" for name in ("lr", "clip") if not getattr(self, name) > 0]
        wrong += [f"{name} must be 0 or more" for name in ("decay", "warmup") if not getattr(self, name) >= 0]
        wrong += [f"{n} must lie between 0 and 1" for n in ("floor", "ema") if not 0 <= getattr(self, n) <= 1]
        if wrong:
            raise ValueError(f"optim.{', optim.'.join(wrong)}")

    def factor(self, steps: int) -> Callable[[int], float]:
        """Factor on the rate at each step of a training of `steps`."""
        warmup = max(1, round(self.warmup * steps) if self.warmup < 1 else int(self.warmup))
        if self.schedule == "cosine":
            return warmup_cosine(warmup, steps, self.floor)
        # Before the fall the rate does not depend on `steps`: a run may be given more of them.
        fall = max(1, steps // 5)
        return lambda step: min(1.0, (step + 1) / warmup, (steps - step) / fall)


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

    def __post_init__(self) -> None:
        counts = ("steps", "log_every", "validate_every", "rows", "people", "clips", "heldout")
        wrong = [name for name in counts if getattr(self, name, 1) < 1]
        if wrong:
            raise ValueError(f"{' and '.join(wrong)} must be 1 or more")
