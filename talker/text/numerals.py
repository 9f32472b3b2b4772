"""All numbers of a text in words: the patterns, and the order in which they are applied."""

import re
from collections.abc import Callable

from talker.text import amounts, codes, dates, quantities, tables
from talker.text.numbers import cardinal, digits, number, ordinal, plain, year

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
_COUNTED = rf"(?:[a-z]+ )?(?:{'|'.join(sorted(tables.COUNTED))})\b"
_IP = r"\d{1,3}(?:\.\d{1,3}){3}"
_DIGIT = r"(?<![\w.,])"  # a number starts here


def read_numerals(text: str) -> str:
    """Replace every number by words: "$3.50 at 7:05" -> "three dollars fifty cents at seven oh five".

    Whole numbers from 1100 to 2099 without a comma are read as years: "1984" -> "nineteen eighty four".
    """
    for pattern, read in _RULES:
        text = pattern.sub(read, text)
    return re.sub(r"[^\S\n]+", " ", text)


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
        (
            rf"(?<![\w.,$€£-])((?:(?<!\S)-)?(?:{_N}))(?P<unit>\s?(?!0s)(?:{_UNIT}|%|°[CFK]?))?(?P<dash>\s?-\s?)"
            rf"(?=(?:{_N})\s?(?:(?:{_UNIT}|{_CODE})(?![\w^])|%|°|{_SIGN}))(?![^.?!]*=)",
            quantities.range_of,
        ),
        (rf"(?<![\w.,])((?:{_N})\s?(?:{_UNIT}))\s-\s(?=(?:{_N})\s?(?:{_UNIT})\s*=)", r"\1 minus "),
        (r"(?<=[\w)])\*\*(?=[\w(-])|(?<=\b\w) \*\* (?=\w\b|[(-])", "^"),
        (r"~\s?(?=[\d.$€£¥])", " about "),
        (r"(?<![\w/])24/7/365(?![\w/])", " twenty four seven three sixty five "),
        # dates
        (rf"\b({_DAY})\b\.?(?:\s?-\s?|\s(to|through|thru|until)\s)({_DAY})\b\.?", dates.weekdays),
        (rf"\b(?:{_WEEKDAY})(?:/(?:{_WEEKDAY}))+\b", dates.weekday_list),
        (
            rf"\b({_MONTH})\b\.?\s?-\s?({_MONTH})\b\.?(?!\s?\d)",
            lambda m: f"{dates.month(m[1])} to {dates.month(m[2])}",
        ),
        (r"(?<=\d)T(?=\d\d:\d\d)", ", "),
        (rf"\b({_WEEKDAY})\b\.?(,?\s+)(?=(?:{_MONTH}|\d))", dates.weekday),
        (rf"{_DIGIT}(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}}){end}", dates.numeric_date),
        (number_date, dates.numeric_date),
        (rf"{_DIGIT}(\d{{1,2}})\.(\d{{1,2}})\.(\d{{4}}){end}(?!\.\d)", dates.numeric_date),
        (r"\b((?:on|by|until|since|before|after|due|from)\s+)(\d{1,2})/(\d{1,2})(?![\d/])", dates.short_date),
        (
            rf"\b({_MONTH})\b\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:\s?(?:-|to)\s?(\d{{1,2}})(?:st|nd|rd|th)?)?"
            rf"(?:,?\s+([12]\d{{3}}))?\b(?![\d:%]|\.\d|,\d{{3}}|\s?[ap]\.?m)",
            dates.month_day,
        ),
        (
            rf"\b(the\s+)?(?<![\d.,:/$€£-])(\d{{1,2}})(?:st|nd|rd|th)?\s+({_MONTH})\b\.?(?:,?\s+([12]\d{{3}})\b)?",
            dates.day_month,
        ),
        (rf"\b({_SHORT_MONTH})\b\.?(?=\s+'?\d|\s?-\s?(?:{_MONTH})\b)", lambda m: dates.month(m[1])),
        (rf"(?<=[a-z])\s?-\s?(?=(?:{_MONTH})\b)", " to "),
        (
            r"(?<!\d)((?:19|20)\d\d)[-/](\d\d)\b(?![-/])",
            lambda m: f" {year(int(m[1]))} to {dates.short_year(m[2])}",
        ),
        # times
        (r"(?<![\w.:])(\d{1,3})h\s?([0-5]?\d)\s?m(?:in)?(?:\s?([0-5]?\d)s)?\b", dates.duration),
        (r"(?<![\w.:])()([0-5]?\d)m\s?([0-5]?\d)s\b", dates.duration),
        (r"(?<![\w.:])([01]?\d|2[0-4])h([0-5]\d)\b", lambda m: dates.clock(m[1], m[2])),
        (rf"(?<![\w.])(\d{{1,2}}(?::[0-5]\d)?(?:\s?[AaPp]\.?[Mm]\.?)?)\s?-\s?(?={half})", r"\1 to "),
        (rf"(?<![\w.:]){half}", dates.half_day),
        (rf"(?<![\w:])({_TIME})\s?-\s?(?={_TIME})", r"\1 to "),
        (r"(?<![\w:.])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?:\s+o'clock)?(?![\d:])Z?", dates.time),
        (
            rf"{_DIGIT}({_IP}):(\d{{1,5}})\b",
            lambda m: f"{codes.dotted(m[1])} port {digits(m[2])}",
        ),
        (r"(?<![\w:.])(2[5-9]|[3-9]\d|1\d\d):([0-5]\d)(?![\w:])", dates.running_time),
        (r"(\d):(\d)", r"\1 to \2"),
        # codes
        (r"\b802\.(\d\d?)([A-Za-z]{0,2})\b", codes.standard),
        (
            rf"\b(?:((?i:zip)(?: [Cc]odes?)?(?: is)?:?)|((?<=, )[A-Z]{{2}}|(?i:{_STATE}))) "
            r"(\d{5}(?:-\d{4})?)\b(?![.,]\d)",
            codes.zip_code,
        ),
        (r"(?<!\w)\(0\d{2,4}\)\s?\d{3,4}[ -]?\d{3,4}(?!\w)", codes.telephone),
        (r"(?<![\w.])(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\w)", codes.telephone),
        (r"(?<!\w)\+\d[\d ().-]{6,}\d(?!\w)", codes.international),
        (
            r"(?<![\w.,$€£-])\d{3}-\d{4}(?![\w-])|(?<![\w.,])0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}(?!\w)",
            codes.telephone,
        ),
        (r"(?<!\w)\d{4}(?:[ -]\d{4}){2,}(?!\w)", codes.telephone),
        (r"(?<![\w.,])\d+(?:-\d+){2,}(?!\w)", codes.telephone),
        (r"(?i)(?<=\b(?:call|dial).me[: ])\s*\d{3} \d{4}\b|(?<=\bcall )\d{3} \d{4}\b", codes.telephone),
        (r"\b1-(8\d\d)-(?=[A-Za-z])", lambda m: f"one {codes.toll_free(m[1])} "),
        (
            rf"(?i)((?:^\W*|\b(?:{_CALL}|number|mobile|cell|fax|tel|telephone|whatsapp|text|contact)\b[^.?!\d]{{0,40}}))"
            r"(?<![\w.,$€£¥-])(1?)(\d{3})(\d{3})(\d{4})(?=\W*$|[\s,;?!]|\.(?!\d))",
            codes.ten_digits,
        ),
        (r"\b([A-Z]+)(\d+)-(?=\1\d)", r"\1\2 to "),
        (r"(?<=[A-Za-z])(\d+)-(\d+)(?![\d.-])|(?<=[A-Z]-)(\d+)-(\d+)(?![\d.-])", codes.part_number),
        (
            r"\b(000|112|911|999)( or | and )(000|112|911|999)\b(?![-.,:/]\d)",
            lambda m: f" {digits(m[1])}{m[2]}{digits(m[3])} ",
        ),
        (rf"(?i)\b({_CALL})\s+(\d{{3}})\b(?![-.,:/]\d)", codes.emergency),
        (
            rf"(?i)(\b(?:{_CALL}|emergency)\b[^.?!]{{0,90}}?(?:\b(?:or|and|then)|:))\s+({'|'.join(tables.SHORT_NUMBERS)})\b(?![-.,:/]\d)",
            codes.emergency,
        ),
        (
            rf"{_DIGIT}(v?)(\d+(?:\.\d+)?)\.[xX]\b",
            lambda m: f"{m[1] and 'version '}{codes.version_number(m[2])} point X",
        ),
        (r"(?i)\b(v\.?\s?)?(?<![\d.])(\d+(?:\.\d+){2,})(?![\w.]*\d)(?!\w)", codes.version),
        (r"\b(v|V(?=\d+\.))(\d+(?:\.\d+)?)\b", codes.version),
        (
            rf"(?i)\b({'|'.join(tables.VERSIONED)})(\s+|-|)(\d+\.\d+)\b(?!\.\d|\s?%)",
            lambda m: f"{m[1]} {codes.version_number(m[3])}",
        ),
        (
            r"\b((?:Boeing|Airbus|Flight|Highway|Interstate|Porsche|Peugeot)\s+(?:[A-Z]-?)?|\b[AI]-?)(\d)(\d\d)\b",
            codes.three_digits,
        ),
        # amounts
        (
            rf"(?P<minus>(?<![\w)])-)?(?:\b(?P<country>US|CA|AU|NZ|HK|[CA]))?(?P<sign>{_SIGN})\s?(?P<first>{_EURO}|{_N})(?P<scale>{_SCALE})?"
            rf"(?:\s?-\s?(?:{_SIGN})?(?P<last>{_N})(?P<last_scale>{_SCALE})?)?",
            amounts.money,
        ),
        (
            rf"(?P<minus>(?!))?(?P<country>(?!))?\b(?P<sign>{_CODE})\.?\s?(?P<first>{_N})(?P<scale>{_SCALE})?(?P<last>(?!))?(?P<last_scale>(?!))?",
            amounts.money,
        ),
        (rf"{_DIGIT}({_EURO}|{_N})({_SCALE})?\s?({_SIGN}|¢|(?:{_CODE})\b)(?!\s?\d)", amounts.money_after),
        (
            rf"{_DIGIT}([1-9]\d?)p\b",
            lambda m: f" {cardinal(int(m[1]))} {'penny' if m[1] == '1' else 'pence'}",
        ),
        (rf"{_DIGIT}(\d+)\s?pt(?=\s+(?:font|type|text|size)\b)", r"\1 point"),
        (r"\b(dollars?|euros?|pounds?|cents?|yen)\s?/\s?([A-Za-z]+)\b", amounts.per),
        (
            rf"{_DIGIT}({_N})([kKmMbBtT])(?=\s+{_COUNTED})",
            lambda m: f" {number(m[1])} {tables.SCALES[m[2].lower()]}",
        ),
        # quantities
        (r"(?<=\d)\s?in\.(?=,)", " in"),
        (rf"{_DIGIT}(\d+)'\s?-\s?(?=(\d+)'(?!\w))", r"\1 to "),
        (r"(?<= to )(\d+)()'(?!\w)", quantities.feet),
        (
            rf"{_DIGIT}(\d+)\s?°\s?(\d+(?:\.\d+)?)\s?'\s?(?:(\d+(?:\.\d+)?)\s?(?:\"|'')\s?)?([NSEW]\b)?",
            quantities.angle,
        ),
        (rf"{_DIGIT}(\d+)\s?(?:ft|feet|foot)\b\.?\s(\d{{1,2}}(?:\.\d+)?)\s?in\b\.?(?!\s\d)", quantities.feet),
        (rf"{_DIGIT}(\d+)\s?'\s?(\d{{1,2}}(?:\.\d+)?)(?:\s?\"|'')?(?!\w)", quantities.feet),
        (
            r"(?<![\d/])((?:\d+[ -])?\d+/\d+)\s?(?:\"(?!\w)|in(?=\s+(?:tall|wide|long|deep|high|thick)\b))",
            r"\1 inch",
        ),
        (rf"{_DIGIT}({_N})\"(?!\w)", quantities.inches),
        (rf"{_DIGIT}(\d+)()'(?=\s+(?:tall|long|wide|deep|high)\b)", quantities.feet),
        (
            rf"{_DIGIT}({_N})\s?in(?=\.?(?:$|,)|\s+(?:tall|wide|long|deep|high|thick|x)\b)\b",
            quantities.inches,
        ),
        (r"(?<=\d)\s?(%|°[CF]?)\s?-\s?(?=\d)", r"\1 to "),
        (r"(?<![^\s(\[=<>≤≥±×÷*/+,:\"'])-(?=\.?\d)", " minus "),
        (r"(?<=\d)\s?deg\.?\s?(?=[CFNSEW]\b)", "°"),
        (rf"({_N})\s?°\s?([CFKNSEW]\b)?", quantities.degrees),
        (rf"({_N})\s?(?=-\s?(?:{_N})\s?(?:%|(?:{_UNIT})\b))-\s?", r"\1 to "),
        (rf"({_N})\s?%", lambda m: f" {number(m[1])} percent "),
        (
            rf"{_DIGIT}({_N})\s?(sq\.?|square|cu\.?|cubic)\s?(ft|m|km|mi|in\.|yd|cm)\b\.?(?=\W|$)",
            quantities.square,
        ),
        (
            rf"(?<![\w.,$€£^])(?<!\^-)(?P<n>(?:\d+ )?\d+/\d+|(?:{_N})(?:{_EXPONENT})?)"
            rf"(?P<space>\s|-)?(?P<unit>{_UNIT})(?P<power>\^?[23])?"
            rf"(?:/(?P<per>{_UNIT})(?P<per_power>\^?[23])?)?(?![\w^])",
            quantities.quantity,
        ),
        (rf"{_DIGIT}({_N})([kM]|bn|mn)\b", lambda m: f" {number(m[1])} {tables.SCALES[m[2].lower()]}"),
        # arithmetic
        (
            rf"{_DIGIT}(\d+)\s?x\s?(?=\d)",
            lambda m: f"{m[1]} {'times' if ' ' in m[0] else 'by'} ",
        ),
        (r"(?<=\d)x\b(?!\s*[-+=])", " times "),
        (r"(?<=\d)!(?=\s*[-=+*/×]|\?)|(?<=^\d)!$|(?<=^\d\d)!$", " factorial "),
        (rf"{_DIGIT}(?:{_N})[eE][-+]?\d+\b", lambda m: f" {quantities.scientific(m[0])} "),
        (r"(?<=\d)-(?=\d[\d.]*\s*=)", " minus "),
        (
            r"(?i)\b(in|since|year|around|about|circa) (10\d\d)\b(?![,.]\d)",
            lambda m: f"{m[1]} {year(int(m[2]))}",
        ),
        (r"(?<=\w)\^\s?(-?\d+)", quantities.power),
        (r"(?<=\w)\^(?=\w)", " to the power of "),
        (r"(\d+)(?:\s/\s(?=\d)|/(?=\d+\s*=))(\d+)", quantities.division),
        (r"(?<=\d\d\d)×(?=\d\d\d)", " by "),
        (r"(?<=\d)\s-\s(?=\d[\d.]*\s*(?:[=≈<>+*×÷/]))", " minus "),
        (r"(\d[\d.]*)\s-\s(\d[\d.]*)(?=\s(?:is|equals|makes)\b)", quantities.difference),
        (r"(?i)\b(what is|what's|calculate|compute) (\d[\d.]*)\s-\s(?=\d)", r"\1 \2 minus "),
        (r"(?<=\d)\s-\s(?=\d)", lambda m: " to " if re.search("[A-Za-z]", m.string) else " minus "),
        (r"√\s?(?=\w)", " the square root of "),
        (r"(?<=[\w)%])\s*(==|!=|<=|>=|[≠≤≥≈÷×])\s*(?=[\w(.-])", quantities.operator),
        (r"(?<=\d)\s*([=<>+*±])\s*(?=[\d(.a-z$€£-])", quantities.operator),
        (r"(?<=[\w)])\s*([=<>+])\s*(?=\d)", quantities.operator),
        (r"(?<=[\w)%])\s([=<>+±])\s(?=[\w(.-])", quantities.operator),
        (r"\b([A-Za-z])( ?)([<>])\2(?=[A-Za-z\d]\b)", lambda m: f"{m[1]} {tables.OPERATORS[m[3]]} "),
        (r"(?<=[A-Za-z])\+\+", " plus plus"),
        (r"±\s?(?=\d)", " plus or minus "),
        # fractions, ordinals, ranges, plain numbers
        (
            r"\b(\d+)/(\d+)(?:st|nd|rd|th)s?\b",
            lambda m: f" {cardinal(int(m[1]))} {quantities.denominator(int(m[2]), int(m[1]))} ",
        ),
        (r"\b50-50\b", " fifty fifty "),
        (
            rf"{_DIGIT}(\d+\.\d+)\s?/\s?(\d+(?:\.\d+)?)(?![\w/])(\s*equals)?",
            quantities.rating,
        ),
        (r"(?<![\d/.,])(?:(\d+)\s+)?(\d+)\s?/\s?(\d+)(?![\d/]|\.\d)", quantities.fraction),
        (r"\b(\d[\d,]*)(?:st|nd|rd|th|ST|ND|RD|TH)\b", lambda m: f" {ordinal(int(m[1].replace(',', '')))} "),
        (r"(?<![\w.,])'?(\d+)'?s\b", quantities.plural),
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
        (r"(?<!\w)'(\d\d)\b", lambda m: f" {dates.short_year(m[1])} "),
        (_N, lambda m: f" {plain(m[0])} "),
    )
    return tuple((re.compile(pattern), read) for pattern, read in table)


_RULES = _rules()
