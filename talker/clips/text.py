"""Splits texts into sentences, and cuts them to the room of a request."""

from __future__ import annotations

from talker.errors import UserError
from talker.system import System
from talker.text.sentences import split_sentences


def sentences_of(system: System, text: str, force: bool = False) -> tuple[str, ...]:
    """Split a text into sentences, without those that have no words.

    `force`: read a text of another language by English rules, and drop letters of other scripts.

    Raises:
        UserError: the text is empty, is not English, or cannot be spoken.
    """
    if not isinstance(text, str):
        raise UserError(f"the text is {text!r}: give it as a str")
    try:
        sentences = tuple(
            s for s in split_sentences(text, force=force) if system.generator.tokenizer.tokens(s)
        )
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"the text cannot be spoken: {error}") from error
    if not sentences:
        raise UserError("the text is empty: give at least one word")
    return sentences


def fit_text(system: System, text: str, task: str, frames: int, prefix_frames: int) -> str:
    """The longest start of a text, in whole words, that fits a request.

    Args:
        system: the networks.
        text: the text.
        task: name of the task.
        frames: number of given frames.
        prefix_frames: number of frames of the prefix.
    """
    words, longest = text.split(), system.generator.longest
    low, high = 0, len(words)  # bounds of the number of words that fit
    while low < high:
        middle = (low + high + 1) // 2
        fits = longest(" ".join(words[:middle]), task, prefix_frames) >= frames
        low, high = (middle, high) if fits else (low, middle - 1)
    return text if low == len(words) else " ".join(words[:low])


def text_weight(system: System, text: str) -> float:
    """Weight of a text in its share of the speech: the number of its tokens."""
    return float(len(system.generator.tokenizer.tokens(text)))
