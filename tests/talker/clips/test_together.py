"""`Talker.map`: several clips as rows of one batch, each with its own result and its own error."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from media_files import person, write_video
from takes import QUICK, frames_of, joined, pcm_of
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from talker import Talker, UserError
from talker.clips.clip import Clip, Piece
from talker.clips.dub import Dubbing
from talker.clips.record import Record
from talker.clips.say import Utterance
from talker.media.face_track import FaceTrack

WAIT = 20.0  # seconds; longer than any test takes when nothing blocks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav", 1.0)
    write_video(folder / "video.mp4", [np.roll(person(96), k % 5, axis=0) for k in range(20)])
    return folder


def speech(talker: Talker, voice, seed: int = 0, text: str = "Go.") -> Utterance:
    return talker.say(text, voice, seed=seed, sampling=QUICK, audio_only=True)


# -- results -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [4, pytest.param(8, marks=pytest.mark.long)])
def test_takes_have_the_values_of_a_map_of_one_clip(
    talker, voice, portrait, folder, tmp_path, capacity
) -> None:
    clips = [
        talker.say("Hi. Go on.", voice, portrait, seed=1, sampling=QUICK),
        speech(talker, voice, seed=2),
        talker.animate(folder / "voice.wav", portrait, seed=3, sampling=QUICK),
        talker.dub(folder / "video.mp4", "Go.", voice, crop="none", seed=4, sampling=QUICK),
        talker.say("Oh.", voice, portrait, seed=5, sampling=replace(QUICK, steps=2)),
        talker.say("Hi.", voice, portrait, seed=6, sampling=QUICK),
    ]
    together = list(talker.map(iter(clips), capacity=capacity))
    assert [take.clip for take in together] == clips
    for take, clip in zip(together, clips, strict=True):
        (alone,) = talker.map([clip], capacity=capacity)
        assert (take.patches, take.finish_reason) == (alone.patches, alone.finish_reason)
        for ours, theirs in zip(joined(take), joined(alone), strict=True):
            assert np.array_equal(ours, theirs)
    report = together[0].save(tmp_path / "a.mp4")
    assert (report.patches, report.finish_reason) == (together[0].patches, "length")


def test_a_map_with_capacity_one_gives_the_values_of_the_clip_alone(talker, voice, portrait) -> None:
    clip = talker.say("Hi.", voice, portrait, sampling=QUICK)
    (take,) = talker.map([clip], capacity=1)
    assert all(np.array_equal(*pair) for pair in zip(joined(take), joined(clip), strict=True))


def test_a_take_of_a_map_is_saved_without_generating_again(toy, voice, tmp_path) -> None:
    class Counted(Utterance):
        made: ClassVar[list[Record]] = []

        def make(self, record, generate):
            self.made.append(record)
            return super().make(record, generate)

    clip = Counted(toy.system, ("Go.",), voice, None, 0)
    (take,) = toy.map([clip], capacity=1)
    take.save(tmp_path / "a.wav")
    assert len(pcm_of(take)) == 3840 * take.patches
    assert len(Counted.made) == 1


def test_inputs_that_were_read_in_advance_are_not_read_again(toy, voice) -> None:
    class Unread(Utterance):
        reads_inputs = True

        def ready(self, progress=None):
            return speech(toy, voice, text="Go on.")

        def make(self, record, generate):
            raise AssertionError("the inputs were not read")

    (take,) = toy.map([Unread(toy.system, ("Go.",), voice, None, 0)], capacity=1)
    assert len(pcm_of(take)) == 16 * 960


def test_a_function_that_builds_a_clip_is_a_plan(toy, voice) -> None:
    takes = list(toy.map([lambda k=k: speech(toy, voice, seed=k) for k in range(3)], capacity=2))
    assert [take.clip.seed for take in takes] == [0, 1, 2]
    assert len(pcm_of(takes[0])) == 8 * 960


# -- order ---------------------------------------------------------------------------------------------------


def test_an_unordered_map_yields_a_short_clip_before_a_long_one(toy, voice) -> None:
    """The long clip is generated only after the short one was yielded."""
    finished = threading.Event()

    class Long(Utterance):
        def make(self, record, generate):
            assert finished.wait(WAIT)
            yield from super().make(record, generate)

    clips = [Long(toy.system, ("So we go on.",), voice, None, 0, QUICK), speech(toy, voice)]
    takes = toy.map(clips, 2, ordered=False)
    assert next(takes).clip is clips[1]
    finished.set()
    assert [take.clip for take in takes] == clips[:1]
    assert [take.clip for take in toy.map(clips, 2)] == clips


def test_building_a_clip_does_not_block_the_others(toy, voice) -> None:
    delivered = threading.Event()

    def slow() -> Clip:
        assert delivered.wait(WAIT)
        return speech(toy, voice, seed=9)

    seeds = []
    for take in toy.map([slow, *(speech(toy, voice, seed=k) for k in range(5))], 2, ordered=False):
        seeds.append(take.clip.seed)
        if len(seeds) == 5:
            delivered.set()
    assert sorted(seeds[:5]) == list(range(5))
    assert seeds[5:] == [9]


def test_reading_a_video_does_not_block_the_other_clips(talker, voice, folder) -> None:
    delivered = threading.Event()

    class Slow(FaceTrack):
        def pictures(self, path, size):
            assert delivered.wait(WAIT)
            yield from super().pictures(path, size)

    dubbing = talker.dub(folder / "video.mp4", "Go.", voice, crop="none", sampling=QUICK)
    slow = dataclasses.replace(dubbing, track=Slow(Fraction(0), Fraction(20, 25), None))
    clips = [slow] * 5 + [speech(talker, voice, seed=k) for k in range(3)]
    takes = []
    for take in talker.map(clips, 1, ordered=False):
        takes.append(take)
        if len(takes) == 3:
            delivered.set()
    assert [type(take.clip) for take in takes] == [Utterance] * 3 + [Dubbing] * 5
    assert [take.error for take in takes] == [None] * 8


@pytest.mark.parametrize("ordered", [True, False])
def test_plans_are_taken_as_takes_are_read(toy, voice, ordered: bool) -> None:
    taken = itertools.count()
    endless = (speech(toy, voice, seed=next(taken)) for _ in itertools.count())
    takes = toy.map(endless, 1, ordered)
    seeds = [take.clip.seed for take in itertools.islice(takes, 20)]
    assert seeds == list(range(20)) or not ordered
    assert len(set(seeds)) == 20
    if ordered:
        time.sleep(0.15)  # the workers wait for room
    takes.close()
    assert next(taken) <= 20 + 2 * (1 + 2) + 1


# -- errors --------------------------------------------------------------------------------------------------


class Broken(Utterance):
    """Fails after two patches."""

    def make(self, record: Record, generate) -> Iterator[Piece]:
        yield from itertools.islice(super().make(record, generate), 2)
        raise OSError("the disk is gone")


def test_an_error_is_stored_in_its_take(talker, voice, portrait, folder, tmp_path) -> None:
    """Errors of any kind and at any time free the row, and all other clips are finished."""
    lost = tmp_path / "lost.wav"
    lost.write_bytes((folder / "voice.wav").read_bytes())
    removed = talker.animate(lost, portrait, sampling=QUICK)
    lost.unlink()
    long_prefix = replace(voice, prefix=torch.zeros(4 * 600, talker.system.audio_vae.latent_dim))
    bad = [
        removed,
        lambda: talker.say("...", voice),
        Broken(talker.system, ("So we go on.",), voice, None, 0, QUICK),
        Utterance(talker.system, ("Hi.",), long_prefix, None, 0, QUICK),
        lambda: 1 / 0,
    ]
    good = [speech(talker, voice, seed=k) for k in range(6)]
    plans = [good[0], *bad, *good[1:]]
    takes = list(talker.map(plans, capacity=4))
    failed = takes[1:6]
    assert [type(take.error) for take in failed] == [
        UserError,
        UserError,
        OSError,
        ValueError,
        ZeroDivisionError,
    ]
    assert [take.clip is None for take in failed] == [False, True, False, False, True]
    assert {take.finish_reason for take in failed} == {"interrupted"}
    for take in failed:
        for use in (take.save, lambda _, take=take: list(take), lambda _, take=take: list(take.latents())):
            with pytest.raises(type(take.error)):
                use(tmp_path / "bad.mp4")
    assert list(tmp_path.iterdir()) == []
    finished = [takes[0], *takes[6:]]
    assert [take.error for take in finished] == [None] * 6
    assert [take.clip for take in finished] == good


@pytest.mark.parametrize("ordered", [True, False])
def test_an_error_of_the_iterator_is_raised_after_the_takes(toy, voice, ordered: bool) -> None:
    def plans() -> Iterator[Clip]:
        for seed in range(5):
            yield speech(toy, voice, seed=seed)
        raise LookupError("the manifest ends here")

    seeds = []

    def read() -> None:
        for take in toy.map(plans(), 2, ordered):
            seeds.append(take.clip.seed)

    before = threading.active_count()
    with pytest.raises(LookupError, match="the manifest"):
        read()
    assert sorted(seeds) == list(range(5))
    assert threading.active_count() == before


def test_an_unsupported_capacity_is_refused(talker, voice) -> None:
    with pytest.raises(ValueError, match="choose a capacity"):
        list(talker.map([speech(talker, voice)], capacity=3))


def test_no_clips_give_no_takes(toy) -> None:
    assert list(toy.map([], capacity=2)) == []


def test_what_is_no_clip_is_an_error_of_its_take(toy: Talker, voice) -> None:
    clips = [speech(toy, voice), None, lambda: 3, speech(toy, voice)]
    takes = list(toy.map(clips, capacity=2))  # type: ignore[list-item]
    assert [take.error is None for take in takes] == [True, False, False, True]
    for take in takes[1:3]:
        with pytest.raises(UserError, match="a map takes clips"):
            list(take)


# -- leaving -------------------------------------------------------------------------------------------------


def test_closing_a_map_stops_generation(talker, voice) -> None:
    class Counted(Utterance):
        made: ClassVar[list[int]] = []

        def make(self, record, generate):
            for number, piece in enumerate(super().make(record, generate)):
                self.made.append(number)
                yield piece

    before = threading.active_count()
    text = "So we go on and on and on and on."
    long = [Counted(talker.system, (text,) * 9, voice, None, seed, QUICK) for seed in range(3)]
    takes = talker.map([speech(talker, voice), *long], 4)
    next(takes)
    takes.close()
    made = len(Counted.made)
    assert threading.active_count() == before
    assert made < sum(9 * clip.longest(text) // 4 for clip in long) / 2
    assert len(frames_of(talker.say("Go.", voice, audio_only=True, sampling=QUICK))) == 0  # still in use
    assert len(Counted.made) == made


def test_closing_a_map_that_waits_for_a_plan_to_be_built_makes_no_further_plan(toy, voice) -> None:
    built, release = [], threading.Event()

    def slow(number: int) -> Clip:
        built.append(number)
        if number:
            release.wait(WAIT)
        return speech(toy, voice, seed=number)

    takes = toy.map([lambda k=k: slow(k) for k in range(50)], 1)
    assert next(takes).clip.seed == 0
    timer = threading.Timer(0.2, release.set)
    timer.start()
    takes.close()
    timer.join()
    assert len(built) <= 1 + 2 * (1 + 2)
