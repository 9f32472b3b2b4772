"""End speech that the stop predictor does not end: long silence, and a sound or phrase that repeats itself.

Both guards look at normalised audio latents, so they work before anything is decoded. Thresholds were
measured on 1,600 clips of the corpus with the default's codec (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from talker.clock import FRAME_RATE

LONGEST_PHRASE = 32  # tokens; longer repetitions in a text are not looked for


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What ends a speech; distances are root mean squares over normalised channels.

    Args:
        quiet: (C,) the codec's latent of digital silence, normalised.
        near_quiet: a frame closer to it than this is silent.
        silent_seconds: consecutive silence that ends the speech.
        window_seconds: the window that is compared with the one a period before.
        periods_seconds: the shortest and the longest period compared. Slow vowels resemble the one or two
            frames before; a sound that hangs also has every longer period.
        alike: a window closer than this to the one a period before repeats it. Unrelated frames are about
            1.4 apart, two draws of the same half-learned patch about 0.7.
        repeated_seconds: repetition that the text itself asks for ("ha ha ha"), allowed beyond one window.
    """

    quiet: Tensor
    near_quiet: float = 0.5
    silent_seconds: float = 2.0
    window_seconds: float = 2.0
    periods_seconds: tuple[float, float] = (0.12, 2.0)
    alike: float = 0.75
    repeated_seconds: float = 0.0

    def frames(self, seconds: float) -> int:
        """A duration in frames."""
        return round(seconds * FRAME_RATE)


class Watch:
    """A guard's state for one request: its last frames and their distances to those before."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        shortest, longest = (guard.frames(seconds) for seconds in guard.periods_seconds)
        window = guard.frames(guard.window_seconds)
        # A distance to NaN compares as false: a window that is not complete repeats nothing.
        self._past = guard.quiet.new_full((longest, len(guard.quiet)), torch.nan)
        self._apart = guard.quiet.new_full((window, longest + 1 - shortest), torch.nan)
        self._loud = torch.zeros(window, dtype=torch.bool, device=guard.quiet.device)
        self._silent = self._repeating = 0

    def see(self, patch: Tensor) -> str | None:
        """Take the next audio patch (P, C); "silence" or "repetition" if the speech should end with it."""
        guard, size = self.guard, len(patch)
        periods = self._apart.shape[1]
        frames = torch.cat([self._past, patch])
        # The frames before each new one, (P, C, periods), the longest period first.
        earlier = frames.unfold(0, len(self._past), 1)[:size, :, :periods]
        apart = (patch[..., None] - earlier).square().mean(1)
        loud = (patch - guard.quiet).square().mean(1) > guard.near_quiet**2
        self._past = frames[size:]
        self._apart = torch.cat([self._apart, apart])[size:]
        self._loud = torch.cat([self._loud, loud])[size:]
        quiet_end = int((loud.flip(0).cumsum(0) == 0).sum())
        self._silent = self._silent + size if quiet_end == size else quiet_end
        if self._silent >= guard.frames(guard.silent_seconds):
            return "silence"
        self._repeating = self._repeating + size if self._repeats() else 0
        return "repetition" if self._repeating > guard.frames(guard.repeated_seconds) else None

    def _repeats(self) -> bool:
        """Whether the last window is like the one a period before; silent frames do not count."""
        loud = self._loud
        if 2 * loud.sum() < len(loud):
            return False
        return bool((self._apart[loud].mean(0) < self.guard.alike**2).any())


def repeated_tokens(ids: Sequence[int]) -> int:
    """Tokens in the longest stretch of a text that repeats a phrase immediately ("ha ha ha"); 0 for none."""
    longest = 0
    for period in range(1, min(LONGEST_PHRASE, len(ids) // 2) + 1):
        run = 0
        for before, token in zip(ids, ids[period:], strict=False):
            run = run + 1 if token == before else 0
            if run >= period:  # at least one whole repetition
                longest = max(longest, run + period)
    return longest
