"""Text -> spoken words -> tokens, and long texts -> sentences."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from talker.errors import UserError
from talker.text import tables
from talker.text.language import latin_language
from talker.text.numbers import cardinal, ordinal, year
from talker.text.phonemes import PHONES, pronounce, split_phones
from talker.text.sentences import split_sentences
from talker.text.spoken import clean, spoken
from talker.text.tokenizer import ChatTokenizer, PhonemeTokenizer


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
def test_spoken_form_of_numbers_abbreviations_and_symbols(written: str, said: str) -> None:
    assert spoken(written) == said


def test_numbers_as_words() -> None:
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


def texts() -> list[tuple[str, str, str]]:
    """Rows (kind, text, right reading) of texts.tsv; "|" separates the sentences of a reading."""
    rows = (Path(__file__).with_name("texts.tsv")).read_text(encoding="utf-8").splitlines()
    found = [tuple(row.split("\t")) for row in rows if not row.startswith("#")]
    escapes = {"\\n": "\n", "\\u200b": "\u200b", "\\u00a0": "\u00a0"}
    return [
        (kind, re.sub("|".join(map(re.escape, escapes)), lambda m: escapes[m[0]], text), right)
        for kind, text, right in found
    ]


def test_zero_at_the_end_of_an_amount_changes_nothing() -> None:
    for sign, names in tables.CURRENCIES.items():
        for digit in range(10):
            assert not names[2] or spoken(f"It costs {sign}3.{digit}") == spoken(f"It costs {sign}3.{digit}0")


def test_years_of_two_digits_are_those_until_2030() -> None:
    for short in range(100):
        whole = (2000 if short <= 30 else 1900) + short
        assert spoken(f"3/4/{short:02d}") == spoken(f"3/4/{whole}")


def test_words_made_of_capitals_have_a_genitive() -> None:
    for written in tables.SAID:
        assert spoken(f"The {written}'s idea.") == spoken(f"The {written} idea.").replace(" idea", "'s idea")


def test_line_after_a_colon_is_a_sentence_of_its_own() -> None:
    text = "These are the things that we need to buy today:\neggs and milk"
    assert split_sentences(text) == ["These are the things that we need to buy today.", "eggs and milk"]


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        ("How are you?\\nHow is it?", ["How are you?", "How is it?"]),
        ("line one\\nline two", ["line one.", "line two"]),
        ("Hello.\\n\\nBye.", ["Hello.", "Bye."]),
        ("one\\ttwo", ["one\\ttwo"]),
        (r"Open folder\name now.", [r"Open folder\name now."]),
        (r"Open C:\new now.", [r"Open C:\new now."]),
    ],
)
def test_typed_line_breaks_end_a_sentence_but_paths_stay(typed: str, lines: list[str]) -> None:
    assert split_sentences(typed) == lines


def test_texts_of_the_table_are_read_right() -> None:
    def words(reading: str) -> str:
        return " ".join(reading.lower().replace(",", "").split())

    rows = texts()
    wrong = [
        (text, read)
        for kind, text, right in rows
        if words(read := " | ".join(map(spoken, split_sentences(text)))) != words(right)
        and not kind.startswith("!")
    ]
    kinds = Counter(kind.lstrip("!") for kind, _, _ in rows)
    known = sum(kind.startswith("!") for kind, _, _ in rows)
    assert len(rows) >= 150
    assert min(kinds.values()) >= 5
    assert not wrong
    assert len(rows) - known >= 0.97 * len(rows)


def test_reading_is_the_same_after_a_text_was_split() -> None:
    for _, text, _ in texts():
        for sentence in split_sentences(text):
            assert split_sentences(sentence, force=True) == [sentence]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Привет", "Cyrillic"),
        ("你好", "Chinese or Japanese"),
        ("hello мир", "Cyrillic"),
        ("مرحبا", "Arabic"),
        ("γεια σου", "Greek"),
        ("안녕", "Korean"),
    ],
)
def test_other_scripts_raise_an_error_that_names_the_script(text: str, script: str) -> None:
    for read in (clean, spoken, split_sentences):
        with pytest.raises(UserError, match=f"{script} letters.*Latin alphabet"):
            read(text)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Je ne parle pas anglais.", "French"),
        ("Der Hund schläft heute im Garten.", "German"),
        ("Hola, ¿cómo estás hoy?", "Spanish"),
        ("Il gatto dorme sul divano.", "Italian"),
        ("BONJOUR TOUT LE MONDE", "French"),
        ("Hej, jag heter Anna och bor i Stockholm.", "Swedish"),
        ("Mwanafunzi anasoma kitabu kikubwa sana shuleni", "Swahili"),
        ("La casa es grande y bonita.", "Spanish"),
        ("Me llamo Pedro", "Spanish"),
        ("Le chat dort.", "French"),
        ("Merci beaucoup", "French"),
        ("Bonjour", "French"),
        ("Guten Morgen", "German"),
        ("Ich liebe dich", "German"),
        ("Il gatto nero dorme", "Italian"),
        ("Muito obrigado", "Portuguese"),
        ("Ik hou van jou", "Dutch"),
        ("De hond slaapt.", "Dutch"),
        ("Dziękuję bardzo", "Polish"),
        ("Kocham cię", "Polish"),
        ("Hyvää päivää", "Finnish"),
        ("Labdien mīļie draugi", "Latvian"),
        ("Nasılsın?", "Turkish"),
        ("Góðan daginn", "Icelandic"),
        ("Sláinte", "Irish"),
        ("Përshëndetje", "Albanian"),
        ("Freude, schöner Götterfunken", "German"),
        ("Dobro jutro, kako ste", "Croatian"),
        ("Konnichiwa, genki desu ka", "Japanese"),
        ("Namaste, aap kaise hain", "Hindi"),
        ("Zdravstvuyte, kak dela", "Russian"),
        ("Laba diena, kaip sekasi", "Lithuanian"),
        ("Tanti auguri", "Italian"),
        ("FELIZ NAVIDAD", "Spanish"),
        ("Oui", "French"),
        ("Sí", "Spanish"),
        ("¿Cómo?", "Spanish"),
        ("L'addition, s'il vous plaît", "French"),
        ("Gżira hija sabiħa", "another language"),
        ("Køpenhavn bliver større", "another language"),
        ("Ndiyakuthanda kakhulu", "Xhosa"),
        ("Gde nahoditsya biblioteka", "another language"),
        ("BUENOS DIAS", "Spanish"),
        ("Příliš žluťoučký kůň", "another language"),
        ("Minulla on nälkä", "another language"),
        ("Feliz Navidad", "Spanish"),
    ],
)
def test_texts_of_other_languages_raise_an_error_that_names_the_language(text: str, language: str) -> None:
    with pytest.raises(UserError, match=f"seems to be .*{language}.*--force"):
        split_sentences(text)
    assert split_sentences(text, force=True)


@pytest.mark.parametrize(
    "text",
    [
        "I love La Casa de Papel.",
        "He said “je ne sais quoi” to me.",
        "Vincent van Gogh and Ludwig van Beethoven met in Den Haag.",
        "She ordered a café au lait and a crème brûlée.",
        "Los Angeles, San Diego, El Paso and Rio de Janeiro",
        "Die hard was a war film.",
        "Minus specialized mailed met over inherently till hanging error.",
        "See www.bbc.co.uk or bob@example.de",
        "Guten Tag is German for good day.",
        "Déjà vu, crème brûlée, fiancé, El Niño, señor.",
        "C'est la vie",
        "Soup du jour",
        "Buenos Aires",
        "Škoda and Łódź",
        "Lech Wałęsa",
        "Mina Dove",
        "Über",
        "Ciao!",
        "Kubernetes pods",
        "stdin stdout stderr",
        "La la land",
        "São Paulo is big.",
        "Il Divo sang.",
        "Das Boot sank.",
        "approx. 5 min. ago, est. 1990, max. 3, min. 2, misc. items, dept.",
        "USA UK EU UN",
        "AI, ML, NLP, GPU, API, SDK, USB, URL",
        "HTML CSS PDF API JSON",
        "OMG ROFL LMAO",
        "MA, PA, LA, DE",
        "Hmm... uh-huh, shh! psst, brr, zzz, pfft, grr",
        "Do re mi fa so la ti do",
        "Tra la la, na na na",
        "Zürich",
        "Beyoncé",
        "Antonín Dvořák",
        "Mbappé scored.",
        "Žižek spoke.",
        "KUBERNETES TERRAFORM ANSIBLE KUBECTL",
        "Arrivederci Roma is a song.",
        "Jalapeño poppers",
        "Café résumé",
        "µ",
    ],
)
def test_english_with_foreign_names_and_quotations_is_accepted(text: str) -> None:
    assert split_sentences(text)


def test_force_drops_letters_of_other_scripts() -> None:
    assert split_sentences("Hello мир, friends.", force=True) == ["Hello , friends."]
    with pytest.raises(UserError, match="nothing to say"):
        split_sentences("мир", force=True)


def test_a_greek_letter_alone_is_a_symbol() -> None:
    assert spoken("The angle α") == "The angle alpha."


def test_a_sign_of_arithmetic_continues_the_sentence() -> None:
    assert split_sentences("Solve it! + 3 is 5.") == ["Solve it! + 3 is 5."]
    assert split_sentences("Solve it! It is 5.") == ["Solve it!", "It is 5."]


def test_lines_of_symbols_alone_are_said_only_without_words() -> None:
    assert split_sentences("% %\n% &") == ["% %.", "% &"]
    assert split_sentences("100\n♥") == ["100."]


def test_spanish_marks_of_unknown_words_name_the_language() -> None:
    assert latin_language("¡Plonk nerk!") == latin_language("¿Nerk plonk?") == "Spanish"
    assert latin_language("¿Who is it?") is None


def test_the_full_stop_of_a_unit_stays_where_it_ends_a_sentence() -> None:
    assert spoken("It took 5 min. Then we left.") == "It took five minutes. Then we left."
    assert spoken("It took 5 min. or so.") == "It took five minutes or so."


@pytest.mark.parametrize("part", ["1-", "[a", "12:", "$", "x", "9"])
def test_time_to_split_is_proportional_to_the_length(part: str) -> None:
    def seconds(text: str) -> float:
        start = time.process_time()
        with contextlib.suppress(UserError):
            split_sentences(text)
        return time.process_time() - start

    seconds("A1")
    count = 2000 // len(part)
    once, ten_times = seconds("b " + part * count), seconds("b " + part * 10 * count)
    assert ten_times < 25 * once + 0.1


@pytest.mark.parametrize("text", ["", "  \n", "?!", "\u0000"])
def test_text_without_letters_or_digits_raises(text: str, tokenizer: PhonemeTokenizer) -> None:
    for read in (tokenizer.encode, tokenizer.words, split_sentences):
        with pytest.raises(UserError, match="nothing to say"):
            read(text)


def test_vocabulary_matches_the_trained_weights(tokenizer: PhonemeTokenizer) -> None:
    assert tokenizer.vocab_size == 113
    assert tokenizer.pad == 0
    assert tokenizer.encode("Hello there.") == tokenizer.encode("hello  there")
    assert tokenizer.decode(range(tokenizer.vocab_size)).startswith(
        ", . ? ! pbtdkɡʔɾfvθðszʃʒhtʃdʒmnŋlɹjwiɪɛæ"
    )


def test_tokens_include_word_boundaries_stress_and_marks(tokenizer: PhonemeTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("Hello there, friend?")) == "həlˈoʊ ðɛɹ, fɹˈɛnd?"
    assert tokenizer.phones("A jump") == ["ɐ", "dʒ", "ʌ", "m", "p"]


def test_words_are_pronounced_differently_before_a_vowel(tokenizer: PhonemeTokenizer) -> None:
    assert tokenizer.phones("the owl")[:2] == ["ð", "ɪ"]
    assert pronounce("glitch's") == (*pronounce("glitch"), "ɪ", "z")
    assert "".join(tokenizer.phones("Her fur is soft")).startswith("hɜfɜɹɪz")
    assert tokenizer.phones("the dog")[:2] == ["ð", "ə"]
    assert tokenizer.phones("other ideas")[2:4] == ["ɚ", "ɹ"]
    assert tokenizer.phones("other, ideas")[2:4] != ["ɚ", "ɹ"]


WORDS = [
    "Hello there, friend?",
    "The owl and the dog.",
    "Dr. Smith paid $3.50 on May 4, 2026!",
    "Wait... don't, brrzx: A B C, other ideas",
    "one",
    "the FBI's agents at 4:30 pm",
]


@pytest.mark.parametrize("text", WORDS)
def test_words_start_at_their_first_phone(text: str, tokenizer: PhonemeTokenizer) -> None:
    ids, found = tokenizer.encode(text), tokenizer.words(text)
    assert [word for word, _ in found] == re.findall(r"[A-Za-z']+", spoken(text))
    starts = [index for _, index in found]
    assert starts == sorted(set(starts))
    separators = {
        index for index in range(tokenizer.vocab_size) if tokenizer.decode([index]) in ("", *",.?!")
    }
    expected = [
        index
        for index, token in enumerate(ids)
        if token not in separators and (index == 0 or ids[index - 1] in separators)
    ]
    assert starts == expected


def test_words_of_a_known_sentence(tokenizer: PhonemeTokenizer) -> None:
    # h ə l ˈoʊ _ ð ɛ ɹ , f ɹ ˈɛ n d .
    assert tokenizer.words("Hello there, friend.") == [("Hello", 0), ("there", 5), ("friend", 9)]


def test_pronunciation_cache_is_bounded_and_thread_safe(tokenizer: PhonemeTokenizer) -> None:
    limit = pronounce.cache_info().maxsize
    assert limit is not None
    assert limit <= 20_000
    texts = [f"Zyx{'aeiou'[k % 5]}q{'bcdfg'[k // 5]} cat, the owl." for k in range(25)]
    expected = [tokenizer.encode(text) for text in texts]
    pronounce.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == expected


def test_any_letters_become_tokens(tokenizer: PhonemeTokenizer) -> None:
    for word in ("Zyxqor", "brrr", "tsk", "x", "O'Neil's", "a" * 60):
        assert all(0 < index < tokenizer.vocab_size for index in tokenizer.encode(word))


def test_split_phones_keeps_stress_and_rejects_unknown_symbols() -> None:
    assert split_phones("dʒˈʌmp") == ["dʒ", "ˈʌ", "m", "p"]
    assert split_phones("ˈɑːɹ") == ["ˈɑ", "ɹ"]
    for phone in PHONES:
        assert split_phones(phone) == [phone]
    for unknown in ("q", " ", ","):
        with pytest.raises(KeyError):
            split_phones(unknown)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("See Dr. J. K. Lee at 5 p.m. Monday in the U.S. Senate.", 1),
        ("He left the U.S. He came back.", 2),
        ("We sold pens, ink, etc. Nobody came.", 2),
        ("No. 5 won. No. I lost.", 3),
        ("In Jan. 2020 vol. 3 came out.", 1),
        ("Ask Bob (he knows.) Then go.", 2),
        ('"Is it?!" "It is..." He left.', 3),
        ("Wait... what? yes.", 1),
        ("one two three four\nfive six", 1),
        ("One line\nAnother line", 2),
        ("Buy: 1. Milk 2. Eggs", 3),
    ],
)
def test_number_of_sentences(text: str, parts: int) -> None:
    assert len(split_sentences(text)) == parts


def test_sentences_end_at_full_stops_that_are_not_abbreviations() -> None:
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
def test_parts_are_short_enough_and_keep_every_letter(text: str) -> None:
    parts = split_sentences(text, max_seconds=10)
    assert max(len(part) for part in parts) <= 150
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")


def test_a_digit_takes_as_long_as_five_letters() -> None:
    """At 15 letters a second, eight words of seven letters take 4.2 s, and as many numbers 19.13 s."""
    words, numbers = (" ".join([word] * 8) for word in ("sunrise", "1234567"))
    assert split_sentences(words, max_seconds=4.21) == [words]
    assert len(split_sentences(words, max_seconds=4.19)) == 2
    assert split_sentences(numbers, max_seconds=19.14) == [numbers]
    assert len(split_sentences(numbers, max_seconds=19.12)) == 2


def test_import_loads_no_heavy_package() -> None:
    heavy = ("gruut", "torch", "transformers")
    code = f"import sys, talker.text.tokenizer as _; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_chat_tokenizer_disables_thinking(tmp_path: Path) -> None:
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
    assert tokenizer.tokens("Hi") == [3]
    assert tokenizer.words("Hi") == []
    with pytest.raises(UserError, match="nothing to say"):
        tokenizer.encode(" ")
    with pytest.raises(FileNotFoundError, match=r"tokenizer_config\.json"):
        ChatTokenizer(tmp_path / "absent")
