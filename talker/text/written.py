"""Abbreviations, and addresses of the net: e-mail, web, files, hashtags, names with "@"."""

import re

from talker.text import tables
from talker.text.numbers import cardinal, digits

_TAIL = r"(?<![.,;:!?'\")\]])"
_EXTENSIONS = "|".join(sorted(tables.EXTENSIONS, key=len, reverse=True))
_DOMAINS = "|".join(sorted(tables.DOMAINS, key=len, reverse=True))
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_URL = re.compile(rf"\b(?:https?|ftp)://\S+{_TAIL}|\bwww\.\S+{_TAIL}", re.I)
_SITE = re.compile(rf"(?<![\w@./-])(?:[A-Za-z0-9-]+\.)+(?:{_DOMAINS})\b(?![.-]?\w)(?:/\S*{_TAIL})?")
_FILE = re.compile(
    rf"(?<![\w@/\\])(?:[A-Za-z]:\\|~?/|\.{{1,2}}/)?(?:[\w.-]+[/\\])*[\w-]+(?:\.[\w-]+)*\.(?:{_EXTENSIONS})\b(?![.-]?\w)",
    re.I,
)
_PATH = re.compile(r"(?<!\S)(?:~|[A-Za-z]:)?[/\\](?:[\w.-]+[/\\])+[\w.-]*\w|(?<!\S)/[a-z][\w-]+(?=\s|$)")
_HASHTAG = re.compile(r"(?<![\w&])#(\w*[A-Za-z]\w*)")
_HANDLE = re.compile(r"(?<![\w.])@(\w[\w.]*\w|\w)")
_DOTTED_FILE = re.compile(r"(?<![\w.])\.([a-z]{2,4})(?=\s+(?:file|extension|format)s?\b)")


def read_addresses(text: str) -> str:
    """Read addresses part by part: "bob@example.com" -> "bob at example dot com"."""
    text = re.sub(r"\bmailto:", "", text)
    text = re.sub(r"\b([A-Z]{1,3})&([A-Z]{1,3})\b", lambda m: f"{spelled(m[1])} and {spelled(m[2])}", text)
    text = _EMAIL.sub(lambda m: _address(m[0]), text)
    text = _URL.sub(lambda m: _address(re.sub(r"(?i)^(?:https?|ftp)://|^www\.", "", m[0])), text)
    text = _SITE.sub(lambda m: _address(m[0]), text)
    text = _FILE.sub(lambda m: _address(m[0], tables.EXTENSIONS), text)
    text = _PATH.sub(lambda m: _address(m[0]), text)
    text = _DOTTED_FILE.sub(lambda m: f" dot {tables.EXTENSIONS.get(m[1], m[1])}", text)
    text = re.sub(r"\b([CF])#", r"\1 sharp", text)
    text = _HASHTAG.sub(lambda m: f"hashtag {_camel(m[1])}", text)
    text = _HANDLE.sub(lambda m: f"at {_address(m[1])}", text)
    return re.sub(r"#\s?(?=\d)", " number ", text)


def _camel(name: str) -> str:
    """Split "ThrowbackThursday" and "Top10" into words."""
    name = re.sub(
        r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", name
    )
    return name.replace("_", " ")


def _address(written: str, last: dict[str, str] | None = None) -> str:
    """Parts and marks of an address in words; `last`: how the last part is said."""
    written = re.sub(r"^(?i:www)\.", "", written).rstrip("/")
    pieces = re.findall(r"[A-Za-z]+|\d+|[^\w\s]|_", written)
    said: list[str] = []
    site = re.match(r"[^/?#]*", written)
    for index, piece in enumerate(pieces):
        dotted = index > 0 and pieces[index - 1] == "."
        if (last is not None and index == len(pieces) - 1) or (last and dotted and index == len(pieces) - 2):
            extension = "".join(pieces[index:]).lower()
            if extension in last:
                said.append(last[extension])
                break
        if piece.isdigit():
            said.append(cardinal(int(piece)) if len(piece) < 4 and piece[0] != "0" else digits(piece))
        elif piece.isalpha():
            domain = dotted and last is None and site and piece.lower() in tables.DOMAINS
            said.append(tables.DOMAINS[piece.lower()] if domain else _camel(piece))
        else:
            said.append(tables.HANDLE_MARKS.get(piece, ""))
    return f" {' '.join(said)} ".replace("  ", " ").strip()


# --- abbreviations ------------------------------------------------------------------------------------------


_WEEKDAYS = re.compile(rf"\b(?:{'|'.join(day.title() for day in tables.WEEKDAYS)})\.")


# A unit with a full stop: "5 min.", "6 in."
UNIT_STOP = re.compile(
    rf"(?<=\d)([\s-]?)({'|'.join(unit for unit in tables.UNITS if len(unit) > 1)}|in)\.(?!\w)"
)
_STREETS = "|".join(tables.STREETS)
_DIRECTED = re.compile(
    rf"\b({_STREETS}|[Aa]venue|[Ss]treet|[Rr]oad|[Dd]rive|[Bb]oulevard),? ({'|'.join(tables.DIRECTIONS)})\b"
)
_STREET_NAME = re.compile(r"(?<=\w )(Ave|Blvd|Rd|Hwy|Pkwy)\b(?!\.)")
_STREET = re.compile(r"\S\s+[A-Z]\w*\s+$")


def is_street(before: str) -> bool:
    """Whether "St." or "Dr." after a text is part of a street's name: "on Elm Dr.", but not "Meet Dr. No"."""
    return _STREET.search(before) is not None


def ends_sentence(after: str) -> bool:
    """Whether the full stop of an abbreviation also ends its sentence, judged by the text after it."""
    after = after.lstrip(" \"')]")
    word = re.match(r"[A-Za-z']+", after)
    if not after.strip():
        return True
    return word is not None and after[0].isupper() and word[0].lower().split("'")[0] in tables.STARTERS


def read_abbreviations(text: str) -> str:
    """Read abbreviations: "Gov. Lee, e.g. in Jan. 2020" -> "governor Lee, for example in January 2020"."""
    text = re.sub(r"(?<![\w/])(w/o|b/c|a/c|n/a|c/o)(?![\w/])", lambda m: _plain(m[1]), text, flags=re.I)
    text = re.sub(r"(?<!\w)w/\s?(?=\w)", "with ", text)
    text = re.sub(
        r"\b(e\.g|i\.e|n\.b|w\.r\.t)\b\.?,?", lambda m: tables.DOTTED[m[1].lower()], text, flags=re.I
    )
    text = text.replace("&&", "&")
    text = re.sub(r"\b([A-F])([-+])(?=[\s.,;!?)]|$)", _grade, text)
    text = re.sub(r"(?<!\S)\.(?=[A-Za-z]{2,})", "dot ", text)
    text = re.sub(r"(?<![\w.])([A-Z])\.(?=\s+[a-z])", lambda m: spelled(m[1]), text)
    text = re.sub(r"\b(?:eg|ie)\b\.?(?=[\s,])", lambda m: tables.PLAIN_ABBREVIATIONS[m[0].strip(".")], text)
    text = re.sub(r"\bPh\.?\s?D\b(\.?)", lambda m: "P H D" + _stop(m, text), text)
    text = re.sub(r"(?<![\w.])((?:[A-Za-z]\.){2,})(?![A-Za-z]{2})", lambda m: _letters(m, text), text)
    text = re.sub(r"(?<![\w.])((?:[A-Z]\.\s?)+)(?=\s*[A-Z](?!\.))", lambda m: _initials(m, text), text)
    text = UNIT_STOP.sub(_unit, text)
    text = re.sub(r"\b([A-Za-z]+)\.(?![\w.])", lambda m: _dotted(m, text), text)
    text = re.sub(r"\b(Mr|Mrs|Ms|Dr|Prof|Gov|Sen|Sgt|Capt|Lt|Mt|St)(?=\s+[A-Z][a-z])", _title, text)
    text = re.sub(r"(?<=[A-Za-z0-9])\.(?=[A-Za-z]{2,}\b)(?!\w*\.\s)", _inner_dot, text)
    text = _DIRECTED.sub(lambda m: f"{tables.STREETS.get(m[1], m[1])} {tables.DIRECTIONS[m[2]]}", text)
    text = _STREET_NAME.sub(lambda m: tables.STREETS[m[1]], text)
    text = re.sub(r"\b(\d+(?:st|nd|rd|th)) [cC]\.(?!\w)", lambda m: f"{m[1]} century" + _stop(m, text), text)
    return re.sub(r"\bvs\b", "versus", text)


def _unit(match: re.Match[str]) -> str:
    """The unit without its full stop, which stays where a capital letter or nothing follows."""
    after = match.string[match.end() :].lstrip()
    if match[2] == "in":
        return match[0]  # "in." is in the table of units; "in" is a word
    return f"{match[1]}{match[2]}" + ("." if not after or after[0].isupper() else "")


def _grade(match: re.Match[str]) -> str:
    """ "A-" -> "eh minus", but "A - B" and "x + A + 1" are not grades."""
    return f"{spelled(match[1])} {'minus' if match[2] == '-' else 'plus'}"


def _plain(written: str) -> str:
    return tables.PLAIN_ABBREVIATIONS.get(written.lower(), written)


def _stop(match: re.Match[str], text: str) -> str:
    return "." if match[0].endswith(".") and ends_sentence(text[match.end() :]) else ""


def spelled(letters: str) -> str:
    """Names of letters: "ca" -> "C eh"."""
    return " ".join(tables.LETTERS.get(letter, letter) for letter in letters.upper())


def _letters(match: re.Match[str], text: str) -> str:
    letters = match[1].replace(".", "")
    if re.fullmatch(r"(?i)[ap]m", letters) and re.search(r"\d\s*$", text[: match.start()]):
        return match[0]  # a time, which `read_numerals` reads
    return spelled(letters) + _stop(match, text)


def _initials(match: re.Match[str], text: str) -> str:
    if ends_sentence(text[match.end() :]) and text[match.end() :].strip():
        return match[0]
    letters = re.findall(r"[A-Z]", match[1])
    return spelled("".join(letters)) + " "


def _inner_dot(match: re.Match[str]) -> str:
    """ "end.Next" ends a sentence, "node.js" has a dot."""
    after = match.string[match.end() :]
    before = re.search(r"[a-z]{2,}$", match.string[: match.start()])
    return ". " if before and re.match(r"[A-Z][a-z]*\b", after) else " dot "


def _title(match: re.Match[str]) -> str:
    before = re.search(r"([A-Za-z]+)\s+$", match.string[: match.start()])
    if match[1] == "St" and before and before[1][0].isupper() and before[1].lower() not in tables.STARTERS:
        return "street"
    return tables.TITLES[match[1].lower()]


def _dotted(match: re.Match[str], text: str) -> str:
    """The words of an abbreviation with its full stop, which stays where it ends the sentence."""
    word, after = match[1].lower(), text[match.end() :].lstrip()
    before = re.search(r"([A-Za-z]+)\s+$", text[: match.start()])
    street = is_street(text[: match.start()])
    directed = re.match(rf"(?:{'|'.join(tables.DIRECTIONS)})\b", after)  # "Oak Dr. NW"
    named = after[:1].isupper() and not ends_sentence(after) and not directed
    stop = "." if ends_sentence(after) else ""
    if after[:1].isdigit() and word in tables.BEFORE_NUMBER:
        return tables.BEFORE_NUMBER[word]
    if word == "dr" and re.match(r"(?:Dr|Mr|Mrs|Ms|Prof)\.", after) and before:
        return "drive" + stop
    alone = before is not None and before[1][0].isupper() and before[1].lower() not in tables.STARTERS
    street = street or (alone and re.match(r"[a-z,]", after) is not None)  # "MLK Dr. is closed"
    if word in ("st", "dr") and not named and (word == "st" or street):
        return ("street" if word == "st" else "drive") + stop
    if word in tables.SHORT_MONTHS and (match[1][0].isupper()):
        return tables.MONTHS[tables.SHORT_MONTHS[word] - 1] + stop
    if (
        word in tables.WEEKDAYS
        and match[1][0].isupper()
        and (re.match(r",|\d", after) or len(_WEEKDAYS.findall(text)) > 1)
    ):
        return tables.WEEKDAYS[word] + stop
    if word in tables.TITLES and (named or word not in tables.BEFORE_NAME):
        return tables.TITLES[word]
    if word in tables.ABBREVIATIONS and (
        word not in tables.AMBIGUOUS
        or re.match(r"[a-z,\d(]", after)
        or (word == "al" and before and before[1] == "et")
    ):
        return tables.ABBREVIATIONS[word] + stop
    if word in ("co", "sq") and named:
        return tables.ABBREVIATIONS[word]
    return match[0]
