"""Speech that recipes train on: of a bank, and of espeak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tone_teacher import KEY, ToneTeacher

from puppet.speech_bank import SpeechBank, write
from recipes.data.speech import speech
from recipes.train_speaker import prepare


@pytest.fixture(autouse=True)
def known_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puppet.speech_bank.key", lambda: KEY)


def test_speech_of_a_bank_is_that_of_its_clips(tmp_path: Path) -> None:
    write(tmp_path, 15 / 3600, teacher=ToneTeacher())
    bank, spoken = SpeechBank(tmp_path), speech(str(tmp_path), "train")
    assert spoken.name == bank.key
    voices = {}
    for index in range(len(bank)):
        found, clip = spoken.read(index), bank[index]
        assert np.array_equal(found.pcm, clip.samples())
        assert found.phones == [t for t in clip.tokens if t not in (" ", ".", ",", "?", "!")]
        assert voices.setdefault(clip.voice.seed, found.voice) == found.voice
    assert len(set(voices.values())) == len(voices)
    with pytest.raises(ValueError, match=rf"holds {len(bank)} clips: .* --set clips"):
        spoken.read(len(bank))


def test_each_voice_of_a_bank_that_has_two_clips_is_used(tmp_path: Path) -> None:
    write(tmp_path / "bank", 90 / 3600, teacher=ToneTeacher())
    bank, spoken = SpeechBank(tmp_path / "bank"), speech(str(tmp_path / "bank"), "train")
    seeds = [voice.seed for voice in bank.voices]
    chosen = [seeds[index] for index in spoken.of_each_voice(3)]
    assert {seed: chosen.count(seed) for seed in chosen} == {
        seed: min(3, seeds.count(seed)) for seed in seeds if seeds.count(seed) > 1
    }
    sounds = prepare(tmp_path / "sounds", spoken, 3)
    assert np.array_equal(prepare(tmp_path / "sounds", spoken, 3).pcm, sounds.pcm)
    write(tmp_path / "bank", 400 / 3600, teacher=ToneTeacher())
    with pytest.raises(ValueError, match="remove the folder"):  # the utterances of a voice are others now
        prepare(tmp_path / "sounds", speech(str(tmp_path / "bank"), "train"), 3)
    assert sorted(set(sounds.labels)) == list(range(sounds.voices))
    for number in range(sounds.voices):
        own = {chosen[index] for index in np.flatnonzero(sounds.labels == number)}
        assert len(own) == 1


def test_voices_of_espeak_take_turns() -> None:
    pytest.importorskip("espeakng_loader", reason="espeak's speech needs the extra 'data'")
    spoken = speech("", "heldout")
    count = len(spoken.of_each_voice(1))
    assert spoken.of_each_voice(2) == list(range(2 * count))
    assert spoken.read(1).voice == spoken.read(count + 1).voice == 1
    assert spoken.read(1).phones != spoken.read(count + 1).phones
