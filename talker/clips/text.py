"""Texts as sentences, and as much of a text as there is room for."""

from __future__ import annotations

from talker.errors import UserError
from talker.system import System
from talker.text.sentences import split_sentences


def sentences_of(system: System, text: str) -> tuple[str, ...]:
    """The sentences of a text that have something to speak.

    Raises:
        UserError: there is nothing that can be spoken.
    """
    try:
        sentences = tuple(s for s in split_sentences(text) if system.generator.tokenizer.encode(s))
    except ValueError as error:
        raise UserError(f"the text cannot be spoken: {error}") from error
    if not sentences:
        raise UserError("the text is empty: give at least one word")
    return sentences


def fitting(system: System, text: str, task: str, frames: int, prefix_frames: int) -> str:
    """As many words of a text as there is room for beside given frames."""
    words, longest = text.split(), system.generator.longest
    low, high = 0, len(words)  # so many words fit; so many may
    while low < high:
        middle = (low + high + 1) // 2
        fits = longest(" ".join(words[:middle]), task, prefix_frames) >= frames
        low, high = (middle, high) if fits else (low, middle - 1)
    return text if low == len(words) else " ".join(words[:low])


def weight(system: System, text: str) -> float:
    """How much of the speech a text takes, relative to other texts."""
    return float(len(system.generator.tokenizer.encode(text)))
