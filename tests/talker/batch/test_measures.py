"""What the measures hear and see of a clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from media_files import write_sound

from talker.batch import measures
from talker.batch.measures import Spoken, _parts, _similarity, _watched
from talker.identity import Voice
from talker.media.readers import read_audio

FRAMES = 58


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    ramp = np.linspace(-1, 1, FRAMES * 960, dtype=np.float32)[None]
    return write_sound(path, "pcm_s16le", 24_000, pcm=ramp)


def test_parts_are_the_samples_between_their_times(sound: Path) -> None:
    spans = [(0.0, 0.0), (0.1, 0.3), (0.3, 0.31), (0.32, 0.32), (0.9, 1.55), (1.6, 2.0), (2.2, 9.0)]
    whole = read_audio(sound)
    found = list(_parts(sound, [Spoken("", *span) for span in spans]))
    for pcm, (first, last) in zip(found, spans, strict=True):
        assert torch.equal(pcm, whole[round(first * 24_000) : round(last * 24_000)])


def test_only_windows_with_words_are_watched_and_count_by_their_length(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(visual: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        assert len(audio[0]) == len(visual) * 960
        return visual.new_zeros(1, 31) + visual[0]

    monkeypatch.setattr(measures, "WINDOW", 20)
    monkeypatch.setattr(measures, "TILE", 4)
    monkeypatch.setattr(measures, "sync_net", lambda: SimpleNamespace(embed_audio=lambda pcm: pcm))
    monkeypatch.setattr(measures, "embed_frames", lambda net, frames: 100 * frames[:, 0, 0, 0])
    monkeypatch.setattr(measures, "offset_scores", scores)
    monkeypatch.setattr(measures, "best", lambda scores: float(scores[0]))
    track = SimpleNamespace(
        seconds=Fraction(FRAMES, 25),
        pictures=lambda path, size: (torch.full((1, 3, size, size), k / 50 - 1) for k in range(FRAMES)),
    )

    def seen(*spans: tuple[float, float]) -> float | None:
        return _watched(sound, track, [Spoken("a", *span) for span in spans])[0]

    # The scores of a window are the number of its first frame.
    assert seen() is None
    assert seen((0.81, 1.59)) == pytest.approx(20)
    assert seen((0.0, 0.8)) == pytest.approx(0)
    assert seen((1.7, 2.2)) == pytest.approx(40)
    assert seen((0.5, 1.7)) == pytest.approx((20 * 20 + 18 * 40) / 58)
    _, strip = _watched(sound, track, [])
    shades = np.asarray(strip)[0, 2::4][: measures.TILES, 0]
    numbers = np.linspace(0, FRAMES - 1, measures.TILES).round()
    assert np.allclose(shades, 255 * numbers / 100, atol=1)


def test_the_similarity_of_voices_is_a_cosine_of_at_most_thirty_seconds_of_speech() -> None:
    heard: list[int] = []

    def embed(pcm: torch.Tensor) -> torch.Tensor:
        heard.append(len(pcm))
        return torch.tensor([3.0, 4.0])

    system, voice = SimpleNamespace(embed_voice=embed), Voice("v", torch.tensor([1.0, 0.0]))
    second = torch.ones(24_000)
    assert _similarity(system, [second[:12_000], second[12_000:]], voice) == pytest.approx(0.6)
    assert _similarity(system, [second.repeat(40)], voice) == pytest.approx(0.6)
    assert heard == [24_000, 30 * 24_000]
    for pcm, whose in (([second], None), ([second[1:]], voice), ([0 * second], voice), ([], voice)):
        assert _similarity(system, pcm, whose) is None
