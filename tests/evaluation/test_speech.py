"""PER in closed form, CTC paths, normalisation of phonemes, the recogniser, and speech activity."""

from __future__ import annotations

import math

import pytest
import torch

from evaluation.mel import LogMel
from evaluation.silence import silent_frames, spoken_seconds, voiced
from evaluation.speech import (
    Errors,
    Recogniser,
    RecogniserConfig,
    collapse,
    edits,
    normalise_phonemes,
    phoneme_errors,
)


def test_edits_in_closed_form() -> None:
    word = list("kætsæt")
    assert edits(word, word) == 0
    assert edits([], word) == edits(word, []) == len(word)
    assert edits(word[1:], word) == 1
    assert edits([*word, "s"], word) == 1
    assert edits(list("kotsæt"), word) == 1
    assert edits(list("abc"), list("xyz")) == 3
    assert edits(list("sitting"), list("kitten")) == edits(list("kitten"), list("sitting")) == 3


def test_error_rate_of_a_set_is_summed_edits_over_summed_phonemes() -> None:
    errors = phoneme_errors(list("ab"), list("abc")) + phoneme_errors(list("aaaaaaa"), list("aaaaaaa"))
    assert errors == Errors(1, 10)
    assert errors.rate == 0.1
    assert phoneme_errors(list("aaaa"), list("b")).rate == 4.0
    assert math.isnan(Errors().rate)


def test_normalisation_removes_stress_and_length_and_is_idempotent() -> None:
    symbols = ["ˈaɪ", "ɜː", "t͡ʃ", "_", "", "ˌæ", "n"]
    once = normalise_phonemes(symbols)
    assert once == ["aɪ", "ɜ", "tʃ", "æ", "n"]
    assert normalise_phonemes(once) == once
    assert phoneme_errors(symbols, once).rate == 0.0
    assert normalise_phonemes(["c\u0327"]) == ["\u00e7"], "one character, as other programs write it"


def test_collapse_merges_repetitions_then_removes_blanks() -> None:
    assert collapse([0, 1, 1, 0, 1, 2, 2, 0, 0]) == [1, 1, 2]
    assert collapse([]) == collapse([0, 0]) == []


def test_padding_does_not_change_the_recogniser_output() -> None:
    model = Recogniser(RecogniserConfig.tiny()).eval()
    pcm, samples = 0.1 * torch.randn(1, 12_000), torch.tensor([12_000])
    alone = model(pcm, samples)
    padded = model(torch.nn.functional.pad(pcm, (0, 9_600)), samples)
    steps = int(model.lengths(samples))
    assert alone.shape == (1, steps, 4)
    torch.testing.assert_close(padded[:, :steps], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone.exp().sum(-1), torch.ones(1, steps))


def test_mel_frames_are_centred_on_the_middle_of_their_hop() -> None:
    mel = LogMel(mels=16, hop=240, window=768)
    pcm = torch.zeros(1, 20 * 240)
    pcm[0, 10 * 240 + 120] = 1.0
    level = mel(pcm)[0].mean(0)
    assert int(level.argmax()) == 10
    torch.testing.assert_close(level[8:10], level[11:13].flip(0))


def test_level_of_silence_and_of_faint_noise() -> None:
    """White noise of RMS 6e-4 doubles the power that silence has; each band is a mean, whatever its width."""
    mel = LogMel(mels=64, hop=240, window=768)
    assert mel(torch.zeros(1, 2400))[0].unique().tolist() == pytest.approx([(math.log(1e-4) + 4) / 3])
    noise = 6e-4 * torch.randn(1, 240_000)
    power = (3 * mel(noise)[0] - 4).exp()
    torch.testing.assert_close(power.mean(1), torch.full((64,), 2e-4), rtol=0.15, atol=0)


def test_bands_lie_between_40_hz_and_10_khz() -> None:
    mel = LogMel(mels=16, hop=240, window=768)
    time = torch.arange(24_000) / 24_000
    levels = [mel(0.5 * torch.sin(2 * math.pi * f * time)[None])[0, :, 50] for f in (150, 9_000, 11_500)]
    assert [int(level.argmax()) for level in levels[:2]] == [0, 15]
    assert levels[1].max() > 1.5 > 0 > levels[2].max(), "the sound above 10 kHz is left out"


def test_transcribing_stereo_is_an_error() -> None:
    with pytest.raises(ValueError, match="one channel"):
        Recogniser(RecogniserConfig.tiny()).transcribe(torch.zeros(2, 2400))


def test_symbols_that_are_not_normalised_are_an_error() -> None:
    with pytest.raises(ValueError, match="normalised"):
        RecogniserConfig(symbols=("aː",))


def test_speech_activity_of_a_tone_between_silences() -> None:
    tone = 0.1 * torch.sin(torch.arange(25 * 960) * 0.05)
    pcm = torch.cat([torch.zeros(10 * 960), tone, torch.zeros(5 * 960), tone, torch.zeros(20 * 960)])
    assert voiced(pcm).nonzero().flatten().tolist() == [*range(10, 35), *range(40, 65)]
    assert spoken_seconds(pcm) == pytest.approx(55 / 25)
    assert silent_frames(pcm, margin=5).nonzero().flatten().tolist() == [*range(5), *range(70, 85)]
    assert spoken_seconds(torch.zeros(9_600)) == 0.0
    for decibels, heard in ((-34, True), (-36, False)):
        soft = torch.cat([tone, tone * 10 ** (decibels / 20)])
        assert bool(voiced(soft)[30:45].all()) == bool(voiced(soft)[30:45].any()) == heard
    assert silent_frames(pcm).nonzero().flatten().tolist() == [*range(7), *range(68, 85)]
    assert spoken_seconds(3e-4 * torch.randn(9_600)) == 0.0, "noise of -70 dB is not speech"
    assert bool(silent_frames(torch.zeros(9_600)).all())


def test_speech_is_transcribed_with_silence_on_both_sides() -> None:
    model, seen = Recogniser(RecogniserConfig.tiny()).eval(), list[torch.Tensor]()
    model.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    model.transcribe(torch.ones(2400))
    pcm, samples = seen
    assert torch.equal(pcm, torch.nn.functional.pad(torch.ones(1, 2400), (4800, 4800)))
    assert samples.tolist() == [12_000]
