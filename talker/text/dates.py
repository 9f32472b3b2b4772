"""Dates, times and durations in words."""

import re

from talker.text import tables
from talker.text.numbers import cardinal, digits, ordinal, year
from talker.text.written import ends_sentence

Match = re.Match[str]


def _date(month: int, day: int, years: str = "") -> str:
    number_of_year = int(years) if years else 0
    if len(years) == 2:
        number_of_year += 1900 if number_of_year > 30 else 2000
    said = f" {tables.MONTHS[month - 1]} {ordinal(day)}"
    return f"{said}, {year(number_of_year)} " if years else f"{said} "


def numeric_date(match: Match) -> str:
    """Year, month, day; or month, day, year as Americans write; or day, month, year where that fails."""
    first, second, third = match[1], match[2], match[3]
    if len(first) == 4:
        order = [(second, third, first)]
    else:
        order = [(second, first, third), (first, second, third)]
        if "/" in match[0] or "-" in match[0]:
            order.reverse()
    for month, day, years in order:
        if 1 <= int(month) <= 12 and 1 <= int(day) <= 31:
            return _date(int(month), int(day), years)
    return match[0]


def short_date(match: Match) -> str:
    """ "on 5/6" -> "on May sixth"."""
    month, day = int(match[2]), int(match[3])
    valid = 1 <= month <= 12 and 1 <= day <= 31
    return f"{match[1]}{_date(month, day)}" if valid else match[0]


def month(written: str) -> str:
    """A month's full name: "Sept." -> "September"."""
    key = written.lower()
    return tables.MONTHS[tables.SHORT_MONTHS[key] - 1] if key in tables.SHORT_MONTHS else written


def short_year(text: str) -> str:
    """ "04" -> "oh four", "11" -> "eleven"."""
    return "oh oh" if text == "00" else f"{'oh ' if text[0] == '0' else ''}{cardinal(int(text))}"


def month_day(match: Match) -> str:
    """ "May 5, 1984", with a range of days or a year."""
    day, last, years = int(match[2]), match[3], match[4]
    if not 1 <= day <= 31:
        return match[0]
    said = f"{month(match[1])} {ordinal(day)}" + (f" to {ordinal(int(last))}" if last else "")
    return said + (f", {year(int(years))} " if years else " ")


def day_month(match: Match) -> str:
    """ "the 5th of May" and "5 May 1984"."""
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    said = f"the {ordinal(int(match[2]))} of {month(match[3])}"
    return said + (f", {year(int(match[4]))} " if match[4] else "")


def weekday(match: Match) -> str:
    """ "Mon." -> "Monday"."""
    return tables.WEEKDAYS[match[1].lower()] + match[2]


def weekday_list(match: Match) -> str:
    """ "Mon/Wed" -> "Monday, Wednesday"."""
    return ", ".join(tables.WEEKDAYS[day.lower()] for day in match[0].split("/"))


def weekdays(match: Match) -> str:
    """ "Mon-Fri" -> "Monday to Friday"."""
    first, last = (tables.WEEKDAYS.get(day.lower(), day) for day in (match[1], match[3]))
    return f"{first} {match[2] or 'to'} {last}"


def clock(hour: str, minute: str | None, second: str | None = None) -> str:
    """ "7", "05" -> "seven oh five"."""
    said = digits(hour) if hour == "00" else cardinal(int(hour))
    if minute and int(minute):
        said += f" {'oh ' if int(minute) < 10 else ''}{cardinal(int(minute))}"
    elif minute and int(hour) > 12:
        said += " hundred"
    if second and int(second):
        said += f" and {cardinal(int(second))} second{'s' if int(second) > 1 else ''}"
    return said


def half_day(match: Match) -> str:
    """ "7:45pm", "10 a.m."; the full stop after "a.m." stays where it ends the sentence."""
    if not 1 <= int(match["hour"]) <= 24:
        return match[0]
    half = f"{'eh' if match['half'] in 'aA' else 'P'} em"
    stop = "." if match["stop"] and ends_sentence(match.string[match.end() :]) else ""
    return f" {clock(match['hour'], match['minute'], match['second'])} {half}{stop}"


def duration(match: Match) -> str:
    """ "5h30m" -> "5 h 30 min", which `quantities.quantity` reads."""
    units = (("h", match[1]), ("min", match[2]), ("s", match[3]))
    return " ".join(f"{int(value)} {unit}" for unit, value in units if value) + " "


def running_time(match: Match) -> str:
    """ "25:30" -> "twenty five thirty", "90:00" -> "ninety minutes"."""
    return f" {cardinal(int(match[1]))} minutes " if match[2] == "00" else f" {clock(match[1], match[2])} "


def time(match: Match) -> str:
    """ "19:05" -> "nineteen oh five"."""
    hour, minute = match[1], match[2]
    if (
        minute == "00"
        and not match[3]
        and 1 <= int(hour) <= 12
        and not match.string[match.end() :].startswith("-")
    ):
        return f" {cardinal(int(hour))} o'clock"
    return f" {clock(hour, minute, match[3])} "
