"""Which spans of a video become clips, and what a clip holds: closed forms, and one small video."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import person, write_sound
from PIL import Image, ImageFilter
from talking_videos import write_clip

from recipes.data.prepare import analysis as analysis_module
from recipes.data.prepare import clips as clips_module
from recipes.data.prepare.analysis import ACROSS, Analysis, analyse, choose_spans, sound
from recipes.data.prepare.clips import Record, make_clips, sharpness_of
from recipes.data.prepare.sources import Source
from recipes.data.transcript import Cue, Span
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.media.face import Box
from talker.media.face_track import DETECTION_INTERVAL, FaceTrack
from talker.media.loudness import SPEECH_LEVEL, LoudnessProfile
from talker.media.provenance import kept_tags
from talker.media.readers import VideoReader, read_audio

FRAMES = 10 * DETECTION_INTERVAL
FACE = Box(16, 16, 32)


def analysis(**change: object) -> Analysis:
    """A video of 120 frames with one face, whose frames 20..69 hold speech."""
    power = np.repeat((np.arange(FRAMES) >= 20) & (np.arange(FRAMES) < 70), 2) * 0.01
    whole = Analysis(
        track=FaceTrack(Fraction(0), Fraction(FRAMES, FRAME_RATE), (FACE,) * 10),
        detections=(FACE,) * 10,
        several={0: False, 4: False, 8: False},
        shots=((0, FRAMES),),
        survey=LoudnessProfile(FRAMES * HOP, power),
        shift=0.0,
        unpaired=0.0,
    )
    return replace(whole, **change)


def some(count: int, other: Box | None) -> tuple[Box | None, ...]:
    """Ten detections, of which the last `count` are another one."""
    return (FACE,) * (10 - count) + (other,) * count


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"detections": some(2, None)}, None),
        ({"detections": some(3, None)}, "no face"),
        ({"several": {0: True, 4: False, 8: False, 9: False}}, None),
        ({"several": {0: True, 4: False, 8: False}}, "several faces"),
        ({"detections": some(4, Box(16 + 18, 16, 32))}, None),
        ({"detections": some(4, Box(16 + 21, 16, 32))}, "face jumps"),
        ({"track": FaceTrack(Fraction(0), Fraction(5), (Box(0, 0, 31),) * 10)}, "face too small"),
        ({"detections": some(1, Box(16 + 21, 16, 32))}, "face jumps"),
        ({"damaged": (1.0,)}, "damaged"),
        ({"damaged": (FRAMES / 25, -0.1)}, None),
    ],
)
def test_faults_of_a_span(change: dict[str, object], expected: str | None) -> None:
    assert analysis(**change).fault(0, FRAMES, 64) == expected


def test_faults_outside_of_a_span_do_not_count() -> None:
    begins = analysis(several={0: True, 1: True, 8: False}, detections=(None, *some(0, None)[1:]))
    assert begins.fault(0, 48, 64) == "no face"
    assert begins.fault(12, 48, 64) == "several faces"
    assert begins.fault(24, FRAMES, 64) is None


def test_clips_have_at_least_25_frames() -> None:
    assert analysis().fault(10, 35, 64) is None
    assert analysis().fault(10, 34, 64) == "too short"


def test_spans_without_a_transcript_are_the_speech_with_six_frames_around_it() -> None:
    (span,), lost = choose_spans(analysis(), [])
    assert (span.start, span.end, span.cues) == (14 / 25, 76 / 25, ())
    assert not lost
    (span,), _ = choose_spans(analysis(shots=((18, 74),)), [])  # the shot ends earlier
    assert (span.start, span.end) == (18 / 25, 74 / 25)


def test_a_text_without_times_needs_one_shot_and_all_of_the_sound() -> None:
    text = [Cue(0.0, math.inf, "so it goes")]
    (span,), lost = choose_spans(analysis(), text)
    assert span.cues == (Cue(span.start, span.end, "so it goes"),)
    assert not lost
    assert choose_spans(analysis(unpaired=0.29), text)[0]
    for change in ({"unpaired": 0.31}, {"shots": ((0, 60), (60, FRAMES))}):
        found, lost = choose_spans(analysis(**change), text)
        assert not found
        assert list(lost.values()) == [1]
    cut = ((0, 60), (60, FRAMES))  # damaged pictures can look like cuts
    assert choose_spans(analysis(shots=cut, damaged=(1.0,)), text) == (
        [],
        {"damaged, and its transcript has no times": 1},
    )


@pytest.mark.parametrize(("shift", "start"), [(-0.5, 1.0), (0.5, 1.5)])
def test_transcripts_count_from_the_earlier_of_sound_and_picture(shift: float, start: float) -> None:
    (span,), _ = choose_spans(analysis(shift=shift), [Cue(1.5, 2.5, "so")])
    assert span.cues[0].start == pytest.approx(start)


def test_the_last_word_may_end_a_quarter_of_a_second_after_the_video() -> None:
    end = FRAMES / FRAME_RATE
    assert len(choose_spans(analysis(), [Cue(3.0, end + 0.24, "so")])[0]) == 1
    assert len(choose_spans(analysis(), [Cue(3.0, end + 0.26, "so")])[0]) == 0
    two_shots, last_word = analysis(shots=((0, 60), (60, FRAMES))), Cue(1.0, 60 / FRAME_RATE + 0.1, "so")
    assert choose_spans(two_shots, [last_word]) == ([], {ACROSS: 1})


@pytest.mark.parametrize("shift", [0.0, 0.5, -0.5])
def test_sound_starts_with_the_first_picture(tmp_path: Path, shift: float) -> None:
    pcm = np.random.default_rng(0).uniform(-0.5, 0.5, (1, SAMPLE_RATE)).astype(np.float32)
    path = write_sound(tmp_path / "a.mkv", "pcm_f32le", SAMPLE_RATE, pcm=pcm)
    heard = torch.cat(list(sound(path, shift))).numpy()
    late = round(shift * SAMPLE_RATE)
    expected = np.concatenate([np.zeros(max(0, late)), pcm[0, max(0, -late) :]])
    assert np.allclose(heard, expected, atol=1e-3)


def test_sound_before_the_first_picture_is_left_out_whatever_its_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for size in (1, 3, 4, 5, 10):
        pieces = torch.arange(10.0).split(size)
        monkeypatch.setattr(analysis_module, "stream_audio", lambda *_, pieces=pieces: iter(pieces))
        assert torch.cat(list(sound(Path("a.mp4"), -4 / SAMPLE_RATE))).tolist() == [4, 5, 6, 7, 8, 9]


def test_faces_of_a_shot_are_not_tracked_into_the_next_one(tmp_path: Path) -> None:
    dark, light = (np.full((64, 64, 3), level, np.uint8) for level in (60, 200))
    write_clip(
        tmp_path / "a.mp4", [dark] * 30 + [light] * 20, 0.1 * np.ones(2 * SAMPLE_RATE), sound_start=0.4
    )
    other = Box(40, 0, 24)

    def detector(picture: Image.Image) -> list[Box]:
        return [FACE] if np.mean(picture) < 130 else [other, FACE]

    found = analyse(tmp_path / "a.mp4", detector)
    assert found.detections == (FACE, FACE, FACE, other, other)
    assert found.shots == ((0, 25), (36, 50)), "no square is interpolated across the cut"
    assert found.shift == pytest.approx(0.4, abs=0.05)
    assert found.survey.seconds == pytest.approx(2.4, abs=0.1), "from the first picture on"


def test_blurred_pictures_are_less_sharp_than_the_limit() -> None:
    sharp = person(128)
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(2)))
    assert sharpness_of(sharp) > 2 * clips_module.LEAST_SHARPNESS
    assert sharpness_of(blurred) < clips_module.LEAST_SHARPNESS


def test_clips_hold_the_pictures_sound_and_words_of_their_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The brightness of a frame gives its number; the pitch of the sound rises all the time.
    time = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    pcm = 0.3 * np.sin(2 * np.pi * (150 + 40 * time) * time) * (1 + 0.5 * np.sin(7 * time))
    pcm[: 2 * SAMPLE_RATE] *= 0.1  # the first words are softer
    numbers = np.arange(125)
    brightness = 50 + 2 * np.minimum(numbers, 125 - numbers)
    board = 30 * (np.indices((64, 64)) // 8).sum(0) % 60 - 15  # sharp, and as bright in every crop
    frames = [np.repeat((board + level).astype(np.uint8)[..., None], 3, 2) for level in brightness]
    tags = {"title": "A talk", "comment": "AI-generated: all of it"}
    write_clip(tmp_path / "a.mp4", frames, pcm, tags=tags)
    words = [(0.3, 1.2, "so"), (1.3, 1.7, "it"), (3.9, 5.1, "goes")]  # the last one ends after the video
    segments = [{"start": start, "end": end, "text": text} for start, end, text in words]
    (tmp_path / "a.json").write_text(json.dumps({"segments": segments}))
    monkeypatch.setattr(clips_module, "retinaface", lambda *_: lambda _: [FACE])

    make_clips(Source.of(tmp_path / "a.mp4", "a.mp4"), tmp_path / "a", 32, (Path(), "cpu"))
    record = Record.read(tmp_path / "a")
    # The words with 0.25 s before and after them, at whole frames; the pause of 2.2 s separates two clips.
    assert [(clip.first, clip.last) for clip in record.clips] == [(1, 49), (91, 125)]
    assert not record.lost
    cues = [(cue, clip) for clip in record.clips for cue in clip.cues]
    for (cue, clip), (start, end, text) in zip(cues, words, strict=True):
        assert cue.text == text
        expected = [min(time, clip.last / 25) - clip.first / 25 for time in (start, end)]
        assert (cue.start, cue.end) == pytest.approx(expected)
    gains = []
    for number, clip in enumerate(record.clips):
        path = tmp_path / "a" / f"{number:03d}.mkv"
        assert kept_tags(path) == tags
        shown = np.array([frame.mean() for frame in VideoReader(path)])
        own = brightness[clip.first : clip.last]
        assert len(shown) == len(own)
        assert np.abs(shown - own).max() < 3
        assert abs((shown - own).mean()) < 0.8
        samples = read_audio(path).numpy()
        source = pcm[clip.first * HOP : clip.last * HOP]
        assert len(samples) == len(source)
        assert np.corrcoef(samples, source)[0, 1] > 0.95
        level = np.sqrt(np.mean(np.square(samples)))
        gains.append(level / np.sqrt(np.mean(np.square(source))))
    assert level == pytest.approx(SPEECH_LEVEL, rel=0.3)
    assert gains[0] == pytest.approx(gains[1], rel=0.05)

    # Spans that touch inside of a frame do not share it; nothing is kept of clips with a fault.
    spans = [Span(0.1, 1.34, ()), Span(1.34, 2.6, ())]
    monkeypatch.setattr(clips_module, "choose_spans", lambda *_: (spans, {}))
    monkeypatch.setattr(clips_module, "LEAST_SHARPNESS", 9.0)
    make_clips(Source.of(tmp_path / "a.mp4", "a.mp4"), tmp_path / "b", 32, (Path(), "cpu"))
    assert Record.read(tmp_path / "b").lost == {"blur": 2}
    assert Record.read(tmp_path / "b").notes == ["0.1 to 1.4 s: blur", "1.4 to 2.6 s: blur"]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["record.json"]
