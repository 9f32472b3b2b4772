"""Numbers in words: cardinals, ordinals, years, digits, amounts and Roman numerals."""

import re

from num2words import num2words

_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def cardinal(number: int) -> str:
    """1250 -> "one thousand two hundred fifty"; numbers from 10^15 on are read digit by digit."""
    return digits(str(number)) if number >= 10**15 else _words(number)


def ordinal(number: int) -> str:
    """23 -> "twenty third"."""
    return _words(number, "ordinal") if number < 10**15 else digits(str(number))


def year(number: int) -> str:
    """1984 -> "nineteen eighty four", 2005 -> "two thousand five", 1900 -> "nineteen hundred"."""
    return _words(number, "year")


def digits(text: str) -> str:
    """ "305" -> "three zero five"; characters that are not digits are ignored."""
    return " ".join(_words(int(char)) for char in text if char.isdigit())


def number(text: str) -> str:
    """A number as written, without its sign: "1,250" -> words, ".5" -> "point five", "007" -> its digits."""
    whole, point, fraction = text.replace(",", "").partition(".")
    if not point:
        return digits(whole) if whole[0] == "0" and len(whole) > 1 else cardinal(int(whole))
    before = [number(whole)] if whole else []
    return " ".join([*before, "point", digits(fraction)])


def plain(text: str) -> str:
    """A number that stands alone. Four digits from 1100 to 2099 without a comma are read as a year."""
    return year(int(text)) if re.fullmatch(r"1[1-9]\d\d|20\d\d", text) else number(text)


def roman(text: str) -> int | None:
    """The value of a Roman numeral in capitals, or None: "XIV" -> 14, "IIX" -> None."""
    if not text or not _ROMAN.fullmatch(text):
        return None
    values = [_ROMAN_VALUES[char] for char in text]
    following = [*values[1:], 0]
    return sum(-v if v < after else v for v, after in zip(values, following, strict=True))


def _words(value: int, to: str = "cardinal") -> str:
    """The words of num2words as Americans say them: without "and", hyphens and commas."""
    return str(num2words(value, to=to)).replace("-", " ").replace(",", "").replace(" and ", " ")
