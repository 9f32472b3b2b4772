"""Recognises texts that are not English: by the script, common words, and letters of other languages."""

import functools
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
LEAST_SHARE = 0.15  # of common words of another language in a text of that language
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

    A text of one word is judged by `_language_of_word`, one in which every word has a capital by
    `_language_of_title`, and any other by the words that `_Evidence` counts.
    """
    text = _prepared(text)
    words = list(_WORD.finditer(text))
    if len(words) == 1:
        return _language_of_word(words[0][0])
    if text.isupper() or all(match[0][0].isupper() for match in words):
        return _language_of_title([match[0] for match in words], loud=text.isupper())
    evidence = _Evidence(text, words)
    if not evidence.counted or SOUNDS.issuperset(evidence.counted):
        return None
    if " ".join(evidence.counted) in WHOLE:
        return evidence.named
    if evidence.has_common_words:
        return evidence.named if evidence.score >= LEAST_SHARE * len(words) else None
    if evidence.english:
        return None
    if re.search("[¿¡]", text):
        return "Spanish"
    if evidence.is_about_a_name:
        return None
    if evidence.is_mostly_foreign:
        return evidence.named
    return _UNKNOWN if evidence.has_foreign_letters or evidence.is_mostly_unknown else None


class _Evidence:
    """What the words of a text say about its language.

    Names, quotations, borrowed phrases, abbreviations and addresses are not counted.

    Attributes:
        counted: the words that are counted, as they stand in `LANGUAGES`.
        named: name of the language that has most of them as common words.
        english: number of words that are common in English, and in no other language.
        distinct: common words of that language that no English text would have.
        marked: words with accents that English has not borrowed.
        unknown: words that the lexicon lacks.
        score: number of common words of the language, and of marked ones.
    """

    def __init__(self, text: str, words: list[re.Match[str]]) -> None:
        self._words, self._written = words, _counted(text, words)
        self.counted = [_key(word) for word in self._written]
        self.english = sum(_is_english(word) for word in self._written)
        self.named, self._known = _closest(self.counted)
        self.distinct = self._known.intersection(_own(self.counted))
        self.marked = {word for word in self.counted if not word.isascii() and word not in LOANWORDS}
        self.score = sum(word in self._known for word in self.counted) + len(self.marked)

    @functools.cached_property
    def unknown(self) -> set[str]:
        """See the attributes."""
        return {word for word in self.counted if not _is_known(word)}

    @property
    def has_common_words(self) -> bool:
        """Whether there are two common words of the language (or one, and accents), and few English ones."""
        two = len(self.distinct) > 0 and len(self.distinct) + len(self.marked) >= 2
        return two and self.score > 1.5 * self.english

    @property
    def is_about_a_name(self) -> bool:
        """Whether a foreign name begins an English sentence: "São Paulo is big"."""
        first, second = (match[0] for match in self._words[:2])
        name = first[0].isupper() and second[0].isupper()
        name = name and not self._known.issuperset((_key(first), _key(second)))
        rest = {_key(word) for word in self._written[1:]}
        return name and not rest & (self.distinct | self.marked | self.unknown)

    @property
    def is_mostly_foreign(self) -> bool:
        """Whether an article and a noun begin the text, or half of its words are not English."""
        if not self.distinct:
            return False
        counted = self.counted
        article = counted[0] in ARTICLES and len(counted) > 1 and counted[1] not in counted[0]
        foreign = sum(word in self._known or word in self.unknown for word in counted)
        long = any(len(word) >= 4 for word in self.distinct & self.unknown)
        return article or 2 * foreign >= (len(counted) if long else max(len(counted), 3))

    @property
    def has_foreign_letters(self) -> bool:
        """Whether there are as many words with letters of other languages as plain English ones."""
        odd = {word for word in self._written if word.lower() in self.marked and _is_odd(word)}
        strong = any(word[0].islower() and (len(word) < 4 or not _BORROWED.fullmatch(word)) for word in odd)
        plain = len(set(self.counted) - self.unknown - self.distinct - self.marked)
        foreign = len(self.marked | self.unknown) - all(word[0].isupper() for word in odd)  # "Žižek spoke."
        more = bool(self.marked) and len(self.unknown) > plain
        return strong or (bool(odd) and foreign >= plain) or more

    @property
    def is_mostly_unknown(self) -> bool:
        """Whether the lexicon lacks all of three words, or most of at least four."""
        unknown = self.unknown
        if len(unknown) >= 4:
            return len(unknown) > 0.6 * len(set(self.counted))
        return len(unknown) >= 3 and unknown.issuperset(self.counted)


def _language_of_title(written: Sequence[str], loud: bool) -> str | None:
    """The language of a text in which every word has a capital: "Guten Morgen", but not "Buenos Aires".

    It is a name, unless all words are common ones of a language. `loud`: all letters are capitals; then
    acronyms are not counted, and two common words are enough.
    """
    counted = [_key(word) for word in written if not (loud and _is_acronym(word))]
    if not counted or SOUNDS.issuperset(counted):
        return None
    named, known = _closest(counted)
    if " ".join(counted) in WHOLE:
        return named
    distinct = known.intersection(_own(counted))
    common = all(word in known for word in counted) or (loud and len(distinct) > 1)
    foreign = common and any(len(word) >= 4 for word in distinct)
    return named if foreign and not any(map(_is_english, written)) else None


def _is_english(word: str) -> bool:
    """Whether a word is common in English, and in no other language."""
    return word.lower() in ENGLISH and word.lower() not in SHARED


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
