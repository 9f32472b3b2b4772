"""Word lists by part of speech and the few rules of English that the sentence generator needs."""

from functools import cache
from pathlib import Path

_ASSETS = Path(__file__).with_name("assets")
_VOWELS = "aeiou"


@cache
def lexicon() -> dict[str, tuple[str, ...]]:
    """Part of speech -> its words, from assets/lexicon.txt."""
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
    """About 10,800 common words in all their forms, from assets/common.txt."""
    return tuple((_ASSETS / "common.txt").read_text(encoding="utf-8").split())


@cache
def templates() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Templates of sentences and of word salad, from assets/templates.txt."""
    text = (_ASSETS / "templates.txt").read_text(encoding="utf-8")
    sentences, salad = text.split("# word salad", 1)
    lines = [
        [line for line in part.splitlines()[1:] if not line.startswith("#")] for part in (sentences, salad)
    ]
    return tuple(lines[0]), tuple(lines[1])


@cache
def _pairs(name: str) -> dict[str, str]:
    return dict((pair.split("/")[0], pair.split("/")[1]) for pair in lexicon()[name])


def plural(noun: str) -> str:
    """ "story" -> "stories", "mouse" -> "mice"."""
    irregular = _pairs("irregular_plural").get(noun)
    if irregular is None and noun.endswith("man"):
        return noun[:-2] + "en"
    return irregular or _with_s(noun)


def _with_s(word: str) -> str:
    if word.endswith("y") and word[-2] not in _VOWELS:
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh", "ato", "ero", "go")) else "s")


def _on_first(verb: str, form: str) -> str:
    _, space, rest = verb.partition(" ")
    return form + space + rest


def third(verb: str) -> str:
    """ "carry" -> "carries", "wake up" -> "wakes up"."""
    return _on_first(verb, _with_s(verb.split()[0]) if verb.split()[0] != "go" else "goes")


def past(verb: str) -> str:
    """ "carry" -> "carried", "find" -> "found"."""
    stem = verb.split()[0]
    irregular = _pairs("irregular").get(stem)
    if irregular:
        return _on_first(verb, irregular)
    if stem.endswith("e"):
        return _on_first(verb, stem + "d")
    if stem.endswith("y") and stem[-2] not in _VOWELS:
        return _on_first(verb, stem[:-1] + "ied")
    return _on_first(verb, stem + (stem[-1] if stem in lexicon()["double"] else "") + "ed")


def gerund(verb: str) -> str:
    """ "make" -> "making", "sit down" -> "sitting down"."""
    stem = verb.split()[0]
    if stem.endswith("ie"):
        return _on_first(verb, stem[:-2] + "ying")
    if stem.endswith("e") and not stem.endswith("ee") and stem != "sew":
        return _on_first(verb, stem[:-1] + "ing")
    return _on_first(verb, stem + (stem[-1] if stem in lexicon()["double"] else "") + "ing")


def article(phrase: str) -> str:
    """ "old dog" -> "an old dog"."""
    sounds_vowel = phrase[0] in _VOWELS and not phrase.startswith(("uni", "use", "usu", "eu", "one"))
    return ("an " if sounds_vowel or phrase.startswith(("hour", "honest")) else "a ") + phrase
