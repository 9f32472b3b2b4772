"""Word lists by part of speech, and the rules of English inflection that the sentence generator uses."""

from functools import cache
from pathlib import Path

_ASSETS = Path(__file__).with_name("assets")
_VOWELS = "aeiou"


@cache
def lexicon() -> dict[str, tuple[str, ...]]:
    """Return the words of each part of speech, from assets/lexicon.txt."""
    lists: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (_ASSETS / "lexicon.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        head, colon, rest = line.partition(":")
        if colon and " " not in head:
            current = lists.setdefault(head, [])
            line = rest
        elif not line.startswith(" "):
            continue
        current += [word.replace("_", " ") for word in line.split()]
    return {name: tuple(dict.fromkeys(words)) for name, words in lists.items()}


@cache
def common_words() -> tuple[str, ...]:
    """Return about 10,800 common words with their inflected forms, from assets/common.txt."""
    return tuple((_ASSETS / "common.txt").read_text(encoding="utf-8").split())


@cache
def templates() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the templates of sentences and those of word salad, from assets/templates.txt."""
    text = (_ASSETS / "templates.txt").read_text(encoding="utf-8")
    sentences, salad = text.split("# word salad", 1)
    lines = [
        [line for line in part.splitlines()[1:] if not line.startswith("#")] for part in (sentences, salad)
    ]
    return tuple(lines[0]), tuple(lines[1])


@cache
def lines() -> dict[str, tuple[str, ...]]:
    """Return the templates of assets/lines.txt by section: short, talk, long."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (_ASSETS / "lines.txt").read_text(encoding="utf-8").splitlines()[1:]:
        if line.startswith("# "):
            current = sections.setdefault(line[2:], [])
        else:
            current.append(line)
    return {name: tuple(templates) for name, templates in sections.items()}


@cache
def _pairs(name: str) -> dict[str, str]:
    """Return a list of "stem/form" entries of the lexicon as a dictionary."""
    return dict((pair.split("/")[0], pair.split("/")[1]) for pair in lexicon()[name])


def plural(noun: str) -> str:
    """The plural: "story" -> "stories", "mouse" -> "mice"."""
    irregular = _pairs("irregular_plural").get(noun)
    if irregular is None and noun.endswith("man"):
        return noun[:-2] + "en"
    return irregular or _with_s(noun)


def _with_s(word: str) -> str:
    """Append s or es: "story" -> "stories", "box" -> "boxes"."""
    if word.endswith("y") and word[-2] not in _VOWELS:
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh", "ato", "ero", "go")) else "s")


def _replace_stem(verb: str, form: str) -> str:
    """Replace the first word: ("sit down", "sat") -> "sat down"."""
    _, space, rest = verb.partition(" ")
    return form + space + rest


def third(verb: str) -> str:
    """The third person singular: "carry" -> "carries", "wake up" -> "wakes up"."""
    return _replace_stem(verb, _with_s(verb.split()[0]) if verb.split()[0] != "go" else "goes")


def past(verb: str) -> str:
    """The past tense: "carry" -> "carried", "find" -> "found"."""
    stem = verb.split()[0]
    irregular = _pairs("irregular").get(stem)
    if irregular:
        return _replace_stem(verb, irregular)
    if stem.endswith("e"):
        return _replace_stem(verb, stem + "d")
    if stem.endswith("y") and stem[-2] not in _VOWELS:
        return _replace_stem(verb, stem[:-1] + "ied")
    return _replace_stem(verb, stem + (stem[-1] if stem in lexicon()["double"] else "") + "ed")


def gerund(verb: str) -> str:
    """The present participle: "make" -> "making", "sit down" -> "sitting down"."""
    stem = verb.split()[0]
    if stem.endswith("ie"):
        return _replace_stem(verb, stem[:-2] + "ying")
    if stem.endswith("e") and not stem.endswith("ee") and stem != "sew":
        return _replace_stem(verb, stem[:-1] + "ing")
    return _replace_stem(verb, stem + (stem[-1] if stem in lexicon()["double"] else "") + "ing")


def article(phrase: str) -> str:
    """The phrase with its indefinite article: "old dog" -> "an old dog"."""
    sounds_vowel = phrase[0] in _VOWELS and not phrase.startswith(("uni", "use", "usu", "eu", "one"))
    return ("an " if sounds_vowel or phrase.startswith(("hour", "honest")) else "a ") + phrase
