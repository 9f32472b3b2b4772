"""Splits text that arrives in pieces, such as the words of a language model, into parts to be spoken."""

from __future__ import annotations

import math
import re

from talker.errors import UserError
from talker.text.sentences import split_sentences

COMMA_WORDS = 8  # words before a comma that ends a part
LONGEST_PART = 400  # characters; longer parts end at the next word
_WORD = re.compile(r"\s*+(\S++)\s")  # complete, because a space follows
_END = re.compile(r"[.?!][\"')\]]{0,2}$")


class LiveText:
    """Splits arriving text into parts that are spoken as soon as they are complete.

    A part ends where `split_sentences` ends a sentence, at a comma after COMMA_WORDS words, after
    LONGEST_PART characters, and at `commit`. The end of a sentence is found when the following word is
    complete. The parts do not depend on how the text is divided into pieces.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._scanned = 0  # characters of the rest whose words have been looked at

    def append(self, text: str) -> list[str]:
        """Add a piece of text, and return the parts that are complete now."""
        self._rest += text
        parts = []
        while (word := _WORD.match(self._rest, self._scanned)) is not None:
            self._scanned = word.end(1)
            if _ends(self._rest[: word.start(1)], word[1]):
                parts.append(self._cut(word.start(1)))
            comma = word[1].endswith(",") and len(self._rest[: self._scanned].split()) >= COMMA_WORDS
            if comma or self._scanned > LONGEST_PART:
                parts.append(self._cut(self._scanned))
        return parts

    def commit(self) -> list[str]:
        """Return the rest of the text as a part, if it has words."""
        rest = self._cut(len(self._rest))
        return [rest] if any(char.isalnum() for char in rest) else []

    def _cut(self, end: int) -> str:
        part, self._rest = self._rest[:end], self._rest[end:]
        self._scanned = max(0, self._scanned - end)
        return part.strip()


def _ends(text: str, following: str) -> bool:
    """Whether a sentence ends between `text` and the word `following`."""
    words = text.rstrip()
    if not _END.search(words[-3:]) and "\n" not in text[len(words) :]:
        return False
    return _count(text + following) > _count(text) > 0


def _count(text: str) -> int:
    """Number of sentences."""
    try:
        return len(split_sentences(text, math.inf, force=True))
    except UserError:  # without words
        return 0
