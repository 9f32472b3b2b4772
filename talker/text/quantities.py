"""Fractions, quantities with units, and arithmetic in words."""

import re

from talker.text import tables
from talker.text.numbers import cardinal, number, ordinal, plain

Match = re.Match[str]


def fraction(match: Match) -> str:
    """ "1/2", "2 3/4", "9/10"."""
    whole, over, under = match[1], int(match[2]), int(match[3])
    after = match.string[match.end() :]
    written = f"{match[2]}/{match[3]}"
    if not whole and written in tables.FIXED_FRACTIONS:
        return f" {tables.FIXED_FRACTIONS[written]} "
    if not whole and over + under == 100 and over > under:  # "the 80/20 rule"
        return f" {cardinal(over)} {cardinal(under)} "
    if not whole and (
        (under in (5, 10, 100) and re.match(r"\s+(stars|points|people|times)", after)) or over == under
    ):
        return f" {cardinal(over)} out of {cardinal(under)} "
    if not whole and under == 10 and not re.match(r"\s+of\b", after):
        return f" {cardinal(over)} out of {cardinal(under)} "
    if (
        under == 0
        or (not whole and over > under and (under > 4 or over > 9))
        or (under > 20 and under not in (32, 64, 100, 1000))
    ):
        return f" {match[1] or ''} {cardinal(over)} over {cardinal(under)} "
    said = f"{cardinal(over)} {denominator(under, over)}"
    return f" {cardinal(int(whole))} and {said} " if whole else f" {said} "


def division(match: Match) -> str:
    """ "6 / 2" -> "6 divided by 2"."""
    whole = " / " not in match[0] and int(match[1]) <= int(match[2])
    return match[0] if whole else f"{match[1]} divided by {match[2]}"


def rating(match: Match) -> str:
    """ "4.5/5" -> "four point five out of five", but "4.5/5 equals" is a division."""
    between = "divided by" if match[3] else "out of"
    return f" {number(match[1])} {between} {number(match[2])} {match[3] or ''} "


def difference(match: Match) -> str:
    """ "10 - 4 is 6", but "5 - 10 is a range"."""
    first, second = (float(match[k].rstrip(".")) if match[k].count(".") < 2 else 0 for k in (1, 2))
    return f"{match[1]} {'minus' if first > second else 'to'} {match[2]}"


def denominator(under: int, over: int) -> str:
    """The name of a denominator: 2 -> "half" or "halves"."""
    if under in tables.FRACTIONS:
        return tables.FRACTIONS[under][over > 1]
    return ordinal(under) + ("s" if over > 1 else "") if under > 1 else "over one"


def quantity(match: Match) -> str:
    """A number with a unit: "5 km" -> "five kilometers", "1/2 mile", "20 m^2", "5-km run", "3 mg/kg"."""
    written, unit, power, per = match["n"], match["unit"], match["power"], match["per"]
    before, after = match.string[: match.start()], match.string[match.end() :]
    if (unit in tables.TIGHT_UNITS and match["space"]) or (unit in tables.LOOSE_UNITS and not match["space"]):
        return match[0]
    if unit == "N" and re.match(r"\.?\s+[A-Z]", after):
        return match[0]  # north
    if unit in ("m", "g", "l", "h", "L") and match["space"] and after[:1] == "'":
        return match[0]
    if unit == "s" and not match["space"] and (written.endswith("0") and len(written) > 1):
        return match[0]  # "the 80s"
    over = re.fullmatch(r"(?:(\d+) )?(\d+)/(\d+)", written)
    if over:
        said = f"{cardinal(int(over[1]))} and " if over[1] else ""
        said += f"{cardinal(int(over[2]))} {denominator(int(over[3]), int(over[2]))}"
        single = not over[1] and int(over[2]) <= int(over[3])
        if int(over[2]) > int(over[3]) > 20:
            said = f"{cardinal(int(over[2]))} over {cardinal(int(over[3]))}"
    else:
        said, single = scientific(written), written == "1"
    single = (
        single
        or match["space"] == "-"
        or bool(re.search(r"\b[Aa]n?\s$", before) and re.match(r"\s[a-z]", after))
        or bool((noun := re.match(r"\s([a-z]+)", after)) and noun[1] in tables.MEASURED)
    )
    name = tables.UNITS[unit][not single]
    power_name = f"{tables.POWERS[power[-1]]} " if power and "/" not in unit else ""
    if power and not power_name:
        name += " squared" if power.endswith("2") else " cubed"
    rest = f" per {tables.UNITS[per][0]}" if per else ""
    if match["per_power"]:
        rest += " squared" if match["per_power"].endswith("2") else " cubed"
    return f" {said} {power_name}{name}{rest} "


def square(match: Match) -> str:
    """ "20 sq ft" -> "twenty square feet"."""
    unit = tables.UNITS[match[3]]
    kind = "square" if match[2].startswith("sq") else "cubic"
    return f" {number(match[1])} {kind} {unit[match[1] != '1']}"


def range_of(match: Match) -> str:
    """The first number of "10-15 °C" or "5 kg - 10 kg", with "to"; decades ("the 20s-30s") are no seconds."""
    unit = match["unit"] or ""
    if unit == "s" and match[1].endswith("0"):
        return match[0]
    return f"{match[1]}{unit} to "


def angle(match: Match) -> str:
    """51°30'26"N -> "fifty one degrees thirty minutes twenty six seconds north"."""
    said = []
    for value, name in zip(match.groups(), ("degree", "minute", "second"), strict=False):
        said += [f"{number(value)} {name}{'' if value == '1' else 's'}"] if value else []
    return f" {' '.join(said)} {tables.DEGREES.get(match[4], '')} "


def feet(match: Match) -> str:
    """5'10" -> "five feet ten inches", "a 6 ft 2 in man" -> "a six foot two inch man"."""
    feet, inches = int(match[1]), match[2]
    noun = re.match(r"\s[a-z]", match.string[match.end() :])
    if inches and noun and re.search(r"\b[Aa]n?\s$", match.string[: match.start()]):
        return f" {cardinal(feet)} foot {number(inches)} inch"
    said = f" {cardinal(feet)} {'foot' if feet == 1 else 'feet'}"
    return f"{said} {number(inches)} {'inch' if inches == '1' else 'inches'}" if inches else said


def inches(match: Match) -> str:
    """27" -> "twenty seven inches"."""
    if match.string[: match.start()].count('"') % 2:
        return match[0]  # the closing quote of a quotation
    noun = re.match(
        r"\s+(?!tall|long|wide|deep|high|thick|x\b|by\b|in\b|and\b|of\b)[a-z]", match.string[match.end() :]
    )
    return f" {number(match[1])} {'inch' if match[1] == '1' or noun else 'inches'}"


def degrees(match: Match) -> str:
    """ "20 °C" -> "twenty degrees Celsius"."""
    return f" {number(match[1])} degree{'' if match[1] == '1' else 's'} {tables.DEGREES.get(match[2], '')} "


def power(match: Match) -> str:
    """ "^2" -> "squared", "^5" -> "to the power of five"."""
    named = {"2": " squared", "3": " cubed"}
    if match[1] in named and not match.string[: match.start()].endswith("10"):
        return f"{named[match[1]]} "
    return f" {_exponent(match[1])} "


def _exponent(text: str) -> str:
    sign = "minus " if text.startswith("-") else ""
    return f"to the power of {sign}{cardinal(int(text.lstrip('+-')))}"


def scientific(written: str) -> str:
    """ "2.5e6" -> "two point five times ten to the power of six", "25" -> "twenty five"."""
    found = re.fullmatch(r"(.+?)(?:\^|([eE]))([-+]?\d+)", written)
    if found is None:
        return number(written)
    return f"{number(found[1])} {'times ten ' if found[2] else ''}{_exponent(found[3])}"


def operator(match: Match) -> str:
    """ "=" -> "equals"."""
    return f" {tables.OPERATORS[match[1]]} "


def plural(match: Match) -> str:
    """ "1990s" -> "nineteen nineties", "'80s" -> "eighties", "747s" -> "seven hundred forty sevens"."""
    said = plain(match[1])
    return f" {said[:-1] + 'ies' if said.endswith('y') else said + ('es' if said.endswith('x') else 's')} "
