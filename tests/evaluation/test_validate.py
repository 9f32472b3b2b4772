"""The validation of the measures, on networks and clips whose figures are known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation import validate, voices
from evaluation.heldout import Scene
from evaluation.sync import SIDE, Sync
from evaluation.validate import mouth_figures, picture_figures, speech_figures, sync_figures
from puppet.corpus import Clip
from puppet.motion import MOTION
from puppet.speech import PAUSE, Phoneme
from puppet.voices import voice
from talker.clock import HOP


class Level(nn.Module):
    """A synchronisation network that embeds the level of the picture and of the sound, 0 to 1, as an angle.

    It reports the level of the picture as the jaw, and closed lips where the level is above 0.9.
    """

    class config:  # noqa: N801 - as in SyncNet
        lips = ("closure", "jaw")

    def embed_faces(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        level = crops.mean((2, 3))
        return self.angle(level), torch.stack([(level > 0.9).float(), level], -1)

    def embed_audio(self, pcm: Tensor) -> Tensor:
        return self.angle(pcm.unflatten(1, (-1, HOP)).mean(2))

    def angle(self, level: Tensor) -> Tensor:
        return torch.stack([(7 * level).cos(), (7 * level).sin()], -1)


def scene(seed: int) -> Scene:
    """A clip of 80 frames with a random level in picture and sound; the last half second is silent."""
    level = torch.rand(80, generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.15
    frames = level[:, None, None, None].expand(-1, 3, SIDE, SIDE)
    pcm = level.clone()
    pcm[-13:] = 0
    return Scene(frames, pcm.repeat_interleave(HOP), level * (level <= 0.9))


def test_known_shifts_are_found_by_a_network_that_sees_and_hears_the_same() -> None:
    figures = sync_figures(Level(), [scene(seed) for seed in range(4)])  # type: ignore[arg-type]
    assert figures["shifts_tried"] == 4 * 21
    assert figures["shifts_within_1"] == figures["shifts_exact"] == figures["confidence_auc"] == 1
    assert figures["confidence_true"] > 0.5 > figures["confidence_shuffled"]


def test_shifts_are_wrong_in_either_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "compare", lambda *_: Sync(0, 1.0))
    figures = sync_figures(Level(), [scene(0)])  # type: ignore[arg-type]
    assert figures["shifts_within_1"] == pytest.approx(3 / 21)
    assert figures["shifts_exact"] == pytest.approx(1 / 21)


def test_mouth_figures_compare_the_opening_in_silence_and_in_speech() -> None:
    clips = [scene(seed) for seed in range(3)]
    figures = mouth_figures(Level(), clips)  # type: ignore[arg-type]
    assert figures["opening_correlation"] == pytest.approx(1)
    assert figures["opening_correlation_clip"] == pytest.approx(1)
    quiet = torch.cat([clip.opening[-10:] for clip in clips])  # three frames after the speech
    loud = torch.cat([clip.opening[:-10] for clip in clips])
    assert figures["silent_opening_95th"] == pytest.approx(float(quiet.quantile(0.95)))
    assert figures["silent_closed"] == pytest.approx(float((quiet < 0.1).float().mean()))
    assert figures["speech_opening_mean"] == pytest.approx(float(loud.mean()))


def test_still_mouths_do_not_count_for_the_correlation_of_clips() -> None:
    still = replace(scene(1), opening=torch.full_like(scene(1).opening, 0.5))
    assert mouth_figures(Level(), [scene(0), still])["opening_correlation_clip"] == pytest.approx(1)


def test_noise_of_two_percent_has_34_db() -> None:
    assert picture_figures([scene(0)])["psnr_of_2_percent_noise"] == pytest.approx(33.98, abs=0.1)


def test_speech_figures_of_a_recogniser_that_hears_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each version of the sound has its level and its noise, and other clips have other phonemes."""
    heard: list[Tensor] = []

    class Ears:
        def transcribe(self, pcm: Tensor) -> list[str]:
            heard.append(pcm)
            return ["abcd"[round(float(pcm.mean()) * 8) - 1]]

    def clips() -> Iterator[Clip]:
        for index in range(4):
            pcm = np.zeros(50 * HOP, np.float32)
            pcm[10 * HOP : 40 * HOP] = (index + 1) / 8 / 0.6
            phonemes = [Phoneme(PAUSE, 0, 0.4), Phoneme("abcd"[index], 0.4, 1.6), Phoneme(PAUSE, 1.6, 2)]
            yield Clip(index, "heldout", "", voice(1), 0, pcm, np.zeros((50, len(MOTION))), phonemes, False)

    monkeypatch.setattr(validate, "speaking", lambda _: clips())
    figures = speech_figures(Ears(), "heldout", 4)  # type: ignore[arg-type]
    assert len(heard) == 12
    assert figures["per_corpus"] == figures["per_noise_40_db"] == 0
    assert figures["per_12_db_softer"] == figures["per_shuffled"] == 1
    assert figures["voiced_span_over_true_span"] == pytest.approx(1)
    sounds, softer, noisy = heard[:4], heard[4:8], heard[8:]
    assert all(soft.equal(0.25 * sound) for soft, sound in zip(softer, sounds, strict=True))
    noise = torch.cat([noisy[k] - sounds[k] for k in range(4)])
    assert 20 * math.log10(float(noise.std())) == pytest.approx(-40, abs=0.1)


def test_parts_without_clips_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "scenes", lambda split, count: (scene(seed) for seed in range(count)))
    monkeypatch.setattr(validate, "sync_net", Level)
    assert validate.validate("heldout", 0, 0) == {}
    figures = validate.validate("heldout", 0, 2)
    assert {"shifts_exact", "silent_closed", "psnr_of_2_percent_noise"} <= figures.keys()
    assert "per_corpus" not in figures


def test_error_rate_of_a_voice_sums_the_errors_of_all_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sentence is said in the voice, as speech alone, with its index as seed."""
    said: list[tuple[object, ...]] = []

    class Chunk:
        def __init__(self, value: float) -> None:
            self.pcm = np.full(10, value, np.float32)

    class Stub:
        def voice(self, name: str) -> str:
            return f"voice of {name}"

        def say(self, text: str, voice: str, seed: int, audio_only: bool) -> list[Chunk]:
            said.append((text, voice, seed, audio_only))
            return [Chunk(seed), Chunk(seed + 10)]

        def map(self, clips: list[list[Chunk]], capacity: int) -> list[list[Chunk]]:
            return clips

    class Ears:
        def transcribe(self, pcm: Tensor) -> list[str]:
            seed = int(pcm[0])
            assert pcm.equal(F.pad(torch.full((10,), seed + 0.0), (0, 10), value=seed + 10))
            return [["h", "aɪ"], ["x"]][seed]

    monkeypatch.setattr(voices, "recogniser", Ears)
    rate = voices.voice_error_rate(Stub(), "ada", ["Hi.", "Go."])  # type: ignore[arg-type]
    assert said == [("Hi.", "voice of ada", 0, True), ("Go.", "voice of ada", 1, True)]
    assert rate == pytest.approx(2 / 4)
