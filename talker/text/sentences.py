"""Long text -> sentences that are short enough to be spoken at once."""

import re

from talker.errors import UserError
from talker.text import tables
from talker.text.language import check_english
from talker.text.markup import break_long_words, read_lines
from talker.text.spoken import NOTHING_TO_SAY, can_be_said, clean, name_of_symbol
from talker.text.written import UNIT_STOP, ends_sentence, is_street

_CHARACTERS_PER_SECOND = 15.0
_LONGEST_WORDS = 200  # characters at the end of a sentence that show whether it ends
_LONGEST_UNIT = 12  # characters, with digit and full stop
_BOUNDARY = re.compile(
    r"(?<=[.?!])(?=\s)|(?<=[.?!][\"')\]])(?=\s)|(?<=[.?!][\"')\]][\"')\]])(?=\s)"
    r"|(?<=[a-z][.?!])(?=[A-Z][a-z]+\b(?![.@]\w))"
)
_ABBREVIATION = re.compile(r"(?:^|[\s(\"'])((?:[A-Za-z]\.)+[A-Za-z]|[A-Za-z]+|Ph\.D)\.$")


def split_sentences(text: str, max_seconds: float = 12.0, force: bool = False) -> list[str]:
    """Split a text at sentence ends and line breaks, and long sentences at commas or between words.

    A full stop after an abbreviation or an initial, or inside a number, ends no sentence; a closing quote or
    bracket belongs to the sentence before it. Markup is dropped. The number of a list item is its first word.

    Args:
        text: English text of any length.
        max_seconds: the longest estimated speaking time of one part.
        force: read a text of another language by English rules, and drop letters of other scripts.

    Raises:
        UserError: the text has nothing to say, or is not English.
    """
    text = break_long_words(text)
    if not force:
        check_english(text)
    if name_of_symbol(text):
        return [text.strip()]
    sentences: list[str] = []
    lines = [clean(line, force) for line in read_lines(text) if _has_words(line, force)]
    for index, line in enumerate(lines):
        found = _sentences(line)
        if index < len(lines) - 1 and not re.search(r"[.?!][\"')\]]*$", found[-1]):
            found[-1] = found[-1].rstrip(",;: -") + "."
        for sentence in found:
            sentences += _split_long(sentence, max_seconds)
    if any(char.isalnum() for line in lines for char in line):
        sentences = [sentence for sentence in sentences if any(char.isalnum() for char in sentence)]
    if not sentences:
        raise UserError(NOTHING_TO_SAY)
    return sentences


def _has_words(line: str, force: bool) -> bool:
    try:
        return bool(clean(line, force))
    except UserError as error:
        if str(error) != NOTHING_TO_SAY:
            raise
        return False


def _sentences(line: str) -> list[str]:
    found: list[str] = []
    start = ""
    pieces = _BOUNDARY.split(line)
    for index, piece in enumerate(pieces):
        start += piece
        following = "".join(pieces[index + 1 : index + 5]).lstrip()
        if following and not _ends(start[-_LONGEST_WORDS:], following):
            continue
        if start.strip():
            found.append(start.strip())
        start = ""
    return found


def _ends(sentence: str, following: str) -> bool:
    """Whether a piece that ends with . ? or ! ends a sentence before the text `following`."""
    if following[:1].islower() or following[:1] in "=+*/×÷<>":
        return False
    if not can_be_said(sentence) or not any(char.isalnum() for char in sentence):
        return False
    match = _ABBREVIATION.search(sentence)
    if match is None:
        return True
    word = match[1].lower()
    if match[1] == "v" or (word == "dr" and not is_street(sentence[: match.start(1)])):
        return False
    if following[:1] == "-" and (word in tables.WEEKDAYS or word in tables.SHORT_MONTHS):
        return False
    unit = UNIT_STOP.search(sentence[-_LONGEST_UNIT:])
    if unit and unit.end() == len(sentence[-_LONGEST_UNIT:]):
        return not following[:1].isdigit()  # "5 lb. 3 oz."
    if word == "c" and re.search(r"\d(?:st|nd|rd|th) c\.$", sentence):  # "the 5th c. BC"
        return ends_sentence(following)
    digit = following[:1].isdigit() or re.match(r"[IVXL]{2,}\b", following) is not None
    if "." in word or (
        len(word) == 1
        and ((match[1].isupper() and match[1] != "I") or (word in tables.BEFORE_NUMBER and digit))
    ):
        return ends_sentence(following)
    if (word in tables.BEFORE_NUMBER or word in tables.WEEKDAYS) and digit:
        return False
    if word in tables.SHORT_MONTHS and match[1][0].isupper():
        return not digit and ends_sentence(following)
    if word == "etc":
        return True
    if word in ("st", "dr") and is_street(sentence[: match.start(1)]) and ends_sentence(following):
        return True
    if word in tables.TITLES and word != "v":
        named = word not in tables.BEFORE_NAME or match[1][0].isupper()
        return not named or (word in ("ft", "sec", "col", "mt", "gen", "st") and ends_sentence(following))
    if word in tables.ABBREVIATIONS and (following[:1] == "(" or (word in tables.AMBIGUOUS and digit)):
        return False
    if word in tables.ABBREVIATIONS and word not in tables.AMBIGUOUS:
        return ends_sentence(following)
    return True


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
