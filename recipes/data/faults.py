"""Why a clip cannot be trained on: what preparation leaves out is what validation looks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recipes.data.transcript import Cue, text_of
from talker.clock import FRAME_RATE
from talker.media.sound import FRAME, SPEECH_LEVEL
from talker.text.tokenizer import Tokenizer

LATEST = 1.0  # seconds by which the last word may outlast the clip
FASTEST, SLOWEST = 0.03, 1.0  # seconds a token
LARGEST = 1e3
AUDIBLE = SPEECH_LEVEL * 10 ** (-25 / 20)  # root mean square; latents of softer speech are near silence's
LEAST_AUDIBLE = 0.25  # share of a clip's frames


def words_fault(cues: Sequence[Cue], frames: int, tokenizer: Tokenizer) -> str | None:
    """What is wrong with a clip's words or their times, as "reason: detail"; None if nothing is."""
    seconds, text = frames / FRAME_RATE, text_of(cues)
    for cue in cues:
        if not (0 <= cue.start <= min(cue.end, seconds) and cue.end <= seconds + LATEST):
            return f"words outside of the clip: {cue.start:.2f} to {cue.end:.2f} s of {seconds:.2f} s"
    try:
        tokens = len(tokenizer.encode(text))
    except ValueError as error:
        return f"text outside the tokenizer: {error}"
    if not FASTEST <= seconds / tokens <= SLOWEST:
        return f"text does not fit its sound: {len(text)} letters in {seconds:.1f} s"
    return None


def values_fault(name: str, array: NDArray[Any]) -> str | None:
    """What is wrong with the values of one member of a clip, in the same way."""
    if np.isfinite(array).all() and np.abs(array).max(initial=0) <= LARGEST:
        return None
    return f"not finite or beyond {LARGEST:g}: {name}"


def silent(pcm: Tensor) -> bool:
    """Whether samples (N,) at 24 kHz are hardly louder than silence, but for a small part."""
    frames = F.pad(pcm, (0, -len(pcm) % FRAME)).view(-1, FRAME)
    audible = frames.square().mean(1).sqrt() > AUDIBLE
    return int(audible.sum()) < LEAST_AUDIBLE * len(audible) or not len(audible)
