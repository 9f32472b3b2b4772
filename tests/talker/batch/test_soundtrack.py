"""Speech on the timeline: its place, tempo, cut and loudness; and the old sound below it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_files import write_sound

from talker.batch.fit import FASTEST, SLOWEST, Placement, place
from talker.batch.soundtrack import DUCKED, MOST_PEAK, Track, mixed
from talker.media.programme import loudness_of

RATE = 24_000


def tone(seconds: float, level: float = 0.1) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 300 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_length_policies() -> None:
    assert place(5, 1000, 0, "fit") == Placement(5, 0)
    assert place(5, 1000, 1100, "fit") == Placement(5, 1000, 1.1, pytest.approx(0, abs=1e-4))
    assert place(5, 1000, 950, "fit") == Placement(5, 1000, 0.95, 0)
    assert place(5, 1000, 500, "fit") == Placement(
        5, round(500 / SLOWEST), SLOWEST, pytest.approx(0, abs=1e-4)
    )
    long = place(5, 1000, 2000, "fit")
    assert (long.samples, long.tempo) == (1000, FASTEST)
    assert long.cut == pytest.approx((2000 - 1000 * FASTEST) / RATE)
    assert place(5, 1000, 2000, "trim") == Placement(5, 1000, 1, 1000 / RATE)
    assert place(5, 1000, 2000, "extend") == Placement(5, 2000, 1, 0)
    assert place(5, 1000, 2000, "extend", most=1500) == Placement(5, 1500, 1, 500 / RATE)


def pcm_of(track: Track) -> np.ndarray:
    return np.concatenate(list(track.blocks()), axis=1)[0]


def test_speech_is_in_its_place_and_silence_everywhere_else(tmp_path: Path) -> None:
    track, spoken = Track(tmp_path, 3 * RATE), tone(1.0)
    pieces = np.array_split(spoken, 4)
    places = [Placement(1000, 9620), Placement(30_000, RATE + 500), Placement(60_000, 9000, 1.1)]
    track.write([(one, lambda: iter(pieces)) for one in places])
    pcm = pcm_of(track)
    assert len(pcm) == 3 * RATE
    inside = np.zeros(len(pcm), bool)
    for one in places:
        inside[one.start : one.start + one.samples] = True
    assert not pcm[~inside].any()
    assert np.array_equal(pcm[1200:10_000], spoken[200:9000])
    assert np.array_equal(pcm[30_200 : 30_000 + RATE], spoken[200:])  # shorter than its place: not faded
    assert np.abs(np.diff(pcm)).max() < 0.03  # no click where speech is cut
    track.close()


def test_the_gain_gives_the_wanted_loudness_and_the_peaks_limit_it(tmp_path: Path) -> None:
    track = Track(tmp_path, 3 * RATE)
    track.write([(Placement(0, 3 * RATE), lambda: iter([tone(3.0)]))])
    track.set_loudness(-27.0)
    assert loudness_of(track.blocks(), RATE) == pytest.approx(-27, abs=0.05)
    assert not track.limited
    track.set_loudness(-1.0)
    assert track.limited
    assert np.abs(pcm_of(track)).max() == pytest.approx(MOST_PEAK, rel=1e-3)
    silent = Track(tmp_path, RATE)
    silent.write([])
    silent.set_loudness(-20.0)
    assert not pcm_of(silent).any()


def test_the_old_sound_is_softer_during_speech_only(tmp_path: Path) -> None:
    old = np.repeat(np.float32(0.25) * np.sin(2 * np.pi * 1000 * np.arange(144_000) / 48_000)[None], 2, 0)
    write_sound(tmp_path / "old.wav", "pcm_s16le", 48_000, pcm=old.astype(np.float32))
    track = Track(tmp_path, 3 * RATE)
    track.write([])
    span = Placement(RATE, RATE)
    for ducked in ([span], None):
        out = np.concatenate(list(mixed(track, tmp_path / "old.wav", Fraction(0), ducked)), axis=1)
        assert out.shape == (2, 144_000)
        share = DUCKED if ducked else 1
        assert np.allclose(out[:, 48_000:96_000], share * old[:, 48_000:96_000], atol=1e-3)
        assert np.allclose(out[:, :38_000], old[:, :38_000], atol=1e-3)
        assert np.allclose(out[:, 106_000:143_000], old[:, 106_000:143_000], atol=1e-3)
    short = np.concatenate(list(mixed(track, tmp_path / "old.wav", Fraction(2), None)), axis=1)
    assert short.shape == (2, 144_000)  # silence after the end of the old sound
    assert not short[:, 50_000:].any()
