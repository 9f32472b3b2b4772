"""Text normalisation: numbers, dates, money, abbreviations and symbols -> the words that a speaker says.

The result contains only English words, apostrophes, spaces and the marks , . ? !
"""

import re
import unicodedata

from talker.errors import UserError
from talker.text import tables
from talker.text.capitals import read_capitals, read_roman_numerals
from talker.text.language import check_script
from talker.text.markup import read_lines
from talker.text.numerals import read_numerals
from talker.text.written import read_abbreviations, read_addresses

NOTHING_TO_SAY = "nothing to say: the text has no letters or digits"

_MOST_EMOJI = 8  # a text of more has nothing to say
_PLAIN = str.maketrans(tables.PLAIN)
_FLAG = re.compile(rf"(?:[\U0001f1e6-\U0001f1ff]{{2}}){{1,{_MOST_EMOJI}}}")
_EMOTICON = re.compile(r"(?<!\S)(?:(?:[:;=][-'^o]?|8-)[)(\]\[DPpOo/|\\*]+|<3+|[xX]D+|\^_*\^)(?!\S)")
_SUPERSCRIPT = re.compile(rf"(?<=[\w)])[{''.join(tables.SUPERSCRIPTS)}]+")
_LATIN = re.compile(r"LATIN (SMALL|CAPITAL) LETTER ([A-Z])\b")


def clean(text: str, force: bool = False) -> str:
    """Convert a text to ASCII and the symbols of `tables.SYMBOLS`, in one line, without markup.

    Accents, emoji and invisible characters are removed, typographic quotes and dashes replaced.

    Args:
        text: the text.
        force: drop letters of other scripts instead of raising an error.

    Raises:
        UserError: the text has nothing to say, or contains letters of another script.
    """
    if not force:
        check_script(text)
    if name_of_symbol(text):
        return text.strip()
    lines = [_ascii(line) for line in read_lines(text)]
    lines = [line for line in lines if line]
    result = " ".join(line if re.search(r"[.?!,][\"')\]]*$", line) else f"{line}." for line in lines[:-1])
    result = f"{result} {lines[-1]}".strip() if lines else ""
    if not can_be_said(result):
        raise UserError(NOTHING_TO_SAY)
    return result


def name_of_symbol(text: str) -> str:
    """The name of a symbol or mark that is the whole text, or the names of a few emoji, or ""."""
    flags = _FLAG.fullmatch(re.sub(r"\s", "", text))
    if flags:
        return ", ".join(map(_flag, re.findall(r"..", flags[0])))
    chars = re.sub(r"[\s\u200d\ufe0f\U0001f3fb-\U0001f3ff]", "", text)  # without joiners and skin tones
    kinds = {unicodedata.category(char) for char in chars}
    if not (
        0 < len(chars) <= _MOST_EMOJI and (kinds == {"So"} or (len(chars) == 1 and min(kinds)[0] in "PS"))
    ):
        return ""
    return " ".join(tables.SYMBOLS.get(char) or unicodedata.name(char, "").lower() for char in chars)


def _flag(pair: str) -> str:
    """The name of a flag, which is two letters: "flag of France"."""
    code = "".join(chr(ord(char) - ord("\U0001f1e6") + ord("A")) for char in pair)
    return f"flag of {tables.FLAGS.get(code) or ' '.join(tables.LETTERS.get(one, one) for one in code)}"


def can_be_said(text: str) -> bool:
    """Whether a cleaned text has a letter, a digit, or only symbols with a name."""
    return _has_words(text) or any(char in tables.NAMED_ALONE for char in text)


def _has_words(text: str) -> bool:
    return re.search(r"[A-Za-z0-9]", text) is not None


def spoken(text: str) -> str:
    """The spoken form of an English text: words and the marks , . ? !, with a mark at the end.

    "Dr. Smith paid $3.50." -> "doctor Smith paid three dollars fifty cents."

    Raises:
        UserError: the text has nothing to say, or contains letters of another script.
    """
    text = clean(text)
    if name_of_symbol(text):
        return _punctuate(name_of_symbol(text))
    if not _has_words(text):
        return _punctuate(" ".join(tables.SYMBOLS.get(char, "") for char in text))
    text = _EMOTICON.sub(" ", text)
    text = read_addresses(text)
    text = read_roman_numerals(text)
    if not any(char.islower() for char in text):
        text = read_capitals(text)
    text = read_abbreviations(text)
    text = read_numerals(text)
    text = _name_symbols(text)
    text = read_capitals(text)
    return _punctuate(text)


def _ascii(text: str) -> str:
    text = re.sub(r"(?<![\d°.])(\d+(?:\.\d+)?)′(?!\s?\d)", r"\1 ft", text)
    text = re.sub(r"(?<![A-Za-z]\s)[Ⅰ-Ⅻⅰ-ⅻ]", lambda m: f"{unicodedata.numeric(m[0]):.0f}", text)
    text = _SUPERSCRIPT.sub(_superscript, text)
    kept: list[str] = []
    for char in unicodedata.normalize("NFKD", text.translate(_PLAIN)).translate(_PLAIN):
        if char.isascii():
            kept.append(char if char.isprintable() else " ")
        elif char in tables.SYMBOLS:
            kept.append(char)
        elif char.isdigit():
            kept.append(str(unicodedata.digit(char)))
        elif unicodedata.category(char)[0] == "L":
            kept.append(_letter(unicodedata.name(char, "")))
    return re.sub(r"\s+", " ", "".join(kept)).strip()


def _superscript(match: re.Match[str]) -> str:
    """ "x²" -> "x^2"; after a longer word it is the number of a footnote, which is dropped."""
    word = re.search(r"[^\W\d_]*$", match.string[: match.start()])
    return "" if word and len(word[0]) > 3 else "^" + "".join(tables.SUPERSCRIPTS[char] for char in match[0])


def _letter(name: str) -> str:
    """A plain form of a letter by its Unicode name: "LATIN SMALL LETTER H WITH STROKE" -> "h"."""
    latin = _LATIN.match(name)
    if latin:
        return latin[2].lower() if latin[1] == "SMALL" else latin[2]
    return f" {name.split()[3].lower()} " if name.startswith("GREEK") and len(name.split()) > 3 else ""


def _name_symbols(text: str) -> str:
    """Name the symbols that no rule has read."""
    text = re.sub(r"(?<=\w)\s*(?:→|⟶|➔|➜|->|=>)\s*(?=\w)", " to ", text)
    text = re.sub(r"[/\\|~_^*<>]", " ", text)
    return re.sub(
        r"[^A-Za-z\s.,?!:;()\[\]{}\"'-]", lambda match: f" {tables.SYMBOLS.get(match[0], '')} ", text
    )


def _punctuate(text: str) -> str:
    """Keep only words and , . ? !; each mark directly follows a word, and the text ends with . ? or !"""
    text = re.sub(r"\.{2,}|[;:()\[\]{}]|\s-+\s|-{2,}", ", ", text)
    text = re.sub(r"[^A-Za-z',.?!\s]", " ", text)
    text = re.sub(r"(?<![A-Za-z])'+|'+(?![A-Za-z])", " ", text)
    text = re.sub(r"\s*([,.?!])[\s,.?!]*", lambda m: _strongest(m[0]) + " ", text)
    text = re.sub(r"\s+", " ", text).strip(" ,")
    text = re.sub(r"^[,.?! ]+", "", text)
    return text if text.endswith((".", "?", "!")) else text + "."


def _strongest(marks: str) -> str:
    return next(mark for mark in "?!.," if mark in marks)
