"""What ends speech that the stop predictor did not: long silence, and going round in circles.

Both watch the normalised audio latents, so they work before anything is decoded and alike in every row of a
batch. Measured on 1,600 clips of the corpus with the default's codec (docs/log.md says what was seen).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from talker.clock import FRAME_RATE


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is allowed; distances are root mean squares over normalised channels.

    Args:
        quiet: (C,) the codec's latent of digital silence, normalised.
        near_quiet: a frame no further than this from it is silent.
        silent_seconds: so much in a row is too much.
        window_seconds: what is compared with what came one period before.
        periods_seconds: the shortest and the longest period that are looked for. Slow vowels resemble what
            came one or two frames before; a sound that hangs also has every longer period.
        alike: a window closer than this to the one a period before repeats it. Unrelated frames are about
            1.4 apart, two draws of the same half-learned patch about 0.7.
    """

    quiet: Tensor
    near_quiet: float = 0.5
    silent_seconds: float = 2.0
    window_seconds: float = 2.0
    periods_seconds: tuple[float, float] = (0.12, 2.0)
    alike: float = 0.75

    def frames(self, seconds: float) -> int:
        """A duration in frames."""
        return round(seconds * FRAME_RATE)


class Watch:
    """A guard's memory of one request: its last frames and how far each was from those before."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        shortest, longest = (guard.frames(seconds) for seconds in guard.periods_seconds)
        window = guard.frames(guard.window_seconds)
        # NaN is near to nothing: a window that is not there yet repeats nothing.
        self._past = guard.quiet.new_full((longest, len(guard.quiet)), torch.nan)
        self._apart = guard.quiet.new_full((window, longest + 1 - shortest), torch.nan)
        self._loud = torch.zeros(window, dtype=torch.bool, device=guard.quiet.device)
        self._silent = 0

    def see(self, patch: Tensor) -> str | None:
        """Take the next audio patch (P, C): None, or "silence" or "repetition" if it is to be the last."""
        guard, size = self.guard, len(patch)
        periods = self._apart.shape[1]
        frames = torch.cat([self._past, patch])
        # Before each new frame, (P, C, periods), the longest period first.
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
        return "repetition" if self._repeats() else None

    def _repeats(self) -> bool:
        """Whether the last window is like the one a period before; silence proves nothing."""
        loud = self._loud
        if 2 * loud.sum() < len(loud):
            return False
        return bool((self._apart[loud].mean(0) < self.guard.alike**2).any())
