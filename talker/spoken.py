"""What is written -> the words that are said: numbers, dates, money, abbreviations, symbols, accents.

The result holds plain English words, apostrophes, spaces and , . ? ! only. Digits are read by gruut; the rules here
cover what it misreads (tried one by one; see tests/talker/test_text.py).
"""

import re
import unicodedata

_PLAIN = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "ʼ": "'", "`": "'", "´": "'"}
    | {"–": "-", "‐": "-", "‑": "-", "−": "-", "—": " - ", "…": "... ", "\u00a0": " ", "\u200b": ""}
    | {"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L"}
    | {"đ": "d", "Đ": "D", "ð": "d", "þ": "th", "Þ": "Th", "ı": "i", "°": " degrees "}
)
_TITLES = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor", "st": "saint", "jr": "junior",
    "sr": "senior", "vs": "versus", "etc": "et cetera", "approx": "approximately", "dept": "department", "no": "number",
    "gen": "general", "sgt": "sergeant", "capt": "captain", "rev": "reverend", "hon": "honorable", "mt": "mount",
    "ave": "avenue", "inc": "incorporated", "ltd": "limited", "corp": "corporation", "co": "company", "fig": "figure",
    "jan": "january", "feb": "february", "aug": "august", "sept": "september", "oct": "october", "nov": "november",
    "dec": "december",
}  # fmt: skip
# These are words too ("no.", "co.", "fig.", "gen.", "rev."): read as abbreviations only before a number or a capital.
_CAREFUL = {"no": r"\d", "fig": r"\d", "gen": "[A-Z]", "rev": "[A-Z]", "hon": "[A-Z]", "st": "[A-Z]", "mt": "[A-Z]"}
_UNITS = {
    "km/h": "kilometers an hour", "mph": "miles an hour", "km": "kilometers", "cm": "centimeters", "mm": "millimeters",
    "kg": "kilograms", "mg": "milligrams", "lb": "pounds", "lbs": "pounds", "oz": "ounces", "ft": "feet", "ml": "milliliters",
    "gb": "gigabytes", "mb": "megabytes", "hz": "hertz", "khz": "kilohertz", "min": "minutes", "sec": "seconds",
}  # fmt: skip
_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DECADES = dict(zip("23456789", "twenties thirties forties fifties sixties seventies eighties nineties".split(), strict=True))
_FRACTIONS = {"1/2": "one half", "1/4": "one quarter", "3/4": "three quarters", "1/3": "one third", "2/3": "two thirds"}
_LETTERS = {"A": "eh", "E": "ee", "I": "eye", "O": "oh"}
_SYMBOLS = {"&": " and ", "%": " percent ", "+": " plus ", "=": " equals ", "@": " at ", "#": " number "}
_DIGITS = dict(zip("0123456789", "zero one two three four five six seven eight nine".split(), strict=True))
_SAID_AS_WORDS = {"NASA", "NATO", "UNESCO", "UNICEF", "AIDS", "LASER", "RADAR", "SCUBA", "PIN", "SIM", "ASAP"}


def clean(text: str) -> str:
    """ASCII text: accents decomposed, typographic quotes and dashes made plain, emoji and the like dropped.

    Raises ValueError when the text holds letters of another script, or nothing that could be said.
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
            raise ValueError(f"Only English text in the Latin alphabet can be spoken; found {char!r} ({script}).")
    result = re.sub(r"\s+", " ", "".join(kept)).strip()
    if not any(char.isalnum() for char in result):
        raise ValueError("There is nothing to say in the text: it has no letters or digits.")
    return result


def spoken(text: str) -> str:
    """The words to say, for any written English text.

    "Dr. Smith paid $3.50." -> "doctor Smith paid three dollars fifty cents." Raises ValueError as `clean` does.
    """
    text = clean(text)
    if text.isupper() and len(text) > 6:
        text = text.lower()
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    text = _expand(text)
    if re.search(r"\d", text):
        text = re.sub(r"\d", lambda m: f" {_DIGITS[m[0]]} ", _read_digits(text))
    text = re.sub(r"\b(?!OK\b)([A-Z]{2,5})('?s)?\b", _spell, text)
    text = re.sub(r"\bOK\b", "okay", text)
    return _punctuate(text)


def _expand(text: str) -> str:
    """Abbreviations, units, dates and codes that gruut misreads."""
    text = re.sub(r"\b(?:https?://|www\.)", lambda m: "w w w dot " if "www" in m[0] else "", text)
    text = re.sub(r"(?<=[A-Za-z0-9])\.(?=[A-Za-z]{2,}\b)", " dot ", text)
    text = re.sub(r"\b([ap])\.?m\.(?=\s+[A-Z]|$)", r"\1m.", text)
    text = re.sub(r"\b([ap])\.?m\b(\.(?=\s+[a-z]|,))?", lambda m: f"{'eh' if m[1] == 'a' else 'P'} em", text)
    text = re.sub(r"\be\.g\.,?", "for example", text)
    text = re.sub(r"\bi\.e\.,?", "that is", text)
    text = re.sub(r"\bPh\.?D\b\.?", "P H D", text)
    text = re.sub(r"\b(?:[A-Z]\.){2,}(?=(\s+[A-Z]|$)?)", lambda m: m[0].replace(".", "") + ("." if m[1] is not None else ""), text)
    text = re.sub(r"\b([A-Za-z]+)\.(?=\s|,|$)", lambda m: _title(m, text), text)
    text = re.sub(rf"\b({_MONTH}) (\d{{1,2}})\b(?![\d:])", lambda m: f"{m[1]} {_ordinal(int(m[2]))}", text)
    text = re.sub(r"\b(\d/\d)\b", lambda m: _FRACTIONS.get(m[1], m[1].replace("/", " over ")), text)
    text = re.sub(r"\b([12]\d)?(\d)0'?s\b", lambda m: (m[1] or "") + " " + _DECADES.get(m[2], m[2] + "0 s"), text)
    text = re.sub(r"(?<=\d) ?(km/h|[A-Za-z]{2,3})\b", lambda m: " " + _UNITS[m[1].lower()] if m[1].lower() in _UNITS else m[0], text)
    text = re.sub(r"\b(\d{3})-(\d{4})\b", lambda m: " ".join(m[1]) + ", " + " ".join(m[2]), text)
    text = re.sub(r"(?<=\d)-(?=\d)", " to ", text)
    text = re.sub(r"(\d)(?!st\b|nd\b|rd\b|th\b)([A-Za-z])", r"\1 \2", text)
    return re.sub(r"([A-Za-z])(\d)", r"\1 \2", text)


def _title(match: re.Match[str], text: str) -> str:
    word = match[1].lower()
    after = text[match.end() :].lstrip()
    if word not in _TITLES or (word in _CAREFUL and not re.match(_CAREFUL[word], after)):
        return match[0]
    if word == "st" and re.match(r".*[a-z] $", text[: match.start()]) and not re.match(r"[A-Z]", after):
        return "street"
    return _TITLES[word] if after else _TITLES[word] + "."


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 11 <= number <= 13 else suffix}"


def _read_digits(text: str) -> str:
    import gruut

    parts: list[str] = []
    for sentence in gruut.sentences(text, lang="en-us", phonemes=False, pos=False):
        for word in sentence:
            breaks = word.is_minor_break or word.is_major_break
            if breaks and parts:
                parts[-1] += word.text
            elif word.is_spoken:
                parts.append(word.text)
    return re.sub(r"\b(thousand|million|billion),", r"\1", " ".join(parts))


def _spell(match: re.Match[str]) -> str:
    if match[1] in _SAID_AS_WORDS:
        return match[0].lower()
    letters = " ".join(_LETTERS.get(letter, letter) for letter in match[1])
    return letters + (match[2] or "")


def _punctuate(text: str) -> str:
    """Only words and , . ? ! are left, a mark directly after its word and one at the end."""
    text = re.sub(r"\.{2,}|[;:()\[\]{}]|\s-+\s", ", ", text)
    text = re.sub(r"[^A-Za-z',.?!\s]", " ", text)
    text = re.sub(r"(?<![A-Za-z])'+|'+(?![A-Za-z])", " ", text)
    text = re.sub(r"\s*([,.?!])[\s,.?!]*", lambda m: _strongest(m[0]) + " ", text)
    text = re.sub(r"\s+", " ", text).strip(" ,")
    text = re.sub(r"^[,.?! ]+", "", text)
    return text if text.endswith((".", "?", "!")) else text + "."


def _strongest(marks: str) -> str:
    return next(mark for mark in "?!.," if mark in marks)
