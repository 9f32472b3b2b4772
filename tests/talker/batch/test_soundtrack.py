"""Speech on the timeline: its place, tempo, cut and loudness; and the old sound below it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_files import write_sound, write_video

from talker.batch.fit import FASTEST, SLOWEST, Placement, place
from talker.batch.soundtrack import DUCKED, MOST_PEAK, Track, mixed, old_loudness
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
    assert place(5, 1000, 2000, "extend", most=900) == Placement(5, 900, 1, 1100 / RATE)
    assert place(5, 1000, 800, "extend", most=1500) == place(5, 1000, 800, "trim") == Placement(5, 800)


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
    soft = Track(tmp_path, RATE)
    soft.write([(Placement(0, RATE), lambda: iter([tone(1.0, 0.001)]))])
    soft.set_loudness(-5.0)
    assert soft.gain == pytest.approx(10 ** (30 / 20))  # the largest
    assert not soft.limited
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
    empty = np.concatenate(
        list(mixed(track, tmp_path / "old.wav", Fraction(0), [Placement(RATE, 0)])), axis=1
    )
    assert np.allclose(empty[:, :143_000], old[:, :143_000], atol=1e-3)  # no speech, no duck
    short = np.concatenate(list(mixed(track, tmp_path / "old.wav", Fraction(2), None)), axis=1)
    assert short.shape == (2, 144_000)  # silence after the end of the old sound
    assert not short[:, 50_000:].any()


def test_speech_and_old_sound_are_added_to_the_last_sample_and_limited(tmp_path: Path) -> None:
    old = np.full((2, 60_000), 0.5, np.float32)
    write_sound(tmp_path / "old.wav", "pcm_s16le", 48_000, pcm=old)
    track = Track(tmp_path, 30_000)
    steps = np.repeat([0.25, -0.25, 0.75, 0.25], 7500).astype(np.float32)
    track.write([(Placement(0, 30_000), lambda: iter([steps]))])
    out = np.concatenate(list(mixed(track, tmp_path / "old.wav", Fraction(0), None)), axis=1)
    assert out.shape == (2, 60_000)
    share = 0.5**0.5  # in each of the two channels: together they have the loudness of the mono speech
    expected = np.array([[0.5 + share * 0.25, 0.5 - share * 0.25, 1.0, 0.5 + share * 0.25]] * 2)
    assert out[:, [7_500, 22_500, 37_500, 59_000]] == pytest.approx(expected, abs=0.01)
    assert out.max() == 1
    track.close()


def test_the_loudness_of_the_old_sound_is_unknown_where_it_has_no_speech(tmp_path: Path) -> None:
    for level, known in ((0.1, True), (0.005, False)):
        pcm = tone(1.0, level)[None]
        path = write_sound(tmp_path / f"{level}.wav", "pcm_s16le", RATE, pcm=pcm)
        found = old_loudness(path, Fraction(0))
        assert found == (pytest.approx(loudness_of([pcm], RATE), abs=0.1) if known else None)
    assert (
        old_loudness(write_video(tmp_path / "a.mp4", [np.zeros((32, 32, 3), np.uint8)]), Fraction(0)) is None
    )
