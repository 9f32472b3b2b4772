"""Corpus texts and speech: reproducible, correctly timed, in many voices, with the tokenizer's phonemes."""

import re
import sys
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from puppet import sentences
from puppet import speech as speech_module
from puppet.sentences import Split, sentence, split_of
from puppet.speech import PAUSE, speak
from puppet.voices import HELDOUT_VOICES, TRAIN_VOICES, voice
from puppet.words import article, common_words, gerund, lexicon, past, plural, third
from talker.clock import SAMPLE_RATE
from talker.text.phonemes import PHONES
from talker.text.tokenizer import PhonemeTokenizer

pytest.importorskip("espeakng_loader", reason="the extra 'data' is not installed")

RECORDED = [
    "Wait, Sandra!",
    "What did Kyle sell with the camera?",
    "The backward together of infer frog. No, the stormy one.",
    "Say stringent, say hideously, say axis.",
    "There are 4896 buckets in Iceland.",
    "Mia was remarkably rusty.",
]


@pytest.mark.long
def test_speech_does_not_depend_on_previous_requests() -> None:
    breathy = [
        replace(voice(index), variant=name) for index, name in enumerate(("f5", "Alicia", "m3", "klatt3"))
    ]
    pairs = [(sentence("train", index), speaker) for index, speaker in enumerate(breathy)]
    forward = [speak(*pair) for pair in pairs]
    speech_module._server = None  # use another process, at another time, in another order
    time.sleep(1.1)
    backward = [speak(*pair) for pair in reversed(pairs)][::-1]
    for first, second in zip(forward, backward, strict=True):
        assert np.array_equal(first.pcm, second.pcm)
        assert first.phonemes == second.phonemes


def test_a_forked_process_starts_a_server_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = speak("Go.", voice(0))
    before = speech_module._server
    monkeypatch.setattr(before, "owner", before.owner + 1)  # as in a child of the process that started it
    assert np.array_equal(speak("Go.", voice(0)).pcm, expected.pcm)
    assert speech_module._server is not before
    assert before.process.poll() is None, "it still serves its owner"
    before.process.kill()
    before.process.wait()


def test_phonemes_are_in_order_and_end_with_the_sound() -> None:
    speech = speak("The whole film, always: oil and steel.", voice(3))
    assert {phoneme.symbol for phoneme in speech.phonemes} <= {*PHONES, PAUSE}
    assert [phoneme.symbol for phoneme in speech.phonemes].count("l") == 5  # including the dark ones
    for phoneme, following in pairwise(speech.phonemes):
        assert phoneme.start < phoneme.end <= following.start + 1e-6
    assert speech.phonemes[-1].end == pytest.approx(speech.duration, abs=0.01)


def test_dark_l_takes_the_end_of_its_vowel() -> None:
    """espeak speaks a dark l inside the vowel, so that its event has no duration: "bill", at 1000 Hz."""
    events = [
        (0, "word", ""),
        (0, "phoneme", "b"),
        (100, "phoneme", "ˈɪ"),
        (200, "phoneme", "l"),
        (200, "phoneme", ""),
    ]
    phonemes = speech_module._phonemes(events, 300, 1000)
    assert [(p.symbol, p.start, p.end, p.stress) for p in phonemes] == [
        ("b", 0.0, 0.1, 0),
        ("ɪ", 0.1, pytest.approx(0.16), 2),
        ("l", pytest.approx(0.16), pytest.approx(0.2), 0),
        (PAUSE, 0.2, 0.3, 0),
    ]


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_every_voice_has_the_same_loudness_and_does_not_clip(seed: int) -> None:
    pcm = speak("Loud and clear, every voice is as loud as the others.", voice(seed)).pcm
    assert pcm.dtype == np.float32
    assert np.abs(pcm).max() < 0.96
    assert 0.03 < np.sqrt((pcm**2).mean()) < 0.12


def test_vocal_tract_scaling_keeps_rate_and_pitch() -> None:
    def median_pitch(pcm: np.ndarray) -> float:
        pitches = []
        for start in range(0, len(pcm) - 2048, 1024):
            piece = pcm[start : start + 2048] * np.hanning(2048)
            correlation = np.fft.irfft(np.abs(np.fft.rfft(piece, 8192)) ** 2)
            lag = 60 + int(np.argmax(correlation[60:400]))
            if correlation[lag] > 0.5 * correlation[0] > 1e-3:
                pitches.append(SAMPLE_RATE / lag)
        return float(np.median(pitches))

    speaker = replace(voice(0), variant="m3", pitch=50, range=30)
    short, long = (
        speak("Many men were moving along.", replace(speaker, tract_down=down)) for down in (158, 134)
    )
    assert short.duration == pytest.approx(long.duration, rel=0.06)
    assert median_pitch(short.pcm) == pytest.approx(median_pitch(long.pcm), rel=0.06)


def test_tokenizer_and_speech_have_the_same_phonemes() -> None:
    tokenizer, equal = PhonemeTokenizer(), 0
    for index in range(12):
        text = sentence("heldout", index)
        spoken = [phoneme.symbol for phoneme in speak(text, voice(index)).phonemes if phoneme.symbol != PAUSE]
        equal += spoken == tokenizer.phones(text)
    assert equal >= 9


def test_voices_are_distinct_and_in_one_split_only() -> None:
    def parameters(seed: int) -> tuple[object, ...]:
        speaker = voice(seed)
        return speaker.variant, speaker.pitch, speaker.range, speaker.rate, speaker.tract_down, speaker.tilt

    train, heldout = (
        {parameters(seed) for seed in TRAIN_VOICES},
        {parameters(seed) for seed in HELDOUT_VOICES},
    )
    assert len(train) >= 500
    assert not train & heldout


def test_sentences_are_diverse_and_reproducible() -> None:
    train = [sentence("train", index) for index in range(800)]
    assert train[:50] == [sentence("train", index) for index in range(50)]
    assert len(set(train)) > 0.97 * len(train)
    assert len(common_words()) > 8000
    assert len({word for words in lexicon().values() for word in words}) > 1500


def test_recorded_sentences_are_reproduced() -> None:
    """These texts must not change, or recorded data sets change."""
    assert [sentence("train", index) for index in range(6)] == RECORDED


def test_split_depends_only_on_letters_and_digits() -> None:
    assert split_of("Hello, Ann!") == split_of("hello ann")
    assert split_of("At 5:30") == split_of("at 530")
    heldout = sum(split_of(f"sentence {index}") == "heldout" for index in range(2000))
    assert heldout == pytest.approx(100, abs=35)  # one in 20


@pytest.mark.parametrize(
    ("slot", "pattern"),
    [
        ("ORD", r"([1-9]|[12]\d|3[01])(st|nd|rd|th)"),
        ("CLOCK", r"([1-9]|1[0-2])(:[0-5][05]| o'clock)"),
        ("PHONE", r"[2-9]\d\d-\d{4}"),
        ("MONEY", r"\d{1,3}|\d{1,2}\.\d[05]"),
        ("YEAR", r"\d{4}"),
    ],
)
def test_number_slots_have_valid_notation(slot: str, pattern: str) -> None:
    draw = sentences._Draw(np.random.default_rng(0))
    drawn = {draw.fill(slot) for _ in range(200)}
    assert len(drawn) > 20
    assert all(re.fullmatch(pattern, text) for text in drawn)
    if slot == "ORD":
        assert {"1st", "2nd", "3rd", "11th", "12th", "13th", "21st", "22nd", "23rd", "31st"} <= drawn


def test_sums_are_correct() -> None:
    draw = sentences._Draw(np.random.default_rng(0))
    for _ in range(50):
        first, second, total = map(int, re.findall(r"\d+", draw.fill("SUM")))
        assert first + second == total


def test_sentences_begin_with_a_capital_and_have_no_open_slots() -> None:
    for index in range(300):
        text = sentence("train", index)
        assert not set("{}\0") & set(text)
        assert text[0].upper() == text[0]
        assert not re.search(r"[.?!] [a-z]", text)


def test_a_text_of_ninety_characters_gets_no_further_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    added = iter(range(100))  # ends a loop that does not end by itself
    monkeypatch.setattr(sentences, "_ANOTHER_SHARE", 1.0)
    monkeypatch.setattr(sentences._Draw, "sentence", lambda _: f"This is number {next(added)}.")
    monkeypatch.setattr(sentences, "split_of", lambda _: "train")
    assert len(sentence("train", 0)) == 18 * 6 - 1  # 89 characters are too few


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="train, heldout"):
        sentence("test", 0)  # type: ignore[arg-type]


def test_english_inflection() -> None:
    assert [past(verb) for verb in ("carry", "find", "stop", "bake", "sit down")] == [
        "carried", "found", "stopped", "baked", "sat down",
    ]  # fmt: skip
    assert [gerund(verb) for verb in ("tie", "bake", "cut", "see")] == [
        "tying",
        "baking",
        "cutting",
        "seeing",
    ]
    assert [third(verb) for verb in ("carry", "push", "play")] == ["carries", "pushes", "plays"]
    assert [plural(noun) for noun in ("story", "mouse", "fisherman", "box")] == [
        "stories",
        "mice",
        "fishermen",
        "boxes",
    ]
    assert [article(noun) for noun in ("owl", "unicorn", "hour", "dog")] == [
        "an owl",
        "a unicorn",
        "an hour",
        "a dog",
    ]


def test_missing_espeak_error_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_module, "_server", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match="make test"):
        speak("Hello.", voice(0))


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize(("method", "draw_text"), [("sentence", sentence), ("line", sentences.text)])
def test_every_sentence_of_a_text_belongs_to_its_split(
    split: Split, method: str, draw_text, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = getattr(sentences._Draw, method)
    monkeypatch.setattr(sentences._Draw, method, lambda self: drawn.append(draw(self)) or drawn[-1])
    several = 0
    for index in range(200):
        drawn.clear()
        text = draw_text(split, index)
        parts: list[str] = []
        for part in reversed(drawn):  # rejected sentences are not in the text
            if text.endswith(" ".join([part, *parts])):
                parts.insert(0, part)
        assert " ".join(parts) == text
        assert {split_of(part) for part in parts} == {split}
        several += len(parts) > 1
    assert several > 5
