"""Loudness of recordings and its normalisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import chirps, write_sound

from talker.media.loudness import (
    SPEECH_LEVEL,
    LoudnessNormalizer,
    LoudnessProfile,
    NoiseGate,
    loudness_profile,
    measure_loudness,
)


def tone(amplitude: float, seconds: float = 2.0) -> torch.Tensor:
    time = torch.arange(round(24_000 * seconds)) / 24_000
    return (amplitude * torch.sin(2 * torch.pi * 150 * time)).clamp(-1, 1)


def test_profile_finds_speech_and_its_level(tmp_path: Path) -> None:
    pcm = np.concatenate([np.zeros(24_000, np.float32), chirps(1.0, 24_000)[0]])[None]
    profile = measure_loudness(write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=pcm))
    assert (profile.samples, profile.frames, profile.seconds) == (48_000, 50, 2.0)
    assert not profile.speech_mask[:24].any()
    assert profile.speech_mask[26:].mean() > 0.8
    assert 0.1 < profile.level < 0.3


def test_profile_does_not_depend_on_the_pieces() -> None:
    pcm = torch.cat([tone(0.3), torch.zeros(5000), tone(0.1, 0.77)])
    whole = loudness_profile([pcm])
    for size in (1000, 24_001):
        profile = loudness_profile(pcm.split(size))
        assert profile.samples == whole.samples == len(pcm)
        assert np.array_equal(profile.power, whole.power)


def test_level_of_a_tone_is_its_root_mean_square() -> None:
    assert loudness_profile([tone(0.2)]).level == pytest.approx(0.2 / 2**0.5, rel=1e-3)
    with_gap = torch.cat([tone(0.2), tone(0.002)])
    assert loudness_profile([with_gap]).level == pytest.approx(0.2 / 2**0.5, rel=1e-3)
    silent = loudness_profile([torch.zeros(3000)])
    assert (silent.level, silent.frames, silent.speech_mask.any()) == (0.0, 4, False)
    assert LoudnessProfile(0, np.zeros(0, np.float32)).frames == 0


def test_frame_with_sound_in_either_half_is_speech() -> None:
    pcm = torch.zeros(5 * 960)
    pcm[480:960] = pcm[2 * 960 : 2 * 960 + 480] = 0.3
    assert loudness_profile([pcm]).speech_mask.tolist() == [True, False, True, False, False]
    faint = torch.zeros(5 * 960)
    faint[480:960] = 0.00122  # above the silence floor alone, below it as a mean of the frame
    assert loudness_profile([faint]).speech_mask.tolist() == [True, False, False, False, False]
    for samples, mask in ((960, [True]), (961, [True, False]), (1440, [True, True])):
        assert loudness_profile([torch.full((samples,), 0.3)]).speech_mask.tolist() == mask


@pytest.mark.parametrize("amplitude", [0.006, 0.06, 0.6])
def test_speech_of_any_loudness_is_scaled_to_one_level(amplitude: float) -> None:
    pcm = tone(amplitude)
    following, constant = LoudnessNormalizer(), LoudnessNormalizer(loudness_profile([pcm]).level)
    for normalizer in (following, constant):
        scaled = torch.cat([normalizer(block) for block in pcm.split(3840)])
        assert scaled.square().mean().sqrt() == pytest.approx(SPEECH_LEVEL, rel=0.05)


def test_silence_keeps_the_gain() -> None:
    silence, speech = torch.zeros(3840), tone(0.02, 0.16)
    normalizer = LoudnessNormalizer()
    assert torch.equal(normalizer(silence), silence)
    before = normalizer(speech)
    for _ in range(10):
        normalizer(silence)
    assert torch.allclose(normalizer(speech), before, rtol=1e-4)


def test_noise_below_the_silence_floor_is_not_speech() -> None:
    noise = torch.randn(24_000, generator=torch.Generator().manual_seed(0))
    assert not loudness_profile([10 ** (-70 / 20) * noise]).speech_mask.any()
    assert loudness_profile([10 ** (-50 / 20) * noise]).speech_mask.all()


def test_the_gain_changes_linearly_within_a_block_and_follows_the_last_ten_seconds() -> None:
    def constant(value: float, seconds: float = 1.0) -> torch.Tensor:
        return torch.full((round(24_000 * seconds),), value)

    normalizer = LoudnessNormalizer()
    assert torch.allclose(normalizer(constant(0.02)), constant(SPEECH_LEVEL))  # no earlier gain
    soft = constant(0.01)
    ramp = normalizer(soft) / soft
    level = ((0.02**2 + 0.01**2) / 2) ** 0.5
    assert torch.allclose(ramp, torch.linspace(SPEECH_LEVEL / 0.02, SPEECH_LEVEL / level, 24_000), rtol=1e-3)
    for _ in range(8):
        made = normalizer(soft)
    assert made[-1] < 0.95 * SPEECH_LEVEL  # ten seconds, of which the first was louder
    normalizer(soft)
    assert torch.allclose(normalizer(soft), constant(SPEECH_LEVEL), rtol=1e-3)


def test_gain_is_at_most_30() -> None:
    quiet = tone(0.002)  # would need a gain of 53
    for normalizer in (LoudnessNormalizer(), LoudnessNormalizer(loudness_profile([quiet]).level)):
        assert torch.allclose(normalizer(quiet), 30 * quiet)


def test_loud_sound_after_quiet_sound_stays_below_full_scale() -> None:
    quiet, loud = tone(0.003, 0.16), tone(1.0, 0.16)
    for normalizer in (LoudnessNormalizer(), LoudnessNormalizer(loudness_profile([quiet]).level)):
        assert 0.05 < normalizer(quiet).max() < 0.15
        assert normalizer(loud).abs().max() == 1


def white(seconds: float, decibels: float) -> torch.Tensor:
    """White noise at this level below speech."""
    noise = torch.randn(round(24_000 * seconds), generator=torch.Generator().manual_seed(0))
    return SPEECH_LEVEL * 10 ** (decibels / 20) * noise


def gated(pcm: torch.Tensor) -> torch.Tensor:
    return torch.cat(list(map(NoiseGate(), pcm.split(3840))))


def test_constant_noise_in_a_pause_becomes_silence_after_a_third_of_a_second() -> None:
    speech, noise = tone(0.1, 0.32), white(1.6, -25)
    found = gated(torch.cat([speech, noise, speech]))
    assert torch.equal(found[:11_520], torch.cat([speech, noise])[:11_520])  # the first block of noise
    assert torch.equal(found[11_520:15_360], noise[3840:7680] * torch.linspace(1, 0, 3840))  # faded out
    assert found[15_360:46_080].eq(0).all()
    assert torch.equal(found[46_080:], speech)


@pytest.mark.parametrize(
    "sound",
    [
        white(1.6, -19),  # as loud as soft speech
        torch.cat([white(0.3, -50), white(0.1, -25)]).repeat(4),  # soft consonants in silence
    ],
    ids=["loud", "consonants"],
)
def test_sound_that_is_loud_or_changes_is_kept(sound: torch.Tensor) -> None:
    kept = gated(sound).ne(0).float().mean()
    assert kept > 0.5
