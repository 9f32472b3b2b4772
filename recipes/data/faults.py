"""Reasons why a clip cannot be used for training; preparation leaves such clips out, validation reports them.

A fault is a string "reason: detail" or "reason"; the report counts clips by the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recipes.data.transcript import Cue, text_of
from talker.clock import FRAME_RATE, HOP
from talker.media.loudness import SPEECH_LEVEL
from talker.text.language import foreign_letters, latin_language
from talker.text.tokenizer import Tokenizer

LATEST = 1.0  # seconds by which the last word may end after the clip
FASTEST, SLOWEST = 0.03, 1.0  # seconds per token
LARGEST = 1e3  # absolute value of a latent
# Root mean square of audible speech; the latents of softer speech are close to those of silence.
AUDIBLE = SPEECH_LEVEL * 10 ** (-25 / 20)
LEAST_AUDIBLE = 0.25  # share of a clip's frames
LEAST_WORDS = 4  # of a text whose language is recognised; "Bonjour" alone can be part of an English sentence


def words_fault(cues: Sequence[Cue], frames: int, tokenizer: Tokenizer) -> str | None:
    """The fault of a clip's transcript or its times, or None.

    Args:
        cues: the transcript, with times in seconds of the clip.
        frames: length of the clip.
        tokenizer: must be able to encode the text.
    """
    seconds, text = frames / FRAME_RATE, text_of(cues)
    for cue in cues:
        if not (0 <= cue.start <= min(cue.end, seconds) and cue.end <= seconds + LATEST):
            return f"words outside of the clip: {cue.start:.2f} to {cue.end:.2f} s of {seconds:.2f} s"
    try:
        tokens = len(tokenizer.encode(text))
    except ValueError as error:
        return f"text outside the tokenizer: {foreign_letters(text) or error}"
    if not FASTEST <= seconds / tokens <= SLOWEST:
        return f"text does not fit its sound: {len(text)} letters in {seconds:.1f} s"
    language = foreign(text)
    return f"text is not English: {language}" if language else None


def foreign(text: str) -> str | None:
    """The script or language of a text that is not English: "Cyrillic letters ('мир')", "French", or None."""
    letters = foreign_letters(text)
    if letters or len(text.split()) < LEAST_WORDS:
        return letters
    return latin_language(text)


def values_fault(name: str, array: NDArray[Any]) -> str | None:
    """The fault of the values of one array of a clip, or None; `name` is the array's name in the message."""
    if np.isfinite(array).all() and np.abs(array).max(initial=0) <= LARGEST:
        return None
    return f"not finite or beyond {LARGEST:g}: {name}"


def silent(pcm: Tensor) -> bool:
    """Whether samples (N,) at 24 kHz are audible in less than LEAST_AUDIBLE of their frames."""
    frames = F.pad(pcm, (0, -len(pcm) % HOP)).view(-1, HOP)
    audible = frames.square().mean(1).sqrt() > AUDIBLE
    return int(audible.sum()) < LEAST_AUDIBLE * len(audible) or not len(audible)
