"""Long text -> sentences that are short enough to be spoken at once."""

import re

from talker.errors import UserError
from talker.text.spoken import NOTHING_TO_SAY, clean

_CHARACTERS_PER_SECOND = 15.0
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|approx|Gen|Sgt|Capt|Rev|Hon|Mt|No|Fig)"
    r"|\b(?:Inc|Ltd|Corp|Co|e\.g|i\.e|a\.m|p\.m)"
    r"|\b[A-Z]|\b(?:[A-Z]\.)+[A-Z])\.$"
)


def split_sentences(text: str, max_seconds: float = 12.0) -> list[str]:
    """Split a text at sentence ends, and long sentences at commas or between words.

    A full stop after an abbreviation or an initial, or inside a number, ends no sentence; a closing quote
    belongs to the sentence before it.

    Args:
        text: English text of any length; blank lines separate paragraphs.
        max_seconds: the longest estimated speaking time of one part.

    Raises:
        UserError: the text has no letters or digits, or contains letters of another script.
    """
    sentences: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if not any(char.isalnum() for char in paragraph):
            continue
        start = ""
        pieces = re.split(r"(?<=[.?!])(?=\s)|(?<=[.?!][\"')\]])(?=\s)", clean(paragraph))
        for piece, following in zip(pieces, [*(p.strip() for p in pieces[1:]), ""], strict=True):
            start += piece
            if not _ABBREVIATION.search(start) and not following[:1].islower():
                sentences += _split_long(start.strip(), max_seconds)
                start = ""
        sentences += _split_long(start.strip(), max_seconds)
    sentences = [sentence for sentence in sentences if any(char.isalnum() for char in sentence)]
    if not sentences:
        clean(text)  # raises the more precise error where there is one
        raise UserError(NOTHING_TO_SAY)
    return sentences


def _speaking_seconds(sentence: str) -> float:
    # A spoken digit takes about five times as long as a letter.
    return (len(sentence) + 4 * sum(char.isdigit() for char in sentence)) / _CHARACTERS_PER_SECOND


def _split_long(sentence: str, max_seconds: float) -> list[str]:
    """Halve a sentence, near its middle, until no part takes longer than `max_seconds`.

    Cuts are made at commas, semicolons and colons; without any, at spaces; without any, inside the word.
    """
    if _speaking_seconds(sentence) <= max_seconds:
        return [sentence] if sentence else []
    cuts = [m.end() for m in re.finditer(r"[,;:](?=\s)", sentence)] or [
        m.start() for m in re.finditer(r"\s", sentence)
    ]
    if not cuts:
        cuts = [len(sentence) // 2]
    cut = min(cuts, key=lambda c: abs(c - len(sentence) / 2))
    return _split_long(sentence[:cut].strip(), max_seconds) + _split_long(sentence[cut:].strip(), max_seconds)
