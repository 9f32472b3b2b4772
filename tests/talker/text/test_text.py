"""What is written becomes words, words become tokens; long texts are cut at sentences."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from talker.text.numbers import cardinal, ordinal, year
from talker.text.tokenizer import (
    PHONES,
    ChatTokenizer,
    PhonemeTokenizer,
    clean,
    split_phones,
    split_sentences,
    spoken,
)


@pytest.fixture(scope="module")
def tokenizer() -> PhonemeTokenizer:
    return PhonemeTokenizer()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "Dr. Smith paid $3.50 on May 4, 2026",
            "doctor Smith paid three dollars fifty cents on May fourth, twenty twenty six.",
        ),
        (
            "At 4:30 pm, 42% won €1,250!",
            "At four thirty P em, forty two percent won one thousand two hundred fifty euros!",
        ),
        (
            "Mrs. Jones lives at 221B Baker St. near us.",
            "missus Jones lives at two hundred twenty one B Baker street near us.",
        ),
        ("I am here at 10 a.m. Then we go.", "I am here at ten eh em. Then we go."),
        (
            "The 1990s, the '80s, 1905 and 2005",
            "The nineteen nineties, the eighties, nineteen oh five and two thousand five.",
        ),
        ("-5 degrees, 3/4 cup, 21st place", "minus five degrees, three quarters cup, twenty first place."),
        ("Call 555-1234, room #007", "Call five five five, one two three four, room number zero zero seven."),
        ("naïve café — “quoted” (aside); fin…", "naive cafe, quoted, aside, fin."),
        ("NASA, the U.S. and the FBI", "nasa, the U S and the F B eye."),
        ("No. No. 5 is 0.75 km/h", "No. number five is zero point seven five kilometers an hour."),
        ("HELLO THERE", "hello there."),
        ("Really?! Wait... what", "Really? Wait, what."),
        ("see www.example.com or bob@example.com", "see example dot com or bob at example dot com."),
        ("Ph.D. students 🙂 don't", "P H D students don't."),
    ],
)
def test_spoken(written: str, said: str) -> None:
    assert spoken(written) == said


def test_numbers() -> None:
    assert cardinal(0) == "zero"
    assert cardinal(1_002_019) == "one million two thousand nineteen"
    assert cardinal(10**15).startswith("one zero zero")
    assert [ordinal(n) for n in (1, 12, 20, 23)] == ["first", "twelfth", "twentieth", "twenty third"]
    assert [year(n) for n in (1900, 1984, 2000, 2026)] == [
        "nineteen hundred",
        "nineteen eighty four",
        "two thousand",
        "twenty twenty six",
    ]


@pytest.mark.parametrize("text", ["Привет", "你好", "hello мир", "مرحبا"])
def test_other_scripts_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="Latin alphabet"):
        clean(text)


@pytest.mark.parametrize("text", ["", "  \n", "🙂", "?!", "\u0000"])
def test_nothing_to_say_is_refused(text: str, tokenizer: PhonemeTokenizer) -> None:
    for read in (tokenizer.encode, split_sentences):
        with pytest.raises(ValueError, match="nothing to say"):
            read(text)


def test_vocabulary_is_the_one_that_the_weights_were_trained_with(tokenizer: PhonemeTokenizer) -> None:
    assert tokenizer.vocab_size == 113
    assert tokenizer.pad == 0
    assert tokenizer.encode("Hello there.") == tokenizer.encode("hello  there")
    assert tokenizer.decode(range(tokenizer.vocab_size)).startswith(
        ", . ? ! pbtdkɡʔɾfvθðszʃʒhtʃdʒmnŋlɹjwiɪɛæ"
    )


def test_encode_marks_words_stress_and_breaks(tokenizer: PhonemeTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("Hello there, friend?")) == "həlˈoʊ ðɛɹ, fɹˈɛnd?"
    assert tokenizer.phones("A jump") == ["ɐ", "dʒ", "ʌ", "m", "p"]


def test_words_link_to_vowels(tokenizer: PhonemeTokenizer) -> None:
    assert tokenizer.phones("the owl")[:2] == ["ð", "ɪ"]
    assert tokenizer.phones("the dog")[:2] == ["ð", "ə"]
    assert tokenizer.phones("other ideas")[2:4] == ["ɚ", "ɹ"]
    assert tokenizer.phones("other, ideas")[2:4] != ["ɚ", "ɹ"]


def test_any_letters_become_tokens(tokenizer: PhonemeTokenizer) -> None:
    for word in ("Zyxqor", "brrr", "tsk", "x", "O'Neil's", "a" * 60):
        assert all(0 < index < tokenizer.vocab_size for index in tokenizer.encode(word))


def test_split_phones() -> None:
    assert split_phones("dʒˈʌmp") == ["dʒ", "ˈʌ", "m", "p"]
    assert split_phones("ˈɑːɹ") == ["ˈɑ", "ɹ"]
    assert split_phones("".join(PHONES).replace("ʔ", "")) != []
    with pytest.raises(KeyError):
        split_phones("q")


def test_sentences_end_where_readers_stop() -> None:
    text = 'Dr. Smith came at 3.50 p.m. yesterday. "Hello!" she said. J. R. Lee left the U.S. Army... Then?'
    text += " Yes.\n\nNew one"
    assert split_sentences(text) == [
        "Dr. Smith came at 3.50 p.m. yesterday.",
        '"Hello!" she said.',
        "J. R. Lee left the U.S. Army...",
        "Then?",
        "Yes.",
        "New one",
    ]


@pytest.mark.parametrize("text", ["word " * 400, "well, you know, " * 60, "x" * 3000, "1234567 " * 100])
def test_no_part_is_too_long_and_no_letter_is_lost(text: str) -> None:
    parts = split_sentences(text, max_seconds=10)
    assert max(len(part) for part in parts) <= 150
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")


def test_import_is_cheap() -> None:
    code = (
        "import sys, talker.text; sys.exit(any(m in sys.modules for m in ('gruut', 'torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_chat_tokenizer_ends_with_an_empty_thought(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["user", "assistant", "think", "Hi", "[UNK]"]
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.save(str(tmp_path / "tokenizer.json"))
    template = (
        "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant{% if not enable_thinking %} think{% endif %}{% endif %}"
    )
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template, "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = ChatTokenizer(tmp_path)
    assert tokenizer.encode("Hi") == [0, 3, 1, 2]
    assert tokenizer.vocab_size == 5
    with pytest.raises(ValueError, match="nothing to say"):
        tokenizer.encode(" ")
    with pytest.raises(FileNotFoundError, match=r"tokenizer_config\.json"):
        ChatTokenizer(tmp_path / "absent")
