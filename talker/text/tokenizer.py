"""Text -> token ids: phonemes for our own models, the chat template for the published ones; also
sentences."""

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from talker.text.spoken import clean, spoken

__all__ = [
    "PHONES",
    "ChatTokenizer",
    "PhonemeTokenizer",
    "Tokenizer",
    "clean",
    "split_phones",
    "split_sentences",
    "spoken",
]

_CONSONANTS = "p b t d k ɡ ʔ ɾ f v θ ð s z ʃ ʒ h tʃ dʒ m n ŋ l ɹ j w"
_VOWELS = "i ɪ ɛ æ ɑ ɔ ʊ u ʌ ə ɜ ɚ ɐ eɪ aɪ ɔɪ aʊ oʊ"
PHONES = tuple(f"{_CONSONANTS} {_VOWELS}".split())
"""Every phone of our English, as split_phones gives it (the text frontend and the corpus's speech share
it)."""

_STRESSED = tuple(mark + vowel for mark in "ˈˌ" for vowel in _VOWELS.split())
_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz'")
# Letters stand for themselves only where there are no phonemes; the prefix keeps them apart from phones.
_VOCABULARY = ("<pad>", " ", ",", ".", "?", "!", *PHONES, *_STRESSED, *(f"<{letter}>" for letter in _LETTERS))
_IDS = {token: index for index, token in enumerate(_VOCABULARY)}
_SAME = str.maketrans({"g": "ɡ", "r": "ɹ", "ᵻ": "ɪ", "x": "k", "ɬ": "l"} | dict.fromkeys("ː̩̃ʲ͡|‖", ""))
_LONE = {"a": "ɑ", "e": "eɪ", "o": "ɔ"}  # only in diphthongs, or spellings of their neighbours
# Words that the lexicon gives as they sound before some other word, and the names of letters.
_SPOKEN_OTHERWISE = {
    "at": "æt", "it": "ɪt", "live": "lˈɪv", "another": "ɐnˈʌðɚ", "our": "aʊɚ", "A": "ɐ", "eh": "ˈeɪ",
    "ee": "ˈiː",
    "oh": "ˈoʊ", "em": "ˈɛm", "miz": "mˈɪz",
}  # fmt: skip
_BEFORE_VOWEL = {"the": "ðɪ", "to": "tʊ", "it": "ɪɾ", "at": "æɾ"}
_VOWEL_SET = frozenset(_VOWELS.split())
_HISSING = frozenset(("s", "z", "ʃ", "ʒ", "tʃ", "dʒ"))
_VOICELESS = frozenset("ptkfθ")
_CHARACTERS_A_SECOND = 15.0


def split_phones(ipa: str) -> list[str]:
    """IPA as espeak and gruut write it -> phones of PHONES; a vowel keeps its stress mark in front of it.

    Length marks go, so "ˈɑːɹ" -> ["ˈɑ", "ɹ"], "dʒˈʌmp" -> ["dʒ", "ˈʌ", "m", "p"]. Raises KeyError for a
    symbol that the inventory lacks.
    """
    ipa = ipa.translate(_SAME)
    phones: list[str] = []
    stress, position = "", 0
    while position < len(ipa):
        if ipa[position] in "ˈˌ":
            stress = ipa[position]
            position += 1
            continue
        pair = ipa[position : position + 2]
        length = 2 if len(pair) == 2 and pair in _IDS else 1
        phone = pair if length == 2 else _LONE.get(ipa[position], ipa[position])
        if phone not in _IDS:
            raise KeyError(phone)
        position += length
        if phone in _VOWEL_SET:
            phone, stress = stress + phone, ""
        phones.append(phone)
    return phones


class Tokenizer(Protocol):
    """What the talker needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def words(self, text: str) -> list[tuple[str, int]]: ...


class PhonemeTokenizer:
    """Phonemes of each word, word boundaries and , . ? ! as tokens.

    Phonemes come from gruut's lexicon in espeak's notation (so that they name the sounds of the corpus),
    those of unknown words from its spelling-to-sound model. Stress is merged into the vowel: one token
    stays one sound, which keeps the text's length proportional to the speech's.

    Of its surroundings a word's sounds depend only on whether a vowel follows ("the owl"). `pad` is 0.
    """

    pad = 0

    def __init__(self) -> None:
        self._words: dict[str, list[int]] = {}

    @property
    def vocab_size(self) -> int:
        return len(_VOCABULARY)

    def encode(self, text: str) -> list[int]:
        """Token ids of any English text. Raises ValueError for other scripts or when there is nothing to
        say."""
        ids: list[int] = []
        parts = re.findall(r"[A-Za-z']+|[,.?!]", spoken(text))
        for part, following in zip(parts, [*parts[1:], ""], strict=True):
            if part in ",.?!":
                ids.append(_IDS[part])
                continue
            if ids and _VOCABULARY[ids[-1]] not in ",.?!":
                ids.append(_IDS[" "])
            ids += self._linked(part, following)
        return ids

    def words(self, text: str) -> list[tuple[str, int]]:
        return []

    def decode(self, ids: Iterable[int]) -> str:
        """The tokens as readable text ("həlˈoʊ ðɛɹ."), padding left out."""
        tokens = (_VOCABULARY[index] for index in ids if index != self.pad)
        return "".join(token + " " if token in ",.?!" else token for token in tokens).strip()

    def phones(self, text: str) -> list[str]:
        """Phones of the text without stress, boundaries and marks (what a phoneme error rate compares)."""
        tokens = (_VOCABULARY[index].lstrip("ˈˌ") for index in self.encode(text))
        return [token for token in tokens if token in PHONES]

    def _linked(self, word: str, following: str) -> list[int]:
        """A word's tokens, as it sounds before the next word ("" or a mark: before a pause)."""
        own = self._word(word)
        if not following.isalpha() or _VOCABULARY[self._word(following)[0]].lstrip("ˈˌ") not in _VOWEL_SET:
            return own
        if word.lower() in _BEFORE_VOWEL:
            return [_IDS[token] for token in split_phones(_BEFORE_VOWEL[word.lower()])]
        return [*own, _IDS["ɹ"]] if _VOCABULARY[own[-1]] in ("ɚ", "ˈɜ") else own

    def _word(self, word: str) -> list[int]:
        key = word if word == "A" else word.lower()
        if key not in self._words:
            self._words[key] = [_IDS[token] for token in _pronounce(key)]
        return self._words[key]


def _pronounce(word: str) -> list[str]:
    """Phones of one word: the lexicon, else spelling-to-sound, else its letters."""
    known = _SPOKEN_OTHERWISE.get(word) or _lexicon().get(word)
    if known is None and word.endswith("'s") and len(word) > 2:
        stem = _pronounce(word[:-2])
        hissing, voiceless = stem[-1] in _HISSING, stem[-1] in _VOICELESS
        return stem + (["ɪ", "z"] if hissing else ["s"] if voiceless else ["z"])
    try:
        phones = _unlink(split_phones(known or "".join(_guess(word))), word)
    except KeyError:
        phones = []
    return phones or [f"<{letter}>" for letter in word.lower()]


def _unlink(phones: list[str], word: str) -> list[str]:
    """Undo what the lexicon's entries took from a following word: "other" with ɹ, "can" with ŋ, "it" with
    ɾ."""
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

    gruut itself scans the file for every word (20 ms), because its table has no index.
    """
    from gruut_lang_en import get_lang_dir

    path = get_lang_dir() / "espeak" / "lexicon.db"
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    with closing(connection):
        connection.execute("PRAGMA temp_store = MEMORY")  # sorting works on a full disk, too
        rows = connection.execute("SELECT word, phonemes FROM word_phonemes ORDER BY pron_order DESC")
        return {word: phonemes.replace(" ", "") for word, phonemes in rows}


def _guess(word: str) -> list[str]:
    """Phonemes of an unknown word by gruut's spelling-to-sound model."""
    return _guesser()(word) or []


@cache
def _guesser() -> Any:
    from gruut.lang import get_settings

    settings = get_settings(
        "en-us",
        model_prefix="espeak",
        lookup_phonemes=None,
        load_pos_tagger=False,
        load_phoneme_lexicon=False,
    )
    return settings.guess_phonemes


class ChatTokenizer:
    """The published checkpoint's own tokenizer and chat template, read from a local folder (no download)."""

    def __init__(self, folder: Path | str) -> None:
        from transformers import AutoTokenizer

        if not (Path(folder) / "tokenizer_config.json").is_file():
            raise FileNotFoundError(
                f"{folder} holds no tokenizer_config.json: pass the folder of the published checkpoint."
            )
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    @property
    def vocab_size(self) -> int:
        return len(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        """Ids of the user's turn and the assistant's opening with an empty thinking block; ValueError when
        empty."""
        if not text.strip():
            raise ValueError("There is nothing to say in the text.")
        messages = [{"role": "user", "content": text}]
        options = {"add_generation_prompt": True, "enable_thinking": False}
        prompt = self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
        return list(self._tokenizer.encode(prompt, add_special_tokens=False))


_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|approx|Gen|Sgt|Capt|Rev|Hon|Mt|No|Fig)"
    r"|\b(?:Inc|Ltd|Corp|Co|e\.g|i\.e|a\.m|p\.m)"
    r"|\b[A-Z]|\b(?:[A-Z]\.)+[A-Z])\.$"
)


def split_sentences(text: str, max_seconds: float = 12.0) -> list[str]:
    """Cut a long text at sentence ends, and at commas or words where a sentence would exceed `max_seconds`.

    Abbreviations, initials, decimals and closing quotes do not end a sentence wrongly. Raises ValueError
    for a text without anything to say or in another script.
    """
    sentences: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if not any(char.isalnum() for char in paragraph):
            continue
        start = ""
        pieces = re.split(r"(?<=[.?!])(?=\s)|(?<=[.?!][\"')\]])(?=\s)", clean(paragraph))
        for piece, following in zip(pieces, [*(p.strip() for p in pieces[1:]), ""], strict=True):
            start += piece
            if not _ABBREVIATION.search(start) and not following[:1].islower():
                sentences += _fit(start.strip(), max_seconds)
                start = ""
        sentences += _fit(start.strip(), max_seconds)
    sentences = [sentence for sentence in sentences if any(char.isalnum() for char in sentence)]
    if not sentences:
        clean(text)
        raise ValueError("There is nothing to say in the text: it has no letters or digits.")
    return sentences


def _seconds(sentence: str) -> float:
    # A digit is about a syllable and a half when spoken, a letter a fifth of one.
    return (len(sentence) + 4 * sum(char.isdigit() for char in sentence)) / _CHARACTERS_A_SECOND


def _fit(sentence: str, max_seconds: float) -> list[str]:
    """Parts of at most `max_seconds` each, as even as commas (else words) allow."""
    if _seconds(sentence) <= max_seconds:
        return [sentence] if sentence else []
    cuts = [m.end() for m in re.finditer(r"[,;:](?=\s)", sentence)] or [
        m.start() for m in re.finditer(r"\s", sentence)
    ]
    if not cuts:  # one endless word
        cuts = [len(sentence) // 2]
    cut = min(cuts, key=lambda c: abs(c - len(sentence) / 2))
    return _fit(sentence[:cut].strip(), max_seconds) + _fit(sentence[cut:].strip(), max_seconds)
