"""Test cases from the corpus, and the shipped measures on one rendered clip."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation import heldout
from evaluation.speech import phoneme_errors, recogniser
from evaluation.sync import measure, mouth_opening, sync_net
from evaluation.validate import correlation, shifted
from puppet.corpus import Clip
from puppet.motion import INDEX, MOTION
from puppet.speech import Phoneme, Speech
from puppet.voices import voice
from talker.clock import HOP


class FrameNumbers:
    """A renderer whose pictures have the value yaw * 255, rounded."""

    def frames(self, motion: np.ndarray) -> np.ndarray:
        values = (motion[:, 0] * 255).round().astype(np.uint8)
        return np.broadcast_to(values[:, None, None, None], (len(motion), 4, 4, 3)).copy()

    def mouth_box(self, motion: np.ndarray) -> tuple[int, int, int, int]:
        return 0, 0, 2, round(float(motion[0]) * 255)


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> Clip:
    """A clip of 60 frames; frame t is a picture of the value t."""
    motion = np.zeros((60, len(MOTION)), np.float32)
    motion[:, 0] = np.arange(60) / 255
    pcm = np.zeros(60 * HOP, np.float32)
    monkeypatch.setattr(Clip, "renderer", lambda *_: FrameNumbers())
    return Clip(7, "heldout", "Hello.", voice(10_000), 1_000_000, pcm, motion, [Phoneme("ə", 0, 1)], False)


def test_pairs_are_half_a_second_apart(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = (replace(clip, index=index) for index in itertools.count())
    monkeypatch.setattr(heldout, "speaking", lambda *_, **__: clips)
    pairs = list(heldout.pairs("heldout", 41))
    assert len(pairs) == 41
    distances = [float(target[0, 0, 0] - source[0, 0, 0]) * 255 for source, target, _ in pairs]
    assert min(map(abs, distances)) > heldout.APART - 0.5 >= 12
    assert min(distances) < 0 < max(distances)
    assert all(box[3] == round(float(target[0, 0, 0]) * 255) for _, target, box in pairs)


def test_speaking_clips_have_words_and_the_wanted_length(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [clip, replace(clip, idle=True), replace(clip, motion=clip.motion[:49]), clip]
    corpus = SimpleNamespace(clip=lambda index: replace(kinds[index % 4], index=index))
    monkeypatch.setattr(heldout, "bench", lambda split: corpus)
    assert [one.index for one in itertools.islice(heldout.speaking("heldout"), 4)] == [0, 2, 3, 4]
    assert [one.index for one in itertools.islice(heldout.speaking("heldout", 50), 4)] == [0, 3, 4, 7]


def test_cases_have_distinct_texts_and_prompts_of_two_other_sentences(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speaking(*_: object) -> Iterator[Clip]:
        yield from (clip, replace(clip, index=8), replace(clip, index=8, text="Good bye."), clip)

    spoken: list[str] = []
    silence = Speech(np.zeros(HOP, np.float32), [])
    monkeypatch.setattr(heldout, "speaking", speaking)
    monkeypatch.setattr(heldout, "sentence", lambda split, index: f"{split} {index}")
    monkeypatch.setattr(heldout, "speak", lambda text, _: spoken.append(text) or silence)
    made = list(heldout.cases("heldout", 2))
    assert [case.text for case in made] == ["Hello.", "Good bye."]
    assert [(len(case.pcm), case.phonemes) for case in made] == [(HOP, []), (HOP, [])], "without long pauses"
    assert spoken[::2] == ["Hello.", "Good bye."]
    numbers = " ".join(spoken[1::2]).replace("heldout ", "").split()
    assert len(set(numbers)) == 4


def test_performance_has_the_sound_and_the_frames_of_its_clip(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[int] = []
    monkeypatch.setattr(
        heldout, "speaking", lambda split, frames: wanted.append(frames) or itertools.repeat(clip)
    )
    monkeypatch.setattr(heldout, "speak", lambda text, _: Speech(np.ones(HOP, np.float32), []))
    monkeypatch.setattr(Clip, "frames", lambda self, size: np.full((60, size, size, 3), 5, np.uint8))
    ((case, frames), _) = heldout.performances("heldout", 2)
    assert wanted == [50]
    assert (case.pcm.shape, case.phonemes, case.name) == ((60 * HOP,), ["ə"], "0007")
    assert (len(case.prompt), case.portrait.shape, frames.shape) == (HOP, (4, 4, 3), (60, 256, 256, 3))


def test_shipped_measures_agree_with_a_rendered_clip() -> None:
    """The recogniser finds the phonemes; the sync network finds the delay and the mouth opening."""
    pytest.importorskip("espeakng_loader", reason="the extra 'data' is not installed")
    clip = next(heldout.speaking("heldout", frames=50))
    heard = recogniser().transcribe(torch.from_numpy(clip.pcm))
    assert phoneme_errors(heard, [phoneme.symbol for phoneme in clip.phonemes]).rate < 0.1
    scene = next(heldout.scenes("heldout", 1, size=128, most=60))
    assert measure(sync_net(), scene.frames, scene.pcm).offset == 0
    assert measure(sync_net(), scene.frames, shifted(scene.pcm, 4)).offset == 4
    assert correlation(mouth_opening(sync_net(), scene.frames), scene.opening) > 0.9


def test_scene_opening_is_zero_in_closed_lips(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    clip.motion[:, INDEX["jaw"]] = 0.5
    clip.motion[20:30, INDEX["closure"]] = 1
    spoken = replace(clip, phonemes=[Phoneme("ə", 0, 2.4)])
    monkeypatch.setattr(heldout, "speaking", lambda *_: iter([clip, spoken]))
    (scene,) = heldout.scenes("heldout", 1)
    expected = torch.full((60,), 0.5)
    expected[20:30] = 0
    torch.testing.assert_close(scene.opening, expected)
    assert len(scene.pcm) == 60 * HOP
    short = replace(spoken, phonemes=[Phoneme("ə", 0, 2.1)])
    monkeypatch.setattr(heldout, "speaking", lambda *_: iter([short]))
    (cut,) = heldout.scenes("heldout", 1, most=55)
    assert (len(cut.frames), len(cut.pcm), len(cut.opening)) == (55, 55 * HOP, 55)
    late = replace(spoken, phonemes=[Phoneme("ə", 0, 1.9), Phoneme("t", 1.9, 2.3)])  # to be cut at 2.2 s
    brief = replace(short, motion=clip.motion[:53])
    monkeypatch.setattr(heldout, "speaking", lambda *_: iter([late, brief]))
    (cut,) = heldout.scenes("heldout", 1, most=55)
    assert len(cut.frames) == 53


def test_scenes_shorter_than_two_seconds_are_an_error() -> None:
    with pytest.raises(ValueError, match="most must exceed 50 frames"):
        next(heldout.scenes("heldout", 1, most=50))
