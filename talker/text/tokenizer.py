"""Text -> token ids: phonemes for our own models, the chat template for the published ones."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from talker.errors import UserError
from talker.text.phonemes import PHONES, STRESS_MARKS, VOWELS, is_vowel, pronounce, split_phones
from talker.text.spoken import NOTHING_TO_SAY, spoken

_MARKS = ",.?!"
_STRESSED = tuple(mark + vowel for mark in STRESS_MARKS for vowel in VOWELS)
_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz'")
# Letter tokens spell words that have no known pronunciation; the brackets keep them apart from phones.
_VOCABULARY = ("<pad>", " ", *_MARKS, *PHONES, *_STRESSED, *(f"<{letter}>" for letter in _LETTERS))
_IDS = {token: index for index, token in enumerate(_VOCABULARY)}
_BEFORE_VOWEL = {"the": "ðɪ", "to": "tʊ", "it": "ɪɾ", "at": "æɾ"}


class Tokenizer(Protocol):
    """Converts a whole prompt to the token ids that a model reads."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt. Raises UserError (a ValueError) if the text cannot be spoken."""

    def tokens(self, text: str) -> list[int]:
        """Token ids of the text alone, without the template that `encode` may add. Errors as `encode`."""

    def words(self, text: str) -> list[tuple[str, int]]:
        """Each spoken word with the index of its first token in `encode(text)`, in order.

        Empty if the model has no alignment between tokens and speech.
        """


class PhonemeTokenizer:
    """Tokens are phones, word boundaries (" ") and the marks , . ? !

    Phones come from gruut's lexicon in espeak's notation, which the puppet corpus uses, too. Phones of words
    that the lexicon lacks come from gruut's grapheme-to-phoneme model. Stress is part of a vowel's token: one
    token is one sound, and the number of tokens is about proportional to the duration of the speech.

    The only influence of context on a word's phones is whether a vowel follows ("the owl", "the dog").

    Attributes:
        pad: id of the padding token, 0.
    """

    pad = 0

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return len(_VOCABULARY)

    def encode(self, text: str) -> list[int]:
        """Token ids of an English text.

        Raises:
            UserError: the text has no letters or digits, or contains letters of another script.
        """
        return [_IDS[token] for _, tokens in _spoken_parts(text) for token in tokens]

    def tokens(self, text: str) -> list[int]:
        """The same as `encode`: there is no template."""
        return self.encode(text)

    def words(self, text: str) -> list[tuple[str, int]]:
        """Each spoken word with the index of its first phone in `encode(text)`, in order.

        Words are those of `talker.text.spoken`: "$3" gives "three" and "dollars". Errors as `encode`.
        """
        found: list[tuple[str, int]] = []
        start = 0
        for part, tokens in _spoken_parts(text):
            if part not in _MARKS:
                found.append((part, start + (tokens[0] == " ")))
            start += len(tokens)
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """The tokens as text ("həlˈoʊ ðɛɹ."), without padding."""
        tokens = (_VOCABULARY[index] for index in ids if index != self.pad)
        return "".join(token + " " if token in _MARKS else token for token in tokens).strip()

    def phones(self, text: str) -> list[str]:
        """Phones of the text without stress, boundaries and marks, as a phoneme error rate compares them."""
        tokens = (_VOCABULARY[index].lstrip(STRESS_MARKS) for index in self.encode(text))
        return [token for token in tokens if token in PHONES]


def _spoken_parts(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each word and each mark of the spoken form of a text, with its tokens.

    A word's tokens begin with the word boundary " " if another word precedes it.
    """
    parts = re.findall(r"[A-Za-z']+|[,.?!]", spoken(text))
    after_word = False
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if part in _MARKS:
            yield part, [part]
        else:
            phones = _linked_phones(part, following)
            yield part, [" ", *phones] if after_word else phones
        after_word = part not in _MARKS


def _linked_phones(word: str, following: str) -> list[str]:
    """Phones of a word before the part `following`: a word, a mark, or "" at the end."""
    phones = list(_word_phones(word))
    if not following.isalpha() or not is_vowel(_word_phones(following)[0]):
        return phones
    if word.lower() in _BEFORE_VOWEL:
        return split_phones(_BEFORE_VOWEL[word.lower()])
    return [*phones, "ɹ"] if phones[-1] in ("ɚ", "ˈɜ") else phones


def _word_phones(word: str) -> tuple[str, ...]:
    return pronounce(word if word == "A" else word.lower())


class ChatTokenizer:
    """The tokenizer and chat template of the published checkpoint, read from a local folder."""

    def __init__(self, folder: Path | str) -> None:
        """`folder`: the published checkpoint's. Raises FileNotFoundError if it has no tokenizer."""
        from transformers import AutoTokenizer

        if not (Path(folder) / "tokenizer_config.json").is_file():
            raise FileNotFoundError(
                f"{folder} has no tokenizer_config.json: give the folder of the published checkpoint"
            )
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return len(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        """Ids of the text as the user's turn, then the start of the assistant's turn with thinking disabled.

        Raises:
            UserError: the text is empty.
        """
        if not text.strip():
            raise UserError(NOTHING_TO_SAY)
        messages = [{"role": "user", "content": text}]
        options = {"add_generation_prompt": True, "enable_thinking": False}
        prompt = self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
        return list(self._tokenizer.encode(prompt, add_special_tokens=False))

    def tokens(self, text: str) -> list[int]:
        """Ids of the text without the chat template."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def words(self, text: str) -> list[tuple[str, int]]:
        """Empty: the published models have no alignment between tokens and speech."""
        return []
