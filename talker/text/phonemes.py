"""Phones of American English: the inventory, IPA -> phones, and the pronunciation of a word."""

import re
import sqlite3
import threading
from contextlib import closing
from functools import cache, lru_cache
from typing import Any

_CONSONANTS = "p b t d k ɡ ʔ ɾ f v θ ð s z ʃ ʒ h tʃ dʒ m n ŋ l ɹ j w"
_VOWELS = "i ɪ ɛ æ ɑ ɔ ʊ u ʌ ə ɜ ɚ ɐ eɪ aɪ ɔɪ aʊ oʊ"
STRESS_MARKS = "ˈˌ"
VOWELS = tuple(_VOWELS.split())
PHONES = tuple(f"{_CONSONANTS} {_VOWELS}".split())
"""Every phone that `split_phones` returns, without stress. The tokenizer and the puppet corpus share it."""

CACHED_WORDS = 16_384  # pronunciations kept in memory; English text rarely uses more words
_PHONE_SET, _VOWEL_SET = frozenset(PHONES), frozenset(VOWELS)
# IPA symbols that stand for one of our phones, and marks that carry no phone.
_SAME = str.maketrans({"g": "ɡ", "r": "ɹ", "ᵻ": "ɪ", "x": "k", "ɬ": "l"} | dict.fromkeys("ː̩̃ʲ͡|‖", ""))
# Vowels that the inventory has only as part of a diphthong, or under another symbol.
_SINGLE_VOWELS = {"a": "ɑ", "e": "eɪ", "o": "ɔ"}
# Names of letters, and words whose lexicon entry is the form used before one particular other word.
_OVERRIDES = {
    "at": "æt", "it": "ɪt", "live": "lˈɪv", "another": "ɐnˈʌðɚ", "our": "aʊɚ", "A": "ɐ", "eh": "ˈeɪ",
    "ee": "ˈiː",
    "oh": "ˈoʊ", "em": "ˈɛm", "miz": "mˈɪz",
}  # fmt: skip
_SIBILANTS = frozenset(("s", "z", "ʃ", "ʒ", "tʃ", "dʒ"))
_VOICELESS = frozenset("ptkfθ")


def split_phones(ipa: str) -> list[str]:
    """Split IPA, as espeak and gruut write it, into phones of PHONES; a stress mark stays before its vowel.

    Length marks are dropped: "ˈɑːɹ" -> ["ˈɑ", "ɹ"], "dʒˈʌmp" -> ["dʒ", "ˈʌ", "m", "p"].

    Raises:
        KeyError: the inventory does not have a symbol.
    """
    ipa = ipa.translate(_SAME)
    phones: list[str] = []
    stress, position = "", 0
    while position < len(ipa):
        if ipa[position] in STRESS_MARKS:
            stress = ipa[position]
            position += 1
            continue
        pair = ipa[position : position + 2]
        length = 2 if pair in _PHONE_SET and len(pair) == 2 else 1
        phone = pair if length == 2 else _SINGLE_VOWELS.get(ipa[position], ipa[position])
        if phone not in _PHONE_SET:
            raise KeyError(phone)
        position += length
        if phone in _VOWEL_SET:
            phone, stress = stress + phone, ""
        phones.append(phone)
    return phones


def is_vowel(phone: str) -> bool:
    """Whether a phone, with or without a stress mark, is a vowel."""
    return phone.lstrip(STRESS_MARKS) in _VOWEL_SET


@lru_cache(maxsize=CACHED_WORDS)
def pronounce(word: str) -> tuple[str, ...]:
    """Phones of one word: from the lexicon, else from its spelling, else its letters as "<x>" symbols.

    `word` consists of lower-case letters and apostrophes, or is "A", the letter. Vowels carry stress marks.
    Thread-safe; the `CACHED_WORDS` words that were used last are cached.
    """
    ipa = _OVERRIDES.get(word) or _lexicon().get(word)
    if ipa is None and word.endswith("'s") and len(word) > 2:
        stem = pronounce(word[:-2])
        sibilant, voiceless = stem[-1] in _SIBILANTS, stem[-1] in _VOICELESS
        return stem + (("ɪ", "z") if sibilant else ("s",) if voiceless else ("z",))
    try:
        phones = _without_linking(split_phones(ipa or "".join(_guess(word))), word)
    except KeyError:
        phones = []
    return tuple(phones or [f"<{letter}>" for letter in word.lower()])


def in_lexicon(word: str) -> bool:
    """Whether the lexicon has a word, in lower-case letters."""
    return word in _lexicon()


def _without_linking(phones: list[str], word: str) -> list[str]:
    """Undo the effect of a following word on a lexicon entry: "other" with ɹ, "can" with ŋ, "it" with ɾ."""
    if phones[-2:] == ["ɚ", "ɹ"]:
        return phones[:-1]
    last = {
        "ŋ": "n" if not re.search("ng|nk|nx|nc", word[-3:]) else "ŋ",
        "ɾ": "d" if "d" in word[-2:] else "t",
    }
    return [*phones[:-1], last.get(phones[-1], phones[-1])] if phones else phones


@cache
def _lexicon() -> dict[str, str]:
    """Word -> its first pronunciation: gruut's lexicon in espeak's notation, read once (0.3 s).

    gruut itself scans the whole file for every word (20 ms), because its table has no index.
    """
    from gruut_lang_en import get_lang_dir

    path = get_lang_dir() / "espeak" / "lexicon.db"
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    with closing(connection):
        connection.execute(
            "PRAGMA temp_store = MEMORY"
        )  # sort without a temporary file: the disk may be full
        rows = connection.execute("SELECT word, phonemes FROM word_phonemes ORDER BY pron_order DESC")
        return {word: phonemes.replace(" ", "") for word, phonemes in rows}


_guess_lock = threading.Lock()  # the model keeps the word that it works on as its state


def _guess(word: str) -> list[str]:
    """Phonemes of a word outside the lexicon, by gruut's grapheme-to-phoneme model."""
    with _guess_lock:
        return _grapheme_to_phoneme()(word) or []


@cache
def _grapheme_to_phoneme() -> Any:
    from gruut.lang import get_settings

    settings = get_settings(
        "en-us",
        model_prefix="espeak",
        lookup_phonemes=None,
        load_pos_tagger=False,
        load_phoneme_lexicon=False,
    )
    return settings.guess_phonemes
