"""Text normalisation: numbers, dates, money, abbreviations and symbols -> the words that a speaker says.

The result contains only English words, apostrophes, spaces and the marks , . ? !
"""

import re
import unicodedata

from talker.errors import UserError
from talker.text.numbers import digits, ordinal, read_numbers

NOTHING_TO_SAY = "nothing to say: the text has no letters or digits"

_PLAIN = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "ʼ": "'", "`": "'", "´": "'"}
    | {"–": "-", "‐": "-", "‑": "-", "−": "-", "—": " - ", "…": "... ", "\u00a0": " ", "\u200b": ""}
    | {"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L"}
    | {"đ": "d", "Đ": "D", "ð": "d", "þ": "th", "Þ": "Th", "ı": "i", "°": " degrees "}
)
_TITLES = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor", "st": "saint",
    "jr": "junior", "sr": "senior", "vs": "versus", "etc": "et cetera", "approx": "approximately",
    "dept": "department", "no": "number", "gen": "general", "sgt": "sergeant", "capt": "captain",
    "rev": "reverend", "hon": "honorable", "mt": "mount", "ave": "avenue", "inc": "incorporated",
    "ltd": "limited", "corp": "corporation", "co": "company", "fig": "figure", "jan": "january",
    "feb": "february", "aug": "august", "sept": "september", "oct": "october", "nov": "november",
    "dec": "december",
}  # fmt: skip
# These are also ordinary words: they are abbreviations only before a digit or a capital letter.
_AMBIGUOUS = dict.fromkeys(("no", "fig"), r"\d") | dict.fromkeys(
    ("gen", "rev", "hon", "st", "mt", "co"), "[A-Z]"
)
_UNITS = {
    "km/h": "kilometers an hour", "mph": "miles an hour", "km": "kilometers", "cm": "centimeters",
    "mm": "millimeters", "kg": "kilograms", "mg": "milligrams", "lb": "pounds", "lbs": "pounds",
    "oz": "ounces",
    "ft": "feet", "ml": "milliliters", "gb": "gigabytes", "mb": "megabytes", "hz": "hertz",
    "khz": "kilohertz",
    "min": "minutes", "sec": "seconds",
}  # fmt: skip
_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DECADES = (
    "", "", "twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties",
)  # fmt: skip
_FRACTIONS = {"1/2": "one half", "1/4": "one quarter", "3/4": "three quarters", "1/3": "one third"}
_LETTERS = {"A": "eh", "E": "ee", "I": "eye", "O": "oh"}
_SYMBOLS = {"&": " and ", "%": " percent ", "+": " plus ", "=": " equals ", "@": " at ", "#": " number "}
_ACRONYMS = {  # pronounced as words, not letter by letter
    "NASA", "NATO", "UNESCO", "UNICEF", "AIDS", "LASER", "RADAR", "SCUBA", "PIN", "SIM", "ASAP",
}  # fmt: skip


def clean(text: str) -> str:
    """Convert a text to ASCII: remove accents and emoji, replace typographic quotes and dashes.

    The currency signs € £ ¥ are kept.

    Raises:
        UserError: the text has no letters or digits, or contains letters of another script.
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN)).replace("\u2044", "/")
    kept: list[str] = []
    for char in decomposed:
        if char.isascii():
            kept.append(char if char.isprintable() else " ")
        elif char in "€£¥":
            kept.append(char)
        elif unicodedata.category(char)[0] == "L" or char.isdigit():
            script = unicodedata.name(char, "an unknown script").split()[0].title()
            raise UserError(
                f"only English text in the Latin alphabet can be spoken, but it contains {char!r} ({script})"
            )
    result = re.sub(r"\s+", " ", "".join(kept)).strip()
    if not any(char.isalnum() for char in result):
        raise UserError(NOTHING_TO_SAY)
    return result


def spoken(text: str) -> str:
    """The spoken form of an English text: words and the marks , . ? !, with a mark at the end.

    "Dr. Smith paid $3.50." -> "doctor Smith paid three dollars fifty cents."

    Raises:
        UserError: the text has no letters or digits, or contains letters of another script.
    """
    text = clean(text)
    if text.isupper() and len(text) > 6:
        text = text.lower()
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    text = _expand(text)
    text = read_numbers(text)
    text = re.sub(r"\b(?!OK\b)([A-Z]{2,5})('?s)?\b", _spell, text)
    text = re.sub(r"\bOK\b", "okay", text)
    return _punctuate(text)


def _expand(text: str) -> str:
    """Replace abbreviations, units, dates and codes by words; the remaining digits are plain numbers."""
    text = re.sub(r"\bhttps?://(www\.)?|\bwww\.", "", text)
    text = re.sub(r"(?<=\d)\s?([AaPp])\.?[Mm]\b(\.(?=\s+[A-Z]|$))?\.?", _half_day, text)
    text = re.sub(r"\be\.g\.,?", "for example", text)
    text = re.sub(r"\bi\.e\.,?", "that is", text)
    text = re.sub(r"\bPh\.?D\b\.?", "PHD", text)
    text = re.sub(r"\b(?:[A-Z]\.){2,}(\s+[A-Z]|$)?", _initials, text)
    text = re.sub(r"(?<=[A-Za-z0-9])\.(?=[A-Za-z]{2,}\b)", " dot ", text)
    text = re.sub(r"\b([A-Za-z]+)\.(?=\s|,|$)", lambda m: _title(m, text), text)
    text = re.sub(rf"\b({_MONTH}) (\d{{1,2}})\b(?![\d:])", lambda m: f"{m[1]} {ordinal(int(m[2]))}", text)
    text = re.sub(r"\b\d/\d\b", lambda m: _FRACTIONS.get(m[0], m[0].replace("/", " over ")), text)
    text = re.sub(r"\b([12]\d)?([2-9])0'?s\b", lambda m: f"{m[1] or ''} {_DECADES[int(m[2])]}", text)
    text = re.sub(r"(?<=\d)\s?(km/h|[A-Za-z]{2,3})\b", _unit, text)
    text = re.sub(r"\b(\d{3})-(\d{4})\b", lambda m: f"{digits(m[1])}, {digits(m[2])}", text)
    text = re.sub(r"(?<=\d)-(?=\d)", " to ", text)
    text = re.sub(r"(?<!\S)-(?=[$€£]?\d)", "minus ", text)
    text = re.sub(r"(\d)(?!st\b|nd\b|rd\b|th\b)([A-Za-z])", r"\1 \2", text)
    return re.sub(r"([A-Za-z])(\d)", r"\1 \2", text)


def _half_day(match: re.Match[str]) -> str:
    return f" {'eh' if match[1] in 'aA' else 'P'} em" + ("." if match[2] else "")


def _initials(match: re.Match[str]) -> str:
    letters, after = match[0].replace(".", "").strip(), match[1] or ""
    return (
        letters[: -1 if after.strip() else None] + ("." if match[1] is not None and not after else "") + after
    )


def _unit(match: re.Match[str]) -> str:
    unit = _UNITS.get(match[1].lower())
    return f" {unit}" if unit else match[0]


def _title(match: re.Match[str], text: str) -> str:
    word, after = match[1].lower(), text[match.end() :].lstrip()
    if word == "st" and not re.match(_AMBIGUOUS[word], after):
        return "street" if after else "street."
    if word not in _TITLES or (word in _AMBIGUOUS and not re.match(_AMBIGUOUS[word], after)):
        return match[0]
    return _TITLES[word] if after else _TITLES[word] + "."


def _spell(match: re.Match[str]) -> str:
    if match[1] in _ACRONYMS:
        return match[0].lower()
    letters = " ".join(_LETTERS.get(letter, letter) for letter in match[1])
    return letters + (match[2] or "")


def _punctuate(text: str) -> str:
    """Keep only words and , . ? !; each mark directly follows a word, and the text ends with . ? or !"""
    text = re.sub(r"\.{2,}|[;:()\[\]{}]|\s-+\s", ", ", text)
    text = re.sub(r"[^A-Za-z',.?!\s]", " ", text)
    text = re.sub(r"(?<![A-Za-z])'+|'+(?![A-Za-z])", " ", text)
    text = re.sub(r"\s*([,.?!])[\s,.?!]*", lambda m: _strongest(m[0]) + " ", text)
    text = re.sub(r"\s+", " ", text).strip(" ,")
    text = re.sub(r"^[,.?! ]+", "", text)
    return text if text.endswith((".", "?", "!")) else text + "."


def _strongest(marks: str) -> str:
    return next(mark for mark in "?!.," if mark in marks)
