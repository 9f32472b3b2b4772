"""Recognises texts that are not English: by the script, common words, and letters of other languages."""

import re
import unicodedata
from collections.abc import Sequence

from talker.errors import UserError
from talker.text import tables
from talker.text.languages import (
    ARTICLES,
    ENGLISH,
    JARGON,
    LANGUAGES,
    LOANWORDS,
    PARTICLES,
    PHRASES,
    SHARED,
    SOUNDS,
    WHOLE,
)  # fmt: skip
from talker.text.phonemes import in_lexicon

_SCRIPTS = {
    "CJK": "Chinese or Japanese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean",
    "THAI": "Thai", "DEVANAGARI": "Devanagari",
}  # fmt: skip
_UNKNOWN = "in another language"
_LONGEST_WORD = 40  # letters; longer ones show no language
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_ELISION = re.compile(r"(?:l|qu|dell|all|nell|dall|sull)'(?=[aeiouhàâèéêîô])")
_ABBREVIATION = re.compile(
    rf"(?i)\b(?:{'|'.join({*tables.ABBREVIATIONS, *tables.BEFORE_NUMBER, *tables.TITLES})})\.(?!\w)"
)
_BORROWED = re.compile(r"[a-zα-ω'àáâäåæçèéêëíîïñóôöøûüœ]+")  # letters of words that English has borrowed
_VOWELS = re.compile(r"[aeiouyà-öø-ÿ]")
_PLAIN = str.maketrans(tables.PLAIN)


def check_english(text: str) -> None:
    """Check that a text is in English, as far as that can be seen.

    English with names, quotations or borrowed phrases of another language is accepted, and so are short
    texts in the Latin alphabet without a common word of another language.

    Raises:
        UserError: the text is in another script or language, which the message names.
    """
    check_script(text)
    language = latin_language(text)
    if language is not None:
        raise UserError(
            f"the text seems to be {language}, but only English can be spoken: translate it, or read it by "
            "English rules (say and dub: --force, in Python force=True)"
        )


def check_script(text: str) -> None:
    """Check that every letter is in the Latin alphabet. Single Greek letters are symbols and have names.

    Raises:
        UserError: a letter is in another script, which the message names.
    """
    found = foreign_letters(text)
    if found is not None:
        raise UserError(
            f"the text has {found}, but only English in the Latin alphabet can be spoken: translate it, or "
            "leave them out (say and dub: --force, in Python force=True)"
        )


def foreign_letters(text: str) -> str | None:
    """The script of the first word in another script, with the word: "Cyrillic letters ('мир')", or None."""
    words = (match[0] for match in re.finditer(r"[^\W\d_]+", text))
    scripts = ((word, script) for word in words if (script := _foreign_script(word)))
    return next((f"{script} letters ({word[:20]!r})" for word, script in scripts), None)


def _foreign_script(word: str) -> str | None:
    decomposed = unicodedata.normalize("NFKD", word)
    foreign = [char for char in decomposed if not char.isascii() and unicodedata.category(char)[0] == "L"]
    for char in foreign:
        script = unicodedata.name(char, "UNKNOWN").split()[0].split("-")[0]
        if script in ("LATIN", "MODIFIER", "FEMININE", "MASCULINE") or (
            script == "GREEK" and len(foreign) == 1
        ):
            continue
        return _SCRIPTS.get(script, script.title())
    return None


def latin_language(text: str) -> str | None:
    """The language of a text in the Latin alphabet, or None if it may be English.

    A single word is foreign if it is a common word of another language, or has accents and is neither
    borrowed nor a known name. A text is foreign if it has at least two common words of a language (or one,
    and words with accents), and more of them than of the common English ones. A text without common English
    words is foreign if it begins with an article and a word in small letters, if half of its words are common
    words of the language or unknown to the lexicon, if it has as many words with odd letters as English ones,
    or if all of three words, or most of at least four, are unknown. Names, quotations, borrowed phrases,
    abbreviations, acronyms and syllables that are sung do not count. A text in which every word has a capital
    is a name, unless all words are of one language.
    """
    text = _prepared(text)
    words = list(_WORD.finditer(text))
    if len(words) == 1:
        return _language_of_word(words[0][0])
    loud = text.isupper()
    titled = not loud and all(match[0][0].isupper() for match in words)
    written = [match[0] for match in words] if titled or loud else _counted(text, words)
    english = sum(word.lower() in ENGLISH and word.lower() not in SHARED for word in written)
    counted = [_key(word) for word in written if not (loud and _is_acronym(word))]
    if not counted or SOUNDS.issuperset(counted):
        return None
    named, known = _closest(counted)
    if " ".join(counted) in WHOLE:
        return named
    distinct = known.intersection(_own(counted))
    if titled or loud:  # "Guten Morgen", but not "Buenos Aires"
        common = all(word in known for word in counted) or (loud and len(distinct) > 1)
        return named if common and any(len(word) >= 4 for word in distinct) and not english else None
    marked = {word for word in counted if not word.isascii() and word not in LOANWORDS}
    score = sum(word in known for word in counted) + len(marked)
    if distinct and len(distinct) + len(marked) >= 2 and score > 1.5 * english:
        return named if score >= 0.15 * len(words) else None
    if english:
        return None
    if re.search("[¿¡]", text):
        return "Spanish"
    unknown = {word for word in counted if not _is_known(word)}
    if _is_name(words, known) and not {_key(word) for word in written[1:]} & (distinct | marked | unknown):
        return None  # "São Paulo is big"
    plain = set(counted) - unknown - distinct - marked
    if distinct:
        article = counted[0] in ARTICLES and len(counted) > 1 and counted[1] not in counted[0]
        foreign = sum(word in known or word in unknown for word in counted)
        least = len(counted) if any(len(word) >= 4 for word in distinct & unknown) else max(len(counted), 3)
        if article or 2 * foreign >= least:
            return named
    odd = {word for word in written if word.lower() in marked and _is_odd(word)}
    strong = any(word[0].islower() and (len(word) < 4 or not _BORROWED.fullmatch(word)) for word in odd)
    more = len(marked | unknown) - all(word[0].isupper() for word in odd)  # "Žižek spoke."
    if strong or (odd and more >= len(plain)) or (marked and len(unknown) > len(plain)):
        return _UNKNOWN
    most = len(unknown) > 0.6 * len(set(counted)) if len(unknown) >= 4 else unknown.issuperset(counted)
    return _UNKNOWN if len(unknown) >= 3 and most else None


def _prepared(text: str) -> str:
    """The text without what shows no language, such as addresses, numbers, quotations and phrases."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    text = re.sub(r"\b[A-Za-z]{0,3}[\u0370-\u03ff][A-Za-z]{0,3}\b", " ", text)  # "kΩ", "µF", "ΔT", "π"
    # Addresses, numbers with their units, and the numbers of list items
    text = re.sub(r"\S*[@/_#\\]\w\S*|\S+\.\w\S*|\S*\d\S*(?:\s[a-zA-Z]{1,4}\b)?", " ", text)
    text = re.sub(r"(?m)^\s*[ivx]+[.)]\s", "", text)
    unquoted = re.sub(r"[\"“„«][^\"“”„«»]*[\"”»]", ". ", text)
    if len(re.findall(r"[^\W\d_]+", unquoted)) >= 3:
        text = unquoted
    return _ABBREVIATION.sub(" ", PHRASES.sub(". ", text))


def _is_name(words: Sequence[re.Match[str]], known: frozenset[str]) -> bool:
    """Whether a text begins with two capitalised words that are not both of the language."""
    first, second = (match[0] for match in words[:2])
    return first[0].isupper() and second[0].isupper() and not known.issuperset((_key(first), _key(second)))


def _key(word: str) -> str:
    """A word as it stands in LANGUAGES: "L'addition" -> "l'"."""
    elided = _ELISION.match(word.lower())
    return elided[0] if elided else word.lower()


def _own(counted: Sequence[str]) -> list[str]:
    """The words that no English text would have."""
    return [word for word in counted if len(word) > 1 and word not in SHARED and word not in LOANWORDS]


def _closest(counted: Sequence[str]) -> tuple[str, frozenset[str]]:
    """Name and common words of the language that has most of the words."""
    own = _own(counted)
    scores = {
        name: (sum(word in known for word in counted), sum(word in known for word in own))
        for name, known in LANGUAGES.items()
    }
    leaders = [name for name in scores if scores[name] == max(scores.values())]
    named = " or ".join(leaders)
    return named if len(leaders) == 1 or named.count(" or ") == 1 else _UNKNOWN, LANGUAGES[leaders[0]]


def _language_of_word(written: str) -> str | None:
    """The language of a text of one word."""
    word = _key(written)
    named, known = _closest([word])
    common = word in known and word in _own([word]) and len(word) >= 4
    if common or written.lower() in WHOLE:
        return named
    odd = len(word) > 1 and not word.isascii() and word not in LOANWORDS and _is_odd(written)
    return _UNKNOWN if odd and len(word) <= _LONGEST_WORD else None


def _is_known(word: str) -> bool:
    """Whether the lexicon has a word, or it is a borrowed word or a sound ("psst")."""
    return (
        word in LOANWORDS or word in JARGON or not _VOWELS.search(word) or in_lexicon(word.removesuffix("'s"))
    )


def _is_odd(written: str) -> bool:
    """Whether a word with accents is neither an English word nor a known name: without them, too."""
    if "ß" in written or (written[0].islower() and not _BORROWED.fullmatch(written)):
        return True
    decomposed = unicodedata.normalize("NFKD", written.translate(_PLAIN).lower())
    plain = "".join(char for char in decomposed if not unicodedata.combining(char)).removesuffix("'s")
    return len(plain) < 4 or not in_lexicon(plain)


def _is_acronym(word: str) -> bool:
    """Whether a word of a text in capitals can be an acronym."""
    known = word in tables.SPELLED or word in tables.SAID or word in tables.EITHER
    return known or (len(word) <= 3 and word.isascii()) or not re.search("[AEIOUYÀ-ÖØ-Þ]", word)


def _counted(text: str, words: list[re.Match[str]]) -> list[str]:
    """The words that show the language: those that are not part of a name."""
    counted: list[str] = []
    for index, match in enumerate(words):
        following = words[index + 1][0] if index + 1 < len(words) else ""
        starts = index == 0 or re.search(r"[.?!:¿¡\"\n]\W*$", text[words[index - 1].end() : match.start()])
        name = match[0][0].isupper() and not starts  # "La Paz"
        particle = match[0].lower() in PARTICLES and following[:1].isupper() and not following.isupper()
        particle = particle and not (index == 0 and match[0] in ("Der", "Das"))  # "Der Hund bellt"
        if not name and not particle and len(match[0]) <= _LONGEST_WORD:
            counted.append(match[0])
    return counted
