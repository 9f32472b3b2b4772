"""The values that the configs of all recipes share. Each recipe adds its own at the top of its file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from recipes.schedule import warmup_cosine, warmup_linear_decay


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimiser: Adam, or AdamW if `decay` is above 0, with its learning rate.

    Args:
        lr: learning rate after the warm-up.
        betas: decays of Adam's two moments.
        decay: weight decay.
        warmup: length of the linear rise in steps, or, below 1, as a share of all steps.
        schedule: "cosine" falls to `floor` times `lr` at the last step; "fall" stays at `lr` and falls
            linearly to nearly 0 over the last fifth of the steps.
        floor: see `schedule`.
        clip: gradients are scaled to at most this norm.
        ema: decay of the averaged weights, which are the ones that are exported.
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
        wrong += [f"{n} must be from 0 to 1" for n in ("floor", "ema") if not 0 <= getattr(self, n) <= 1]
        if wrong:
            raise ValueError(f"optim.{', optim.'.join(wrong)}")

    def factor(self, steps: int) -> Callable[[int], float]:
        """Return the learning-rate factor of each step, counted from 0, in a training of `steps` steps."""
        warmup = max(1, round(self.warmup * steps) if self.warmup < 1 else int(self.warmup))
        if self.schedule == "cosine":
            return warmup_cosine(warmup, steps, self.floor)
        return warmup_linear_decay(warmup, steps)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training.

    Args:
        steps: number of steps in all; the learning rate reaches its floor at the last one.
        seed: seed of the initial weights and of every random draw.
        optim: the optimiser.
        zero: stage of DeepSpeed's ZeRO: 1, 2 or 3; 0 is plain PyTorch.
        log_every: steps between two lines of losses in the log.
        validate_every: steps between two validations.
        save_seconds: seconds between two checkpoints.
    """

    steps: int
    seed: int = 0
    optim: Optim
    zero: Literal[0, 1, 2, 3] = 0
    log_every: int = 50
    validate_every: int = 250
    save_seconds: float = 120.0

    def __post_init__(self) -> None:
        counts = ("steps", "log_every", "validate_every", "rows", "people", "clips", "heldout")
        wrong = [name for name in counts if getattr(self, name, 1) < 1]
        if wrong:
            raise ValueError(f"{' and '.join(wrong)} must be 1 or more")
        if self.zero and (reason := self.without_zero()):
            raise ValueError(f"this recipe cannot run with zero={self.zero}, because {reason}: set zero=0")

    def without_zero(self) -> str:
        """Return why this training cannot run under DeepSpeed's ZeRO; empty if it can."""
        return ""
