"""Dates, times, telephone numbers, amounts, units, fractions and all other numbers in words."""

import re
from collections.abc import Callable

from talker.text import tables
from talker.text.numbers import cardinal, digits, number, ordinal, plain, year
from talker.text.written import ends_sentence, spelled

Match = re.Match[str]

_N = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"  # 5, 1,250, 3.5, .5
_EURO = r"\d{1,3}(?:\.\d{3})+,\d\d(?!\d)|\d+,\d\d(?!\d)"  # 1.250,75 or 5,50
_MONTH = "|".join((*tables.MONTHS, *(short.title() for short in tables.SHORT_MONTHS)))
_SHORT_MONTH = "|".join(short.title() for short in tables.SHORT_MONTHS)
_WEEKDAY = "|".join(day.title() for day in tables.WEEKDAYS)
_SIGN = "[" + "".join(sign for sign in tables.CURRENCIES if len(sign) == 1) + "]"
_CODE = "|".join(code for code in tables.CURRENCIES if len(code) > 1)
_LONG_SCALE = "|".join(name for name in tables.SCALES if len(name) > 1)
_SCALE = rf"\s?(?:{_LONG_SCALE})\b|[kKmMbBtT]\b"
_UNIT = "|".join(re.escape(unit) for unit in sorted(tables.UNITS, key=len, reverse=True))
_TIME = r"(?:[01]?\d|2[0-4]):[0-5]\d"
_DAY = "|".join({*tables.WEEKDAYS.values(), *(day.title() for day in tables.WEEKDAYS)})
_STATE = "|".join(sorted(tables.STATES))
_EXPONENT = r"\^-?\d+|[eE][-+]?\d+"
_CALL = "call|dial|ring|phone|calling|dialing|dialed|called"
_DIGIT = r"(?<![\w.,])"  # a number starts here


def read_numerals(text: str) -> str:
    """Replace every number by words: "$3.50 at 7:05" -> "three dollars fifty cents at seven oh five".

    Whole numbers from 1100 to 2099 without a comma are read as years: "1984" -> "nineteen eighty four".
    """
    for pattern, read in _RULES:
        text = pattern.sub(read, text)
    return re.sub(r"[^\S\n]+", " ", text)


# --- dates and times ----------------------------------------------------------------------------------------


def _date(month: int, day: int, years: str = "") -> str:
    number_of_year = int(years) if years else 0
    if len(years) == 2:
        number_of_year += 1900 if number_of_year > 30 else 2000
    said = f" {tables.MONTHS[month - 1]} {ordinal(day)}"
    return f"{said}, {year(number_of_year)} " if years else f"{said} "


def _numeric_date(match: Match) -> str:
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


def _short_date(match: Match) -> str:
    month, day = int(match[2]), int(match[3])
    valid = 1 <= month <= 12 and 1 <= day <= 31
    return f"{match[1]}{_date(month, day)}" if valid else match[0]


def _month(written: str) -> str:
    key = written.lower()
    return tables.MONTHS[tables.SHORT_MONTHS[key] - 1] if key in tables.SHORT_MONTHS else written


def _short_year(text: str) -> str:
    """ "04" -> "oh four", "11" -> "eleven"."""
    return "oh oh" if text == "00" else f"{'oh ' if text[0] == '0' else ''}{cardinal(int(text))}"


def _month_day(match: Match) -> str:
    day, last, years = int(match[2]), match[3], match[4]
    if not 1 <= day <= 31:
        return match[0]
    said = f"{_month(match[1])} {ordinal(day)}" + (f" to {ordinal(int(last))}" if last else "")
    return said + (f", {year(int(years))} " if years else " ")


def _day_month(match: Match) -> str:
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    said = f"the {ordinal(int(match[2]))} of {_month(match[3])}"
    return said + (f", {year(int(match[4]))} " if match[4] else "")


def _weekday(match: Match) -> str:
    return tables.WEEKDAYS[match[1].lower()] + match[2]


def _weekday_list(match: Match) -> str:
    return ", ".join(tables.WEEKDAYS[day.lower()] for day in match[0].split("/"))


def _weekdays(match: Match) -> str:
    first, last = (tables.WEEKDAYS.get(day.lower(), day) for day in (match[1], match[3]))
    return f"{first} {match[2] or 'to'} {last}"


def _clock(hour: str, minute: str | None, second: str | None = None) -> str:
    said = digits(hour) if hour == "00" else cardinal(int(hour))
    if minute and int(minute):
        said += f" {'oh ' if int(minute) < 10 else ''}{cardinal(int(minute))}"
    elif minute and int(hour) > 12:
        said += " hundred"
    if second and int(second):
        said += f" and {cardinal(int(second))} second{'s' if int(second) > 1 else ''}"
    return said


def _half_day(match: Match) -> str:
    """ "7:45pm", "10 a.m."; the full stop after "a.m." stays where it ends the sentence."""
    if not 1 <= int(match["hour"]) <= 24:
        return match[0]
    half = f"{'eh' if match['half'] in 'aA' else 'P'} em"
    stop = "." if match["stop"] and ends_sentence(match.string[match.end() :]) else ""
    return f" {_clock(match['hour'], match['minute'], match['second'])} {half}{stop}"


def _duration(match: Match) -> str:
    """ "5h30m" -> "5 h 30 min", which `_quantity` reads."""
    units = (("h", match[1]), ("min", match[2]), ("s", match[3]))
    return " ".join(f"{int(value)} {unit}" for unit, value in units if value) + " "


def _time(match: Match) -> str:
    hour, minute = match[1], match[2]
    if (
        minute == "00"
        and not match[3]
        and 1 <= int(hour) <= 12
        and not match.string[match.end() :].startswith("-")
    ):
        return f" {cardinal(int(hour))} o'clock"
    return f" {_clock(hour, minute, match[3])} "


# --- codes --------------------------------------------------------------------------------------------------


def _groups(text: str) -> str:
    """Digits in groups: "555-1234" -> "five five five, one two three four"."""
    said = ", ".join(digits(group) for group in re.findall(r"\d+", text))
    return f" plus {said} " if text.lstrip("( ").startswith("+") else f" {said} "


def _telephone(match: Match) -> str:
    return _groups(match[0])


def _international(match: Match) -> str:
    return _groups(match[0]) if sum(char.isdigit() for char in match[0]) >= 8 else match[0]


def _zip_code(match: Match) -> str:
    """ "CA 90210" -> "C eh nine zero two one zero"."""
    return (match[1] or spelled(match[2])) + _groups(match[3])


def _emergency(match: Match) -> str:
    return f"{match[1]} {digits(match[2])}"


def _version_number(text: str) -> str:
    return " point ".join(number(part) for part in text.split("."))


def _standard(match: Match) -> str:
    """ "802.11ac" -> "eight oh two dot eleven A C"."""
    return f" {_hundreds('802')} dot {cardinal(int(match[1]))} {spelled(match[2])} "


def _version(match: Match) -> str:
    parts = match[2].split(".")
    if match[1] is None and len(parts) == 4 and all(int(part) < 256 for part in parts):
        return " dot ".join(digits(part) for part in parts)
    before = match.string[: match.start()].rstrip().lower()
    name = "version " if match[1] and not before.endswith(("version", "release")) else ""
    return name + _version_number(match[2])


def _three_digits(match: Match) -> str:
    """ "Boeing 747" -> "Boeing seven forty seven"."""
    return f"{match[1]}{_hundreds(match[2] + match[3])}"


def _hundreds(text: str) -> str:
    rest = int(text[1:])
    tail = "hundred" if rest == 0 else f"{'oh ' if rest < 10 else ''}{cardinal(rest)}"
    return f"{cardinal(int(text[0]))} {tail}"


# --- amounts ------------------------------------------------------------------------------------------------


def _comma_decimals(text: str, currency: str) -> str:
    """A number with the marks of continental Europe: "1.250,75" -> "1250.75", "5,50" -> "5.50"."""
    if currency == "$" and "," not in text:
        return text
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d{1,2})?|\d+,\d{1,2}", text):
        return text.replace(".", "").replace(",", ".")
    return text


def _amount(currency: str, written: str, scale: str = "", singular: bool = False) -> str:
    one, many, cent, cents = tables.CURRENCIES[currency]
    written = _comma_decimals(written, currency)
    scale = scale.strip().lower()
    if scale:
        return f" {number(written)} {tables.SCALES[scale]} {one if singular else many} "
    whole, _, fraction = written.replace(",", "").partition(".")
    if singular or (fraction and (len(fraction) > 2 or not cent)):
        single = singular or float(written.replace(",", "")) == 1
        return f" {number(written)} {one if single else many} "
    main, rest = int(whole or 0), int(fraction.ljust(2, "0")) if fraction else 0
    parts = [f"{cardinal(main)} {one if main == 1 else many}"] if main or not rest else []
    parts += [f"{cardinal(rest)} {cent if rest == 1 else cents}"] if rest else []
    return f" {' '.join(parts)} "


def _money(match: Match) -> str:
    """ "$5", "US$1.5 million", "-$3.50", "$5-10", "a $20 bill"."""
    sign, first, scale, last, last_scale = (
        match[k] for k in ("sign", "first", "scale", "last", "last_scale")
    )
    prefix = tables.COUNTRIES[match["country"]] if match["country"] else ""
    minus = "minus " if match["minus"] else ""
    singular = _before_noun(match)
    if last:
        beginning = _amount(sign, first, scale or "").split()
        name = tables.CURRENCIES[sign][:2]
        if beginning[-1] in name:
            beginning.pop()
        return f" {' '.join(beginning)} to {_amount(sign, last, last_scale or '', singular).strip()}"
    said = _amount(sign, first, scale or "", singular).strip()
    if prefix:
        said = re.sub(rf"\b({'|'.join(tables.CURRENCIES[sign][:2])})\b", rf"{prefix} \1", said, count=1)
    return f" {minus}{said} "


def _before_noun(match: Match) -> bool:
    """Whether an amount belongs to a noun, as in "a $5 fee" and "5¢ coins": it is said in the singular."""
    noun = re.match(r"(?:\s|-)([a-z]+)", match.string[match.end() :])
    article = re.search(r"\b[Aa]n?\s+$", match.string[: match.start()])
    return noun is not None and (noun[1] in tables.NOTES or article is not None)


def _money_after(match: Match) -> str:
    singular = _before_noun(match)
    if match[3] == "¢":
        return f" {number(match[1])} {'cent' if singular or match[1] == '1' else 'cents'}"
    return _amount(match[3], match[1], match[2] or "", singular).rstrip()


def _per(match: Match) -> str:
    unit = tables.UNITS.get(match[2])
    return f"{match[1]} per {unit[0] if unit else match[2]}"


# --- quantities ---------------------------------------------------------------------------------------------


def _fraction(match: Match) -> str:
    whole, over, under = match[1], int(match[2]), int(match[3])
    after = match.string[match.end() :]
    written = f"{match[2]}/{match[3]}"
    if not whole and written in tables.FIXED_FRACTIONS:
        return f" {tables.FIXED_FRACTIONS[written]} "
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
    said = f"{cardinal(over)} {_denominator(under, over)}"
    return f" {cardinal(int(whole))} and {said} " if whole else f" {said} "


def _division(match: Match) -> str:
    whole = " / " not in match[0] and int(match[1]) <= int(match[2])
    return match[0] if whole else f"{match[1]} divided by {match[2]}"


def _difference(match: Match) -> str:
    """ "10 - 4 is 6", but "5 - 10 is a range"."""
    first, second = (float(match[k].rstrip(".")) if match[k].count(".") < 2 else 0 for k in (1, 2))
    return f"{match[1]} {'minus' if first > second else 'to'} {match[2]}"


def _denominator(under: int, over: int) -> str:
    if under in tables.FRACTIONS:
        return tables.FRACTIONS[under][over > 1]
    return ordinal(under) + ("s" if over > 1 else "") if under > 1 else "over one"


def _quantity(match: Match) -> str:
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
        said += f"{cardinal(int(over[2]))} {_denominator(int(over[3]), int(over[2]))}"
        single = not over[1] and int(over[2]) <= int(over[3])
        if int(over[2]) > int(over[3]) > 20:
            said = f"{cardinal(int(over[2]))} over {cardinal(int(over[3]))}"
    else:
        said, single = _scientific(written), written == "1"
    single = (
        single
        or match["space"] == "-"
        or bool(re.search(r"\b[Aa]n?\s$", before) and re.match(r"\s[a-z]", after))
    )
    name = tables.UNITS[unit][not single]
    power_name = f"{tables.POWERS[power[-1]]} " if power and "/" not in unit else ""
    if power and not power_name:
        name += " squared" if power.endswith("2") else " cubed"
    rest = f" per {tables.UNITS[per][0]}" if per else ""
    if match["per_power"]:
        rest += " squared" if match["per_power"].endswith("2") else " cubed"
    return f" {said} {power_name}{name}{rest} "


def _square(match: Match) -> str:
    unit = tables.UNITS[match[3]]
    kind = "square" if match[2].startswith("sq") else "cubic"
    return f" {number(match[1])} {kind} {unit[match[1] != '1']}"


def _feet(match: Match) -> str:
    feet, inches = int(match[1]), match[2]
    said = f" {cardinal(feet)} {'foot' if feet == 1 else 'feet'}"
    return f"{said} {number(inches)} {'inch' if inches == '1' else 'inches'}" if inches else said


def _inches(match: Match) -> str:
    if match.string[: match.start()].count('"') % 2:
        return match[0]  # the closing quote of a quotation
    noun = re.match(
        r"\s+(?!tall|long|wide|deep|high|thick|x\b|by\b|in\b|and\b|of\b)[a-z]", match.string[match.end() :]
    )
    return f" {number(match[1])} {'inch' if match[1] == '1' or noun else 'inches'}"


def _degrees(match: Match) -> str:
    return f" {number(match[1])} degree{'' if match[1] == '1' else 's'} {tables.DEGREES.get(match[2], '')} "


def _power(match: Match) -> str:
    named = {"2": " squared", "3": " cubed"}
    if match[1] in named and not match.string[: match.start()].endswith("10"):
        return f"{named[match[1]]} "
    return f" {_exponent(match[1])} "


def _exponent(text: str) -> str:
    sign = "minus " if text.startswith("-") else ""
    return f"to the power of {sign}{cardinal(int(text.lstrip('+-')))}"


def _scientific(written: str) -> str:
    """ "2.5e6" -> "two point five times ten to the power of six", "25" -> "twenty five"."""
    found = re.fullmatch(r"(.+?)(?:\^|([eE]))([-+]?\d+)", written)
    if found is None:
        return number(written)
    return f"{number(found[1])} {'times ten ' if found[2] else ''}{_exponent(found[3])}"


def _operator(match: Match) -> str:
    return f" {tables.OPERATORS[match[1]]} "


def _plural(match: Match) -> str:
    """ "1990s" -> "nineteen nineties", "'80s" -> "eighties", "747s" -> "seven hundred forty sevens"."""
    said = plain(match[1])
    return f" {said[:-1] + 'ies' if said.endswith('y') else said + ('es' if said.endswith('x') else 's')} "


def _rules() -> tuple[tuple[re.Pattern[str], str | Callable[[Match], str]], ...]:
    """Patterns and their readings, functions or templates, in the order in which they are applied."""
    half = (
        r"(?P<hour>\d{1,2})(?:[:.](?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?)?"
        r"\s?(?P<half>[AaPp])(?:\.\s?[Mm]\b(?P<stop>\.)?|[Mm]\b)"
    )
    end = r"(?!\w)"
    number_date = rf"{_DIGIT}(\d{{1,2}})(?:/|-)(\d{{1,2}})(?:/|-)(\d{{4}}|\d\d){end}(?![-/]\d|\.\d)"
    table: tuple[tuple[str, str | Callable[[Match], str]], ...] = (
        (r"(?<![\w.,'])\d{1,3}(?:'\d{3})+(?![\w'])", lambda m: m[0].replace("'", "")),
        (r"(?<=\d)\s?~\s?(?=\d)", " to "),
        (r"~\s?(?=[\d.$€£¥])", " about "),
        # dates
        (rf"\b({_DAY})\b\.?(?:\s?-\s?|\s(to|through|thru|until)\s)({_DAY})\b\.?", _weekdays),
        (rf"\b(?:{_WEEKDAY})(?:/(?:{_WEEKDAY}))+\b", _weekday_list),
        (rf"\b({_MONTH})\b\.?\s?-\s?({_MONTH})\b\.?(?!\s?\d)", lambda m: f"{_month(m[1])} to {_month(m[2])}"),
        (r"(?<=\d)T(?=\d\d:\d\d)", ", "),
        (rf"\b({_WEEKDAY})\b\.?(,?\s+)(?=(?:{_MONTH}|\d))", _weekday),
        (rf"{_DIGIT}(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}}){end}", _numeric_date),
        (number_date, _numeric_date),
        (rf"{_DIGIT}(\d{{1,2}})\.(\d{{1,2}})\.(\d{{4}}){end}(?!\.\d)", _numeric_date),
        (r"\b((?:on|by|until|since|before|after|due|from)\s+)(\d{1,2})/(\d{1,2})(?![\d/])", _short_date),
        (
            rf"\b({_MONTH})\b\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:\s?(?:-|to)\s?(\d{{1,2}})(?:st|nd|rd|th)?)?"
            rf"(?:,?\s+([12]\d{{3}}))?\b(?![\d:%]|\.\d|,\d{{3}}|\s?[ap]\.?m)",
            _month_day,
        ),
        (
            rf"\b(the\s+)?(?<![\d.,:/$€£-])(\d{{1,2}})(?:st|nd|rd|th)?\s+({_MONTH})\b\.?(?:,?\s+([12]\d{{3}})\b)?",
            _day_month,
        ),
        (rf"\b({_SHORT_MONTH})\b\.?(?=\s+'?\d|\s?-\s?(?:{_MONTH})\b)", lambda m: _month(m[1])),
        (rf"(?<=[a-z])\s?-\s?(?=(?:{_MONTH})\b)", " to "),
        (
            r"(?<!\d)((?:19|20)\d\d)[-/](\d\d)\b(?![-/])",
            lambda m: f" {year(int(m[1]))} to {_short_year(m[2])}",
        ),
        # times
        (r"(?<![\w.:])(\d{1,3})h\s?([0-5]?\d)\s?m(?:in)?(?:\s?([0-5]?\d)s)?\b", _duration),
        (r"(?<![\w.:])()([0-5]?\d)m\s?([0-5]?\d)s\b", _duration),
        (r"(?<![\w.:])([01]?\d|2[0-4])h([0-5]\d)\b", lambda m: _clock(m[1], m[2])),
        (rf"(?<![\w.])(\d{{1,2}}(?::[0-5]\d)?(?:\s?[AaPp]\.?[Mm]\.?)?)\s?-\s?(?={half})", r"\1 to "),
        (rf"(?<![\w.:]){half}", _half_day),
        (rf"(?<![\w:])({_TIME})\s?-\s?(?={_TIME})", r"\1 to "),
        (r"(?<![\w:.])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?:\s+o'clock)?(?![\d:])Z?", _time),
        (r"(\d):(\d)", r"\1 to \2"),
        # codes
        (r"\b802\.(\d\d?)([A-Za-z]{0,2})\b", _standard),
        (
            rf"\b(?:((?i:zip)(?: [Cc]odes?)?(?: is)?:?)|((?<=, )[A-Z]{{2}}|(?i:{_STATE}))) "
            r"(\d{5}(?:-\d{4})?)\b(?![.,]\d)",
            _zip_code,
        ),
        (r"(?<!\w)\(0\d{2,4}\)\s?\d{3,4}[ -]?\d{3,4}(?!\w)", _telephone),
        (r"(?<![\w.])(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\w)", _telephone),
        (r"(?<!\w)\+\d[\d ().-]{6,}\d(?!\w)", _international),
        (r"(?<![\w.,$€£-])\d{3}-\d{4}(?![\w-])|(?<![\w.,])0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}(?!\w)", _telephone),
        (r"(?<!\w)\d{4}(?:[ -]\d{4}){2,}(?!\w)", _telephone),
        (r"(?<![\w.,])\d+(?:-\d+){2,}(?!\w)", _telephone),
        (r"(?i)(?<=\b(?:call|dial).me[: ])\s*\d{3} \d{4}\b|(?<=\bcall )\d{3} \d{4}\b", _telephone),
        (r"\b1-(8\d\d)-(?=[A-Za-z])", lambda m: f"one {_hundreds(m[1])} "),
        (
            r"\b(000|112|911|999)( or | and )(000|112|911|999)\b(?![-.,:/]\d)",
            lambda m: f" {digits(m[1])}{m[2]}{digits(m[3])} ",
        ),
        (rf"(?i)\b({_CALL})\s+(\d{{3}})\b(?![-.,:/]\d)", _emergency),
        (
            rf"(?i)(\b(?:{_CALL}|emergency)\b[^.?!]{{0,90}}?(?:\b(?:or|and|then)|:))\s+({'|'.join(tables.SHORT_NUMBERS)})\b(?![-.,:/]\d)",
            _emergency,
        ),
        (r"(?i)\b(v\.?\s?)?(?<![\d.])(\d+(?:\.\d+){2,})(?![\w.]*\d)(?!\w)", _version),
        (r"\b(v|V(?=\d+\.))(\d+(?:\.\d+)?)\b", _version),
        (
            rf"(?i)\b({'|'.join(tables.VERSIONED)})(\s+|-|)(\d+\.\d+)\b(?!\.\d|\s?%)",
            lambda m: f"{m[1]} {_version_number(m[3])}",
        ),
        (
            r"\b((?:Boeing|Airbus|Flight|Highway|Interstate|Porsche|Peugeot)\s+(?:[A-Z]-?)?|\b[AI]-?)(\d)(\d\d)\b",
            _three_digits,
        ),
        # amounts
        (
            rf"(?P<minus>(?<![\w)])-)?(?:\b(?P<country>US|CA|AU|NZ|HK|[CA]))?(?P<sign>{_SIGN})\s?(?P<first>{_EURO}|{_N})(?P<scale>{_SCALE})?"
            rf"(?:\s?-\s?(?:{_SIGN})?(?P<last>{_N})(?P<last_scale>{_SCALE})?)?",
            _money,
        ),
        (
            rf"(?P<minus>(?!))?(?P<country>(?!))?\b(?P<sign>{_CODE})\s?(?P<first>{_N})(?P<scale>{_SCALE})?(?P<last>(?!))?(?P<last_scale>(?!))?",
            _money,
        ),
        (rf"{_DIGIT}({_EURO}|{_N})({_SCALE})?\s?({_SIGN}|¢|(?:{_CODE})\b)(?!\s?\d)", _money_after),
        (
            rf"{_DIGIT}([1-9]\d?)p\b",
            lambda m: f" {cardinal(int(m[1]))} {'penny' if m[1] == '1' else 'pence'}",
        ),
        (rf"{_DIGIT}(\d+)\s?pt(?=\s+(?:font|type|text|size)\b)", r"\1 point"),
        (r"\b(dollars?|euros?|pounds?|cents?|yen)\s?/\s?([A-Za-z]+)\b", _per),
        # quantities
        (rf"{_DIGIT}(\d+)\s?'\s?(\d{{1,2}}(?:\.\d+)?)(?:\s?\"|'')?(?!\w)", _feet),
        (r"(?<![\d/])((?:\d+[ -])?\d+/\d+)\s?\"(?!\w)", r"\1 inch"),
        (rf"{_DIGIT}({_N})\"(?!\w)", _inches),
        (rf"{_DIGIT}(\d+)()'(?=\s+(?:tall|long|wide|deep|high)\b)", _feet),
        (rf"{_DIGIT}({_N})\s?in(?=\.?(?:$|,)|\s+(?:tall|wide|long|deep|high|thick|x)\b)\b", _inches),
        (r"(?<=\d)\s?(%|°[CF]?)\s?-\s?(?=\d)", r"\1 to "),
        (r"(?<![^\s(\[=<>≤≥±×÷*/+,:\"'])-(?=\.?\d)", " minus "),
        (r"(?<=\d)\s?deg\.?\s?(?=[CFNSEW]\b)", "°"),
        (rf"({_N})\s?°\s?([CFKNSEW]\b)?", _degrees),
        (rf"({_N})\s?(?=-\s?(?:{_N})\s?(?:%|(?:{_UNIT})\b))-\s?", r"\1 to "),
        (rf"({_N})\s?%", lambda m: f" {number(m[1])} percent "),
        (rf"{_DIGIT}({_N})\s?(sq\.?|square|cu\.?|cubic)\s?(ft|m|km|mi|in\.|yd|cm)\b\.?(?=\W|$)", _square),
        (
            rf"(?<![\w.,$€£^])(?<!\^-)(?P<n>(?:\d+ )?\d+/\d+|(?:{_N})(?:{_EXPONENT})?)"
            rf"(?P<space>\s|-)?(?P<unit>{_UNIT})(?P<power>\^?[23])?"
            rf"(?:/(?P<per>{_UNIT})(?P<per_power>\^?[23])?)?(?![\w^])",
            _quantity,
        ),
        (rf"{_DIGIT}({_N})([kM]|bn|mn)\b", lambda m: f" {number(m[1])} {tables.SCALES[m[2].lower()]}"),
        # arithmetic
        (
            rf"{_DIGIT}(\d+)\s?x\s?(?=\d)",
            lambda m: f"{m[1]} {'times' if ' ' in m[0] else 'by'} ",
        ),
        (r"(?<=\d)x\b(?!\s*[-+=])", " times "),
        (r"(?<=\d)!(?=\s*[-=+*/×])", " factorial "),
        (rf"{_DIGIT}(?:{_N})[eE][-+]?\d+\b", lambda m: f" {_scientific(m[0])} "),
        (r"(?<=\d)-(?=\d[\d.]*\s*=)", " minus "),
        (
            r"(?i)\b(in|since|year|around|about|circa) (10\d\d)\b(?![,.]\d)",
            lambda m: f"{m[1]} {year(int(m[2]))}",
        ),
        (r"(?<=\w)\^\s?(-?\d+)", _power),
        (r"(?<=\w)\^(?=\w)", " to the power of "),
        (r"(\d+)(?:\s/\s(?=\d)|/(?=\d+\s*=))(\d+)", _division),
        (r"(?<=\d\d\d)×(?=\d\d\d)", " by "),
        (r"(?<=\d)\s-\s(?=\d[\d.]*\s*(?:[=≈<>+*×÷/]))", " minus "),
        (r"(\d[\d.]*)\s-\s(\d[\d.]*)(?=\s(?:is|equals|makes)\b)", _difference),
        (r"(?i)\b(what is|what's|calculate|compute) (\d[\d.]*)\s-\s(?=\d)", r"\1 \2 minus "),
        (r"(?<=\d)\s-\s(?=\d)", lambda m: " to " if re.search("[A-Za-z]", m.string) else " minus "),
        (r"√\s?(?=\w)", " the square root of "),
        (r"(?<=[\w)%])\s*(==|!=|<=|>=|[≠≤≥≈÷×])\s*(?=[\w(.-])", _operator),
        (r"(?<=\d)\s*([=<>+*±])\s*(?=[\d(.a-z$€£-])", _operator),
        (r"(?<=[\w)])\s*([=<>+])\s*(?=\d)", _operator),
        (r"(?<=[\w)%])\s([=<>+±])\s(?=[\w(.-])", _operator),
        (r"\b([A-Za-z])( ?)([<>])\2(?=[A-Za-z\d]\b)", lambda m: f"{m[1]} {tables.OPERATORS[m[3]]} "),
        (r"(?<=[A-Za-z])\+\+", " plus plus"),
        (r"±\s?(?=\d)", " plus or minus "),
        # fractions, ordinals, ranges, plain numbers
        (
            r"\b(\d+)/(\d+)(?:st|nd|rd|th)s?\b",
            lambda m: f" {cardinal(int(m[1]))} {_denominator(int(m[2]), int(m[1]))} ",
        ),
        (r"\b50-50\b", " fifty fifty "),
        (r"(?<![\d/.,])(?:(\d+)\s+)?(\d+)\s?/\s?(\d+)(?![\d/]|\.\d)", _fraction),
        (r"\b(\d[\d,]*)(?:st|nd|rd|th|ST|ND|RD|TH)\b", lambda m: f" {ordinal(int(m[1].replace(',', '')))} "),
        (r"(?<![\w.,])'?(\d+)'?s\b", _plural),
        (rf"(?<![\w.,-])({_N})\s?-\s?(?=(?:{_N})(?![\w-]))", r"\1 to "),
        (r"(?<=\d)-(?=\d)", " to "),
        (r"(?<=\d)\s?/\s?(?=\d)", " "),
        (r"(?<![\w)\]])-(?=\.?\d)", " minus "),
        (
            r"(?<!\d)(\d{1,3})((?: \d{3}){2,}| 000\b)(?![\d,.]\d)",
            lambda m: f" {cardinal(int(m[0].replace(' ', '')))} ",
        ),
        (
            r"(?<=\d)([AEIO])(?![a-z])|(?<![A-Za-z])([AEIO])-?(?=\d)",
            lambda m: f" {tables.LETTERS[m[1] or m[2]]} ",
        ),
        (r"(\d)([A-Za-z])", r"\1 \2"),
        (r"([A-Za-z])-?(\d)", r"\1 \2"),
        (r"(?<!\w)'(\d\d)\b", lambda m: f" {_short_year(m[1])} "),
        (_N, lambda m: f" {plain(m[0])} "),
    )
    return tuple((re.compile(pattern), read) for pattern, read in table)


_RULES = _rules()
