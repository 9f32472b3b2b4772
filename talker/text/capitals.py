"""Words in capitals: acronyms are spelled, words are said, Roman numerals are numbers."""

import re

from talker.text import tables
from talker.text.numbers import cardinal, ordinal, roman, year
from talker.text.phonemes import in_lexicon

_ROMAN = re.compile(r"\b([A-Za-z]+)(\.?\s+)([IVXL]+)(st|nd|rd|th)?\b('s)?(?=(\s+[A-Za-z']+)?)")
_ROMAN_LIST = re.compile(r"\b([A-Z][a-z]+)( [IVX]+)((?:(?:,|,? and|,? or| &| to|-) ?(?:[IVX]{2,}|[VX])\b)+)")
_ROMAN_SERIES = re.compile(r"\b[IVX]+(?:(?:,? (?:and|or|to) |, ?| ?- ?)[IVX]+\b)+")
_NOT_ROMAN = frozenset(("IV", "VI", "XI", "XX", "XXX"))
_CAPITALS = re.compile(r"\b[A-Z]{2,}(?:'?s)?\b(?:'[A-Z]+\b)?|\bI'[A-Z]+\b")
_MONTHS = tuple(month.lower() for month in tables.MONTHS)
_LETTER_NOUNS = "vitamin|plan|grade|type|group|hepatitis|option|class|section|exhibit|answer|part|point"


def read_roman_numerals(text: str) -> str:
    """Read Roman numerals after nouns and names: "Chapter IV" -> "Chapter four"; "I" mostly stays a word."""
    text = re.sub(
        r"\b([IVX]{2,})(?=\s+century\b)", lambda m: ordinal(roman(m[1]) or 0) if roman(m[1]) else m[0], text
    )
    text = re.sub(r"\bM{1,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{1,3})(?:IX|IV|V?I{0,3})\b", _roman_year, text)
    text = re.sub(r"\b([A-Z][A-Za-z]+) (the|THE) ([IVX]+)\b(?!\s+[A-Z])", _the, text)
    text = _ROMAN_LIST.sub(_roman_list, text)
    text = _ROMAN_SERIES.sub(_roman_series, text)
    names = [word.lower() for word in re.findall(r"[A-Za-z]+", text)]
    return _ROMAN.sub(lambda match: _roman(match, names), text)


def _the(match: re.Match[str]) -> str:
    value = roman(match[3])
    return f"{match[1]} the {ordinal(value)}" if value and match[3] != "I" else match[0]


def _roman_year(match: re.Match[str]) -> str:
    value = roman(match[0])
    return year(value) if value and len(match[0]) > 3 else match[0]


def _roman_list(match: re.Match[str]) -> str:
    """ "Parts I, II and IV" -> "Part I, two and four"."""
    noun = match[1] if match[1].lower() in tables.NUMBERED else match[1].removesuffix("s")
    if noun.lower() not in tables.NUMBERED or roman(match[2].strip()) is None:
        return match[0]
    tail = re.sub(r"[IVX]+\b", lambda m: cardinal(roman(m[0]) or 0) if roman(m[0]) else m[0], match[3])
    return f"{match[1]} {cardinal(roman(match[2].strip()) or 0)}{tail.replace('-', ' to ')}"


def _roman_series(match: re.Match[str]) -> str:
    """ "I, II, III" -> "one, two, three": numerals that count up by one, or that contain "II"; not "I, X"."""
    values = [roman(numeral) or 0 for numeral in re.findall(r"[IVX]+", match[0])]
    if 0 in values or (2 not in values and values != list(range(values[0], values[0] + len(values)))):
        return match[0]
    said = re.sub(r"\b[IVX]+\b", lambda m: cardinal(roman(m[0]) or 0), match[0])
    return re.sub(r" ?- ?", " to ", said)


def _roman(match: re.Match[str], names: list[str]) -> str:
    word, value, following = match[1].lower(), roman(match[3]), (match[6] or "").strip().lower()
    single = len(match[3]) == 1
    dotted = match[2].startswith(".")
    if (
        value is None
        or (dotted and (word not in tables.BEFORE_NUMBER or word == "no"))
        or (single and match[3] == "L")
    ):
        return match[0]
    before = names[max(names.index(word) - 1, 0)] if word in names else ""
    numbered = dotted or word in tables.NUMBERED
    regnal = word in tables.REGNAL or before in tables.REGNAL
    if match[1][0].islower() and not numbered:
        return match[0]
    if match[3] == "I" and following:
        pronoun = following in tables.FIRST_PERSON if numbered else following not in tables.AFTER_FIRST
        if pronoun and not match[5]:
            return match[0]
    if single and not numbered and word not in tables.REGNAL:
        return match[0]
    if single and match[3] == "X" and not numbered and not following:
        return match[0]
    if match[4] or (regnal and not numbered):
        said = f"the {ordinal(value)}"
    else:
        said = cardinal(value)
    if dotted:
        return f"{tables.BEFORE_NUMBER[word]} {said}"
    return f"{match[1]}{match[2]}{said}{match[5] or ''}"


def read_capitals(text: str) -> str:
    """Read words in capitals: "VERY" -> "very", "NASA" -> "nasa", "FBI" -> "F B eye"."""
    text = re.sub(
        rf"(?i)\b({_LETTER_NOUNS})\s+([AEIO])(?=[\s.,?!;:]*(?:$|[.,?!;:]|\b(?:is|was|and|or)\b))",
        _letter,
        text,
    )
    shouts = [match.span() for match in _CAPITALS.finditer(text) if _is_word(match[0])]
    loud = not any(char.islower() for char in text) and (bool(shouts) or " " not in text.strip())
    return _CAPITALS.sub(lambda match: _read(match, text, shouts, loud), text)


def _letter(match: re.Match[str]) -> str:
    if match[2] == "I" or match[2].islower():
        return match[0]
    return f"{match[1]} {tables.LETTERS.get(match[2], match[2])}"


def _stem(word: str) -> tuple[str, str]:
    """("CDs", "FBI's") -> the capitals and the ending "'s" or "" ."""
    found = re.fullmatch(r"([A-Z]{2,})('?s|'[A-Z]+)?", word)
    assert found
    return found[1], (found[2] or "").lower()


def _is_word(written: str) -> bool:
    if written.startswith("I'"):
        return True
    word, ending = _stem(written)
    if ending not in ("", "'s", "s"):
        return True  # "DON'T"
    if word in tables.SPELLED or word in tables.SAID or word in tables.EITHER:
        return False
    if len(word) <= 3:
        return word in tables.SHORT_WORDS
    return in_lexicon(word.lower())


def _read(match: re.Match[str], text: str, shouts: list[tuple[int, int]], loud: bool) -> str:
    if "'" in match[0] and not match[0].endswith(("'s", "'S")):
        return match[0].lower()
    word, ending = _stem(match[0])
    if word in tables.COUNTRIES and text[match.end() : match.end() + 1] in tables.CURRENCIES:
        return match[0]  # "US$5"
    if re.search(r"\d\s?$", text[: match.start()]):  # a unit, "5 PM"
        if word in tables.UNITS or word in ("AM", "PM"):
            return match[0]
        if word.lower() in tables.UNITS:
            return word.lower()
    beside_digit = re.search(r"\d\s?$", text[: match.start()]) or re.match(r"\s?[\d.]", text[match.end() :])
    if beside_digit and word in tables.CURRENCIES:
        return match[0]
    if loud and word.lower() in (*tables.SHORT_MONTHS, *tables.WEEKDAYS, *tables.TITLES, *_MONTHS):
        return word.title()
    if word in tables.STATES and re.match(r"\s\d{5}\b", text[match.end() :]):
        return match[0]
    if word in tables.SAID:
        return tables.SAID[word] + ending
    if word in tables.EITHER and _shouted(match, text, shouts, loud):
        return word.lower() + ending
    if word not in tables.SPELLED and word not in tables.EITHER:
        if _is_word(match[0]) or (loud and len(word) <= 3 and in_lexicon(word.lower())):
            return word.lower() + ending
        vowels = sum(char in "AEIOUY" for char in word)
        if vowels and len(word) >= 4 and (len(word) > 5 or (loud and vowels > 1)):
            return word.lower() + ending
    value = roman(word) if set(word) <= set("IVX") and word not in _NOT_ROMAN else None
    if value:
        return cardinal(value) + ending
    letters = " ".join(tables.LETTERS.get(letter, letter) for letter in word)
    return letters + ("'s" if ending else "")


def _is_pronoun(word: str, before: str, after: str) -> bool:
    """Whether "WHO", "IT" or "US" is a pronoun that is stressed, by the words beside it."""
    last, following = re.search(r"[A-Za-z']+$", before), re.match(r"[A-Za-z']+", after)
    previous, subsequent = (found[0].lower() if found else "" for found in (last, following))
    if word == "WHO":
        asked = "?" in after and previous != "the"
        return subsequent in tables.AFTER_WHO and (asked or previous in tables.BEFORE_WHO)
    if word == "IT":
        return previous in tables.BEFORE_IT and subsequent not in tables.AFTER_IT_NOUN
    return word == "US" and previous in tables.BEFORE_US and (subsequent in tables.AFTER_US or not subsequent)


def _beside_acronym(before: str, after: str) -> bool:
    """Whether "and", "or" or a comma joins a place in a text to a word that is always an acronym."""
    follows = re.match(r"(?i)(?:,|&|and\b|or\b|vs\b)\s*(?:the )?([A-Z]{2,})\b", after)
    precedes = re.search(r"(?i)\b([A-Z]{2,})(?:,|\s(?:&|and|or|vs))$", before)
    acronyms = tables.SPELLED.union(tables.SAID) - tables.EITHER
    return any(found and found[1] in acronyms for found in (follows, precedes))


def _shouted(match: re.Match[str], text: str, shouts: list[tuple[int, int]], loud: bool) -> bool:
    """Whether "IT", "US" and the like are words: a neighbour is a word in capitals, and it is no name."""
    before, after = text[: match.start()].rstrip(), text[match.end() :].lstrip()
    if _is_pronoun(match[0], before, after):
        return True
    if match[0] in ("US", "WHO", "IT", "AI", "EU", "ID") and re.search(r"(?i)\b(the|an?|our|your)$", before):
        return False
    if match[0] == "AM" and (re.search(r"\bI$", before) or after.startswith("I ")):
        return True
    if _beside_acronym(before, after):
        return False
    near = [end for start, end in shouts if start >= match.end() and not text[match.end() : start].strip()]
    near += [end for start, end in shouts if end <= match.start() and not text[end : match.start()].strip()]
    return bool(near) or (
        loud
        and match[0] not in ("AI", "ID", "OS", "ER", "LA", "MA", "PA", "BA", "TA")
        and bool(before or after)
    )
