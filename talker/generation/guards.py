"""Guards that end speech which the stop predictor does not end: after long silence, or after repetition.

They work on normalised audio latents, so nothing has to be decoded. The thresholds come with the weights
(`Defaults.guard`). Those of the default model were measured on 1,600 clips of the corpus (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from talker.clock import FRAME_RATE
from talker.model.defaults import GuardRule

LONGEST_PHRASE = 32  # tokens of the longest phrase that `repeated_tokens` finds


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Inputs of the guards.

    Args:
        quiet: (C,) normalised audio latent of digital silence.
        rule: the thresholds.
        repeated_seconds: additional repetition that is allowed because the text repeats ("ha ha ha").
    """

    quiet: Tensor
    rule: GuardRule = field(default_factory=GuardRule)
    repeated_seconds: float = 0.0

    def frames(self, seconds: float) -> int:
        """Convert a duration to frames, rounded."""
        return round(seconds * FRAME_RATE)


class GuardState:
    """State of the guards of one request: the last frames, and their distances to earlier frames."""

    def __init__(self, guard: Guard) -> None:
        """`guard`: the inputs."""
        self.guard, rule = guard, guard.rule
        shortest, longest = (guard.frames(seconds) for seconds in rule.periods_seconds)
        window = guard.frames(rule.window_seconds)
        # NaN marks missing frames. Comparisons with NaN are false, so an incomplete window never repeats.
        self._past = guard.quiet.new_full((longest, len(guard.quiet)), torch.nan)
        self._apart = guard.quiet.new_full((window, longest + 1 - shortest), torch.nan)
        self._loud = torch.zeros(window, dtype=torch.bool, device=guard.quiet.device)
        self._silent = self._repeating = 0

    def update(self, patch: Tensor) -> str | None:
        """Add the next audio patch (P, C). Returns "silence" or "repetition" if speech must end."""
        guard, size = self.guard, len(patch)
        periods = self._apart.shape[1]
        frames = torch.cat([self._past, patch])
        # The earlier frames that each new frame is compared with: (P, C, periods), longest period first.
        earlier = frames.unfold(0, len(self._past), 1)[:size, :, :periods]
        apart = (patch[..., None] - earlier).square().mean(1)
        loud = (patch - guard.quiet).square().mean(1) > guard.rule.near_quiet**2
        self._past = frames[size:]
        self._apart = torch.cat([self._apart, apart])[size:]
        self._loud = torch.cat([self._loud, loud])[size:]
        quiet_end = int((loud.flip(0).cumsum(0) == 0).sum())
        self._silent = self._silent + size if quiet_end == size else quiet_end
        if self._silent >= guard.frames(guard.rule.silent_seconds):
            return "silence"
        self._repeating = self._repeating + size if self._repeats() else 0
        return "repetition" if self._repeating > guard.frames(guard.repeated_seconds) else None

    def _repeats(self) -> bool:
        """Whether the last window repeats the window one period earlier. Silent frames are ignored."""
        loud = self._loud
        if 2 * loud.sum() < len(loud):
            return False
        return bool((self._apart[loud].mean(0) < self.guard.rule.alike**2).any())


def repeated_tokens(ids: Sequence[int]) -> int:
    """Number of tokens in the longest run of immediate repetitions of a phrase ("ha ha ha"); 0 if none."""
    longest = 0
    for period in range(1, min(LONGEST_PHRASE, len(ids) // 2) + 1):
        run = 0
        for before, token in zip(ids, ids[period:], strict=False):
            run = run + 1 if token == before else 0
            if run >= period:  # at least one whole repetition
                longest = max(longest, run + period)
    return longest
