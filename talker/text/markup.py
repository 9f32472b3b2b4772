"""Markdown and HTML -> the lines that a reader would read aloud."""

import html
import itertools
import re

from talker.text import tables
from talker.text.languages import ENGLISH
from talker.text.numbers import roman
from talker.text.phonemes import in_lexicon

_BLOCKS = "br|p|div|li|[uo]l|h[1-6]|tr|table|section|article|blockquote|pre|hr|title|body"
_HTML = (
    (re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>|<!doctype[^>]*>", re.I | re.S), ""),
    (re.compile(rf"</?(?:{_BLOCKS})\b[^<>]*>", re.I), "\n"),
    (re.compile(r"</?(?:td|th)\b[^<>]*>", re.I), ", "),
    (re.compile(r"<(?:https?://|mailto:)?([^\s<>]+[.@][^\s<>]+)>"), r"\1"),
    (re.compile(r"(?<=\w)<sup>\s*(-?\d+)\s*</sup>", re.I), r"^\1"),
)  # fmt: skip
_TAG = re.compile(r"</?([A-Za-z][\w:-]*)(\s[^<>]*)?/?>")
_MARKDOWN = (
    (re.compile(r"\[\^[^\[\]\s]+\]:?"), ""),
    (re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]+)\]\]"), r"\1"),
    (re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)|!?\[([^\[\]]+)\]\[[^\[\]]*\]"), r"\1\2"),
    (re.compile(r"\\([\\`*_{}\[\]()#+.!>~|-])"), r"\1"),
    (re.compile(r"(?<=\w)\s?\[\d+(?:[,-]\s?\d+)*\]"), ""),
    (re.compile(r"``?([^`]+)``?"), r"\1"),
    (re.compile(r"(?<!\d)\*\*\*?(?=\S)([^*]+?)(?<=\S)\*\*\*?"), r"\1"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w_])(__?)(?=[^\s_])(.+?)(?<=[^\s_])\1(?![\w_])"), r"\2"),
    (re.compile(r"(?<=\w)~(\d+)~"), r"\1"),
    (re.compile(r"(?<=\w)\^(-?\d+)\^"), r"^\1"),
    (re.compile(r"~~(?=\S)(.+?)~~|==(?=[^\s=])([^=]+?)=="), r"\1\2"),
)
_NO_LINE = re.compile(
    r"\s*(?:```.*|~~~.*|[-*_=](?:\s?[-*_=]){2,}|\|?[\s:|-]*-{3,}[\s:|-]*\|?|\[[^\]^]+\]:\s*\S+(?:\s+[\"'(].*)?)\s*"
)
_HEADING = re.compile(
    r"\s{0,3}(?:#{2,6}\s+|#\s+(?=.*[^\W\d])|=\s+(?=[^=]+\s=\s*$)|={2,6}\s*(?=[^=]+={2,6}\s*$))(.*?)\s*(?:#*|=*)\s*"
)
_QUOTE = re.compile(r"^\s{0,3}(?:>\s?)+(?=\D)")
_BULLET = re.compile(r"\s*(?:[-*+–—•‣◦▪·●○]\s+)(?:\[[ xX]\]\s+)?(?=\S)")
_INLINE_NUMBER = re.compile(r"(?:^|(?<=\s))(\d{1,2})(?:\.\)|[.)])(?:\s+(?=\S)|(?=[A-Z][a-z]))")
_ITEM = re.compile(
    r"(?!\(\d{3}\))\(?(?:(\d{1,3})|([a-h])(?=\))|([IVX]{2,}|[ivx]{2,}))(?:\.\)|[.)])(?:\s+(?=\S)|(?<=\d.)(?=[A-Z][a-z]))"
)
_ONLY_NUMBERS = re.compile(r"\(?(?:[ivx]+|\d{1,2})\)(?:\s+\(?(?:[ivx]+|\d{1,2})\))+")
_SERIES = re.compile(r"(?<![\w(])\(?([a-h]|[ivx]+)\)(?=\s)")
_NUMBERED = re.compile(rf"(?i)\b(?:{'|'.join({*tables.NUMBERED, *tables.BEFORE_NUMBER})})\.?\s$")
_ENDS = re.compile(r"[.?!…][\"'”’)\]*_]*$")
_LONGEST_WORD = 200  # characters
_SHORT_LINE = 3  # words; a line of at most so many is not part of a wrapped paragraph
_WRAPPED = 50  # characters; texts are wrapped at this width or more


def read_lines(text: str) -> list[str]:
    """The paragraphs, headings, list items and lines of a text, without markup, and each without line breaks.

    The number of a list item is kept as the item's first word: "1. Milk" -> "1, Milk". Bullets are dropped.
    A line break inside a wrapped paragraph is a space; any other line break ends a line. A text without
    markup and line breaks is returned as it is.
    """
    text = _typed_breaks(break_long_words(text))
    for pattern, replacement in _HTML:
        text = pattern.sub(replacement, text)
    closed = frozenset(re.findall(r"</([A-Za-z][\w:-]*)", text))
    text = html.unescape(_TAG.sub(lambda tag: "" if _is_markup(tag, closed) else tag[0], text))
    if re.search(r"(?m)^\s*(?:[IVX]{2,}|[ivx]{2,})[.)]\s", text):  # then "I." numbers an item, too
        text = re.sub(r"(?m)^(\s*)([IVXivx])(?=[.)]\s)", lambda m: f"{m[1]}{roman(m[2].upper())}", text)
    found: list[str] = []
    for paragraph in re.split(r"\n[^\S\n]*\n", re.sub(r"\r\n?|[\u2028\u2029\f\v]", "\n", text)):
        found += _lines_of(paragraph)
    return [line for line in found if line]


def _typed_breaks(text: str) -> str:
    """Replace typed "\\n", "\\r" and "\\t" by line breaks and spaces, unless it is a path."""
    if re.search(r"[A-Za-z]:\\|\\(?![nrt])", text) or not re.search(r"\s|\\n[^a-z]", text):
        return text
    return re.sub(r"\\([nrt])([a-z]*)", _typed_break, text)


def _typed_break(match: re.Match[str]) -> str:
    letter, word = match[1], match[2]
    if word and word not in ENGLISH and (in_lexicon(letter + word) or not in_lexicon(word)):
        return match[0]  # "folder\\name"
    return (" " if letter == "t" else "\n") + word


def _is_markup(tag: re.Match[str], closed: frozenset[str]) -> bool:
    """Whether "<...>" is a tag: it is closed, or has attributes, unlike "<John>" and "a<b and c>d"."""
    return tag[0].startswith("</") or tag[0].endswith("/>") or tag[1] in closed or "=" in (tag[2] or "")


def break_long_words(text: str) -> str:
    """Insert spaces into runs of more than _LONGEST_WORD characters, so that no pattern takes long."""
    return re.sub(rf"(\S{{{_LONGEST_WORD}}})(?=\S)", r"\1 ", text)


def _lines_of(paragraph: str) -> list[str]:
    rows = [row.rstrip() for row in paragraph.split("\n")]
    width = max(map(len, rows))
    found: list[str] = []
    closed, previous = True, ""  # whether the last line is complete, and its last row
    for row in rows:
        if not row.strip() or _NO_LINE.fullmatch(row):
            closed = True
            continue
        row = _QUOTE.sub("", row, count=1)
        heading, bullet = _HEADING.fullmatch(row), _BULLET.match(row)
        numbered = _ITEM.match(row.strip())
        if heading:
            content = heading[1]
        elif bullet:
            content = row[bullet.end() :]
        elif row.lstrip().startswith("|"):
            content = ", ".join(cell.strip() for cell in row.strip().strip("|").split("|") if cell.strip())
        else:
            content = row.strip()
        own = bool(heading or bullet or numbered or row.lstrip().startswith("|"))
        for pattern, replacement in _MARKDOWN:
            content = pattern.sub(replacement, content)
        items = _items(content)
        if found and not closed and not own and _continues(previous, row.strip(), width):
            found[-1] += " " + items[0]
            found += items[1:]
        else:
            found += items
        closed, previous = bool(heading), row
    return found


def _items(line: str) -> list[str]:
    """The items of a numbered list in one line: "1. Milk 2. Eggs" -> "1, Milk", "2, Eggs"."""
    if _ONLY_NUMBERS.fullmatch(line):  # "i) ii) iii)"
        return [", ".join(str(roman(one.upper()) or one) for one in re.findall(r"\w+", line))]
    if [mark[1] for mark in _SERIES.finditer(line)][:2] in (["a", "b"], ["i", "ii"]):  # "i) time, ii) money"
        line = _SERIES.sub(lambda mark: f"{_mark(mark[1]) or mark[1]},", line)
    marks = [
        m
        for m in _INLINE_NUMBER.finditer(line)
        if not _NUMBERED.search(line[max(0, m.start() - 20) : m.start()])
    ]
    run = [mark for k, mark in enumerate(marks) if int(mark[1]) == int(marks[0][1]) + k]
    if len(run) < 2 or len(run) != len(marks) or run[0][1] not in ("0", "1"):
        run = []
    cuts = [0, *(mark.start() for mark in run if mark.start()), len(line)]
    parts = [line[a:b].strip() for a, b in itertools.pairwise(cuts)]
    return [_numbered(part) for part in parts if part]


def _numbered(item: str) -> str:
    """ "1. Milk" -> "1, Milk", "b) eggs" -> "B, eggs"; a text without a mark is returned as it is."""
    mark = _ITEM.match(item)
    said = mark and (mark[1] or _mark(mark[2] or mark[3]))
    return f"{said}, {item[mark.end() :]}" if mark and said else item


def _mark(mark: str) -> str | int | None:
    """The name of a letter or the value of a Roman numeral that marks a list item: "b" -> "B", "ii" -> 2."""
    capital = mark.upper()
    return tables.LETTERS.get(capital, capital) if mark in tuple("abcdefgh") else roman(capital)


def _continues(before: str, after: str, width: int) -> bool:
    """Whether a line break between two rows only wraps a paragraph of `width` characters."""
    if _ENDS.search(before):
        return True  # the sentence ends anyway
    if before.endswith((",", ";", "-", "–", "—")):
        return True
    if before.endswith(":"):
        return False
    wraps = width >= _WRAPPED and len(before) + 1 + len(after.split()[0]) > width
    return wraps or (after[:1].islower() and len(before.split()) > _SHORT_LINE)
