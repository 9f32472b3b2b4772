"""Amounts of money in words."""

import re

from talker.text import tables
from talker.text.numbers import cardinal, number

Match = re.Match[str]


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


def money(match: Match) -> str:
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


def money_after(match: Match) -> str:
    """ "5 €", "1.50 USD", "50¢"."""
    singular = _before_noun(match)
    if match[3] == "¢":
        return f" {number(match[1])} {'cent' if singular or match[1] == '1' else 'cents'}"
    return _amount(match[3], match[1], match[2] or "", singular).rstrip()


def per(match: Match) -> str:
    """ "dollars/kg" -> "dollars per kilogram"."""
    unit = tables.UNITS.get(match[2])
    return f"{match[1]} per {unit[0] if unit else match[2]}"
