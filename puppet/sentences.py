"""Deterministic random English sentences from a template grammar and from word salad, in two splits."""

import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np

from puppet.words import article, common_words, gerund, lexicon, lines, past, plural, templates, third

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
_HELDOUT_SHARE = 20  # one sentence in 20 is held out


def split_of(text: str) -> Split:
    """Return the split of a sentence: a hash of its letters and digits, without case, marks and spaces."""
    letters = "".join(char for char in text.lower() if char.isalnum())
    return "heldout" if zlib.crc32(letters.encode()) % _HELDOUT_SHARE == 0 else "train"


def sentence(split: Split, index: int) -> str:
    """Return text `index` of a split: one sentence, sometimes followed by more. It is the same on every call.

    Every sentence of the text belongs to the split, so that no sentence occurs in both splits.

    Raises ValueError for an unknown split or a negative index.
    """
    return _draw_text(split, index, 0x5E17, _Draw.sentence)


def text(split: Split, index: int) -> str:
    """Return text `index` of a split of the default corpus: from one word to three long sentences.

    Otherwise as `sentence`, which has fewer kinds of text.
    """
    return _draw_text(split, index, 0x7E87, _Draw.line)


def _draw_text(split: Split, index: int, salt: int, sentence: Callable[["_Draw"], str]) -> str:
    if split not in SPLITS or index < 0:
        raise ValueError(
            f"no sentence {index} in split {split!r}: the splits are {', '.join(SPLITS)}, indices start at 0"
        )
    draw = _Draw(np.random.default_rng([index, SPLITS.index(split), salt]))
    while True:
        text = sentence(draw)
        wanted = split_of(text) == split
        while draw.chance(_ANOTHER_SHARE) and len(text) < _LONGEST:
            following = sentence(draw)
            while wanted and split_of(following) != split:
                following = sentence(draw)
            text += " " + following
        if wanted:
            return text


_SALAD_SHARE = 0.4
# Kinds of text of `text`, with their shares: sections of lines.txt, and the two of templates.txt.
_KINDS = {"short": 0.2, "talk": 0.3, "long": 0.07, "sentences": 0.26, "salad": 0.17}
_ANOTHER_SHARE = 0.12  # probability of one more sentence
_LONGEST = 90  # characters (about 6 s); a text of this length gets no further sentence


class _Draw:
    """Random phrases from one generator. The methods return a phrase of the kind that they name."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def pick(self, words: tuple[str, ...]) -> str:
        return words[int(self.rng.integers(len(words)))]

    def word(self, kind: str) -> str:
        return self.pick(lexicon()[kind])

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def sentence(self) -> str:
        sentences, salad = templates()
        return self.expand(self.pick(salad if self.chance(_SALAD_SHARE) else sentences))

    def line(self) -> str:
        sentences, salad = templates()
        kind = self.pick(tuple(_KINDS))
        while not self.chance(_KINDS[kind] / max(_KINDS.values())):
            kind = self.pick(tuple(_KINDS))
        return self.expand(self.pick((lines() | {"sentences": sentences, "salad": salad})[kind]))

    def expand(self, template: str) -> str:
        """Fill the slots of a template."""
        parts: list[str] = []
        for piece in template.replace("{", "\0{").replace("}", "}\0").split("\0"):
            parts.append(self.fill(piece[1:-1].removesuffix("2")) if piece.startswith("{") else piece)
        text = "".join(parts)
        starts = [0] + [i + 2 for i in range(len(text) - 2) if text[i] in ".?!" and text[i + 1] == " "]
        for start in starts:
            text = text[:start] + text[start].upper() + text[start + 1 :]
        return text

    def fill(self, slot: str) -> str:
        phrase = _SLOTS.get(slot)
        if phrase is None:
            raise AssertionError(f"assets/templates.txt has an unknown slot {slot}")
        return phrase(self)

    def noun(self) -> str:
        return self.word(("thing", "thing", "animal", "person", "food")[self.number(0, 4)])

    def noun_phrase(self) -> str:
        noun = self.noun()
        if self.chance(0.45):
            noun = f"{self.word('adjective')} {noun}"
        if self.chance(0.25):
            return article(noun)
        return f"{self.word('determiner')} {noun}"

    def object(self) -> str:
        kind = self.number(0, 9)
        if kind == 0:
            return self.pick(("it", "them", "him", "her", "us", "me", "something", "everything", "nothing"))
        if kind == 1:
            return self.word("mass")
        if kind == 2:
            return self.word("first")
        if kind == 3:
            return f"{self.word('spelled')} {self.word('adjective')} {plural(self.noun())}"
        if kind == 4:
            return f"{self.word('first')}'s {self.noun()}"
        return self.noun_phrase()

    def subject(self) -> str:
        kind = self.number(0, 9)
        if kind <= 1:
            return self.pick(("he", "she", "they", "we", "you", "I", "it", "somebody", "everyone", "nobody"))
        if kind <= 3:
            return self.word("first")
        if kind == 4:
            return f"{self.pick(('my', 'your', 'his', 'her', 'our'))} {self.word('person')}"
        if kind == 5:
            return f"{self.word('first')} {self.word('last')}"
        return self.noun_phrase()

    def place_phrase(self) -> str:
        if self.chance(0.25):
            return f"in {self.word('place')}"
        if self.chance(0.25):
            return f"in the {self.word('room')}"
        return f"{self.word('preposition')} the {self.word('thing')}"

    def was_or_were(self) -> str:
        if self.chance(0.5):
            return f"was {article(self.word('adjective') + ' ' + self.noun())}"
        return f"were {self.word('spelled')} {plural(self.noun())}"

    def count(self) -> str:
        return str(self.number(2, 99)) if self.chance(0.5) else self.word("spelled")

    def figure(self) -> str:
        return str(self.number(2, 100) if self.chance(0.6) else self.number(101, 9999))

    def money(self) -> str:
        return (
            str(self.number(1, 999))
            if self.chance(0.5)
            else f"{self.number(1, 99)}.{self.number(1, 19) * 5:02d}"
        )

    def clock(self) -> str:
        return (
            f"{self.number(1, 12)}:{self.number(1, 11) * 5:02d}"
            if self.chance(0.7)
            else f"{self.number(1, 12)} o'clock"
        )

    def ordinal(self) -> str:
        number = self.number(1, 31)
        ending = "th" if 11 <= number <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        return f"{number}{ending}"

    def total(self) -> str:
        first, second = self.number(1, 99), self.number(1, 99)
        return f"{first} plus {second} is {first + second}"

    def phone(self) -> str:
        return f"{self.number(200, 999)}-{self.number(1000, 9999)}"


_SLOTS: dict[str, Callable[[_Draw], str]] = {
    "S": _Draw.subject,
    "O": _Draw.object,
    "P": lambda d: past(d.word("transitive")),
    "V": lambda d: d.word("transitive"),
    "T": lambda d: d.word("time"),
    "T3": lambda d: third(d.word("transitive")),
    "t": lambda d: d.word("time"),
    "G": lambda d: gerund(d.word("transitive")),
    "I": lambda d: past(d.word("intransitive")),
    "I0": lambda d: f"we {d.word('intransitive')}",
    "PP": _Draw.place_phrase,
    "ADV": lambda d: d.word("adverb"),
    "DEG": lambda d: d.word("degree"),
    "A": lambda d: d.word("adjective"),
    "AN": lambda d: article(d.word("adjective")),
    "N": _Draw.noun,
    "PLURALS": lambda d: plural(d.noun()),
    "MASS": lambda d: d.word("mass"),
    "PERSON": lambda d: d.word("person"),
    "NAME": lambda d: d.word("first"),
    "LAST": lambda d: d.word("last"),
    "PLACE": lambda d: d.word("place"),
    "WEEKDAY": lambda d: d.word("weekday"),
    "MONTH": lambda d: d.word("month"),
    "WERE": _Draw.was_or_were,
    "COUNT": _Draw.count,
    "NUM": _Draw.figure,
    "SUM": _Draw.total,
    "MONEY": _Draw.money,
    "DAY": lambda d: str(d.number(1, 28)),
    "YEAR": lambda d: str(d.number(1600, 2060)),
    "CLOCK": _Draw.clock,
    "PERCENT": lambda d: str(d.number(2, 99)),
    "PHONE": _Draw.phone,
    "ORD": _Draw.ordinal,
    "UNITS": lambda d: plural(
        d.pick(("mile", "foot", "inch", "meter", "hour", "minute", "day", "step", "page"))
    ),
    "SPELLED": lambda d: d.word("spelled"),
    "DIGITS": lambda d: " ".join(str(d.number(0, 9)) for _ in range(d.number(3, 6))),
    "DAYTIME": lambda d: d.pick(("morning", "afternoon", "evening", "night")),
    "C": lambda d: d.pick(common_words()),
}
