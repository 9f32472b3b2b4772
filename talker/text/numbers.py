"""Digits -> English words: cardinals, ordinals, years, decimals, money and clock times."""

import re

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
    "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_POWERS = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "")}
_PLURALS = {"penny": "pence", "yen": "yen"}
_NUMBER = re.compile(
    r"(?P<money>[$€£¥])\s?(?P<amount>\d[\d,]*)(?:\.(?P<cents>\d\d))?(?!\d)"
    r"|(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)(?!\d)"
    r"|(?P<ordinal>\d[\d,]*)(?:st|nd|rd|th)\b"
    r"|(?P<whole>\d+(?:,\d{3})*|\d+)(?:\.(?P<fraction>\d+))?"
)


def cardinal(number: int) -> str:
    """1250 -> "one thousand two hundred fifty"; numbers from 10^15 on are read digit by digit."""
    if number >= 10**15:
        return digits(str(number))
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f" {_ONES[number % 10]}" if number % 10 else "")
    power, name = next(pair for pair in _POWERS if number >= pair[0])
    rest = f" {cardinal(number % power)}" if number % power else ""
    return f"{cardinal(number // power)} {name}{rest}"


def ordinal(number: int) -> str:
    """23 -> "twenty third"."""
    head, _, last = cardinal(number).rpartition(" ")
    last = _ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return f"{head} {last}".strip()


def year(number: int) -> str:
    """1984 -> "nineteen eighty four", 2005 -> "two thousand five", 1900 -> "nineteen hundred"."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def digits(text: str) -> str:
    """ "305" -> "three zero five"; characters that are not digits are ignored."""
    return " ".join(_ONES[int(char)] for char in text if char.isdigit())


def read_numbers(text: str) -> str:
    """Replace every number in a text by words, with a space on both sides.

    "$3.50" -> "three dollars fifty cents", "7:05" -> "seven oh five", "1st" -> "first". Whole numbers from
    1100 to 2099 without a comma are read as years: "1984" -> "nineteen eighty four".
    """
    return re.sub(_NUMBER, lambda match: f" {_read(match)} ", text)


def _read(match: re.Match[str]) -> str:
    if match["money"]:
        return _amount(match["money"], int(match["amount"].replace(",", "")), int(match["cents"] or 0))
    if match["hour"]:
        minute = int(match["minute"])
        late = f" {'oh ' if minute < 10 else ''}{cardinal(minute)}" if minute else ""
        return cardinal(int(match["hour"])) + late
    if match["ordinal"]:
        return ordinal(int(match["ordinal"].replace(",", "")))
    whole = match["whole"]
    if whole[0] == "0" and len(whole) > 1:
        return digits(whole) + (f" point {digits(match['fraction'])}" if match["fraction"] else "")
    number = int(whole.replace(",", ""))
    if match["fraction"]:
        return f"{cardinal(number)} point {digits(match['fraction'])}"
    return year(number) if len(whole) == 4 and 1100 <= number < 2100 else cardinal(number)


def _amount(sign: str, whole: int, cents: int) -> str:
    parts = [(whole, _MONEY[sign][0]), (cents, _MONEY[sign][1])]
    spoken = [f"{cardinal(n)} {unit if n == 1 else _PLURALS.get(unit, unit + 's')}" for n, unit in parts if n]
    return " ".join(spoken) or f"zero {_MONEY[sign][0]}s"
