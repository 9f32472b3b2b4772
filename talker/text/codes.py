"""Numbers that are read digit by digit or in groups: telephone numbers, versions, standards."""

import re

from talker.text.numbers import cardinal, digits, number
from talker.text.written import spelled

Match = re.Match[str]


def _groups(text: str) -> str:
    """Digits in groups: "555-1234" -> "five five five, one two three four"."""
    said = ", ".join(digits(group) for group in re.findall(r"\d+", text))
    return f" plus {said} " if text.lstrip("( ").startswith("+") else f" {said} "


def telephone(match: Match) -> str:
    """ "555-1234" -> "five five five, one two three four"."""
    return _groups(match[0])


def international(match: Match) -> str:
    """A number with "+", if it has at least eight digits."""
    return _groups(match[0]) if sum(char.isdigit() for char in match[0]) >= 8 else match[0]


def zip_code(match: Match) -> str:
    """ "CA 90210" -> "C eh nine zero two one zero"."""
    return (match[1] or spelled(match[2])) + _groups(match[3])


def emergency(match: Match) -> str:
    """ "call 911" -> "call nine one one"."""
    return f"{match[1]} {digits(match[2])}"


def ten_digits(match: Match) -> str:
    """A telephone number without spaces, if it is called so or stands alone; round numbers are not."""
    groups = match[3], match[4], match[5]
    if match[5].endswith("000"):
        return match[0]
    return match[1] + _groups("-".join([match[2], *groups] if match[2] else groups))


def toll_free(text: str) -> str:
    """ "800" -> "eight hundred", "888" -> "eight eight eight"."""
    return hundreds(text) if text.endswith("00") else digits(text)


def part_number(match: Match) -> str:
    """ "x86-64" -> "x86 64"; "Q1-2" is a range."""
    first, second = match[1] or match[3], match[2] or match[4]
    ranged = match[1] and int(first) < int(second) and len(second) < 4
    return match[0] if ranged else f"{first} {second}"


def dotted(address: str) -> str:
    """ "10.0.0.1" -> "one zero dot zero dot zero dot one"."""
    return " dot ".join(digits(part) for part in address.split("."))


def version_number(text: str) -> str:
    """ "2.0.1" -> "two point zero point one"."""
    return " point ".join(number(part) for part in text.split("."))


def standard(match: Match) -> str:
    """ "802.11ac" -> "eight oh two dot eleven A C"."""
    return f" {hundreds('802')} dot {cardinal(int(match[1]))} {spelled(match[2])} "


def version(match: Match) -> str:
    """ "v2.0", "version 3.11", and IP addresses."""
    parts = match[2].split(".")
    if match[1] is None and len(parts) == 4 and all(int(part) < 256 for part in parts):
        return dotted(match[2])
    before = match.string[: match.start()].rstrip().lower()
    name = "version " if match[1] and not before.endswith(("version", "release")) else ""
    return name + version_number(match[2])


def three_digits(match: Match) -> str:
    """ "Boeing 747" -> "Boeing seven forty seven"."""
    return f"{match[1]}{hundreds(match[2] + match[3])}"


def hundreds(text: str) -> str:
    """Three digits in two parts: "747" -> "seven forty seven"."""
    rest = int(text[1:])
    tail = "hundred" if rest == 0 else f"{'oh ' if rest < 10 else ''}{cardinal(rest)}"
    return f"{cardinal(int(text[0]))} {tail}"
