"""Learning rates, training time, and which gradients are used: the numbers that steer a training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

SETTLED_STEPS = 50  # accepted steps after which the usual norm is known
MAX_NORM_RATIO = 100.0  # a gradient norm above this many usual norms is an explosion
MAX_SKIPPED_IN_A_ROW = 20


def constant(step: int) -> float:
    """Learning-rate factor 1 at every step."""
    return 1.0


def warmup_cosine(warmup: int, total: int, floor: float = 0.01) -> Callable[[int], float]:
    """Return a learning-rate factor that rises linearly and then follows a cosine.

    Step s, counted from 0, has factor (s + 1) / warmup for s < warmup, so that step warmup - 1 is the first
    one with factor 1. From there a cosine falls to `floor`, which it reaches at step `total`.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def warmup_linear_decay(warmup: int, total: int) -> Callable[[int], float]:
    """Return a learning-rate factor that rises linearly, stays at 1, and falls linearly over the last fifth.

    Until the fall begins the factor does not depend on `total`, so a run can be extended. The last step,
    total - 1, has factor 1 / (length of the fall); step `total` would have 0.
    """
    fall = max(1, total // 5)
    return lambda step: min(1.0, (step + 1) / warmup, (total - step) / fall)


class Stopwatch:
    """Training time of a run in seconds, summed over all its resumes."""

    def __init__(self) -> None:
        self.resume(0.0)

    def resume(self, earlier: float) -> None:
        """Continue from `earlier` seconds: the time that the checkpoint records."""
        self._earlier, self._started = earlier, time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time so far."""
        return self._earlier + time.monotonic() - self._started


class GradientGuard:
    """Decides from its norm whether a gradient is used, and counts the steps that were skipped.

    A norm is accepted if it is finite and, once `settled` steps have been accepted, at most MAX_NORM_RATIO
    times the usual norm. The usual norm is the geometric mean of all accepted norms for the first 2 *
    `settled` steps and an exponential average of their logarithms with weight 1 / (2 * `settled`) afterwards:
    one explosion among the first steps, which are all accepted, hardly changes it.
    """

    def __init__(self, settled: int = SETTLED_STEPS) -> None:
        self.settled = settled
        self.usual_norm = 0.0
        self.accepted = self.skipped = self.skipped_in_a_row = 0

    def accepts(self, norm: float) -> bool:
        """Whether a gradient of this norm may be used. Changes nothing."""
        is_settled = self.accepted >= self.settled
        return math.isfinite(norm) and not (is_settled and norm > MAX_NORM_RATIO * self.usual_norm > 0)

    def count(self, norm: float) -> bool:
        """Count a step whose gradient has this norm, accepted or skipped; returns whether it was accepted."""
        if not self.accepts(norm):
            self.skipped += 1
            self.skipped_in_a_row += 1
            return False
        if norm > 0:
            weight = max(1 / (self.accepted + 1), 1 / (2 * self.settled))
            self.usual_norm = norm**weight * (self.usual_norm or norm) ** (1 - weight)
        self.accepted += 1
        self.skipped_in_a_row = 0
        return True

    def resume(self, steps: int, skipped: int, usual_norm: float) -> None:
        """Continue after `steps` steps, `skipped` of them skipped; `usual_norm` 0 if it is not recorded."""
        self.accepted, self.skipped, self.usual_norm = steps - skipped, skipped, usual_norm
