"""Laws of the speaking half of the corpus: repeatable, well timed, many voices, one notation with the text
frontend."""

import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from puppet import sentences
from puppet import speech as speech_module
from puppet.sentences import Split, sentence, split_of
from puppet.speech import PAUSE, SAMPLE_RATE, speak
from puppet.voices import HELDOUT_VOICES, TRAIN_VOICES, voice
from puppet.words import article, common_words, gerund, lexicon, past, plural, third
from talker.text.tokenizer import PHONES, PhonemeTokenizer

pytest.importorskip("espeakng_loader", reason="the extra 'data' is not installed")


@pytest.mark.long
def test_speech_does_not_depend_on_what_was_said_before() -> None:
    breathy = [
        replace(voice(index), variant=name) for index, name in enumerate(("f5", "Alicia", "m3", "klatt3"))
    ]
    pairs = [(sentence("train", index), speaker) for index, speaker in enumerate(breathy)]
    forward = [speak(*pair) for pair in pairs]
    speech_module._server = None  # another process, in another second, in another order
    time.sleep(1.1)
    backward = [speak(*pair) for pair in reversed(pairs)][::-1]
    for first, second in zip(forward, backward, strict=True):
        assert np.array_equal(first.pcm, second.pcm)
        assert first.phonemes == second.phonemes


def test_phonemes_cover_the_sound_in_order() -> None:
    said = speak("The whole film, always: oil and steel.", voice(3))
    assert {one.symbol for one in said.phonemes} <= {*PHONES, PAUSE}
    assert [one.symbol for one in said.phonemes].count("l") == 5  # dark ones too
    for one, following in zip(said.phonemes, said.phonemes[1:], strict=False):
        assert one.start < one.end <= following.start + 1e-6
    assert said.phonemes[-1].end == pytest.approx(said.duration, abs=0.01)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_level_is_even_and_nothing_clips(seed: int) -> None:
    pcm = speak("Loud and clear, every voice is as loud as the others.", voice(seed)).pcm
    assert pcm.dtype == np.float32
    assert np.abs(pcm).max() < 0.96
    assert 0.03 < np.sqrt((pcm**2).mean()) < 0.12


def test_tract_scaling_keeps_rate_and_pitch() -> None:
    def median_pitch(pcm: np.ndarray) -> float:
        pitches = []
        for start in range(0, len(pcm) - 2048, 1024):
            piece = pcm[start : start + 2048] * np.hanning(2048)
            likeness = np.fft.irfft(np.abs(np.fft.rfft(piece, 8192)) ** 2)
            lag = 60 + int(np.argmax(likeness[60:400]))
            if likeness[lag] > 0.5 * likeness[0] > 1e-3:
                pitches.append(SAMPLE_RATE / lag)
        return float(np.median(pitches))

    speaker = replace(voice(0), variant="m3", pitch=50, range=30)
    short, long = (
        speak("Many men were moving along.", replace(speaker, tract_down=down)) for down in (158, 134)
    )
    assert short.duration == pytest.approx(long.duration, rel=0.06)
    assert median_pitch(short.pcm) == pytest.approx(median_pitch(long.pcm), rel=0.06)


def test_text_and_speech_name_the_same_sounds() -> None:
    tokenizer, same, total = PhonemeTokenizer(), 0, 0
    for index in range(12):
        text = sentence("heldout", index)
        heard = [one.symbol for one in speak(text, voice(index)).phonemes if one.symbol != PAUSE]
        total += 1
        same += heard == tokenizer.phones(text)
    assert same >= 0.75 * total


def test_enough_distinct_voices_and_none_in_both_splits() -> None:
    def sound(seed: int) -> tuple[object, ...]:
        speaker = voice(seed)
        return speaker.variant, speaker.pitch, speaker.range, speaker.rate, speaker.tract_down, speaker.tilt

    train, heldout = {sound(seed) for seed in TRAIN_VOICES}, {sound(seed) for seed in HELDOUT_VOICES}
    assert len(train) >= 500
    assert not train & heldout


def test_sentences_are_many_repeatable_and_split_by_their_letters() -> None:
    train = [sentence("train", index) for index in range(1500)]
    heldout = [sentence("heldout", index) for index in range(150)]
    assert train[:50] == [sentence("train", index) for index in range(50)]
    assert len(set(train)) > 0.97 * len(train)
    assert {split_of(text) for text in train + heldout} == {"train", "heldout"}
    assert split_of("Hello, Ann!") == split_of("hello ann")
    assert len(common_words()) > 8000
    assert len({word for words in lexicon().values() for word in words}) > 1500


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="train, heldout"):
        sentence("test", 0)  # type: ignore[arg-type]


def test_english_forms() -> None:
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


def test_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_module, "_server", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match="'data'"):
        speak("Hello.", voice(0))


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_sentence_of_a_text_is_of_its_split(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    one = sentences._Draw.sentence
    monkeypatch.setattr(sentences._Draw, "sentence", lambda self: drawn.append(one(self)) or drawn[-1])
    several = 0
    for index in range(200):
        drawn.clear()
        text = sentence(split, index)
        parts: list[str] = []
        for part in reversed(drawn):  # those that were turned down are not in the text
            if text.endswith(" ".join([part, *parts])):
                parts.insert(0, part)
        assert " ".join(parts) == text
        assert {split_of(part) for part in parts} == {split}
        several += len(parts) > 1
    assert several > 5
