"""One clip in work: its cues on the frames of the video, its stages and errors, and what is stored of it."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import pytest

from talker.batch.cues import Cue
from talker.batch.inputs import Inputs
from talker.batch.job import ClipError, Job, load_track, one_line, save_track, segments_of
from talker.batch.manifest import Row
from talker.batch.store import WORK, Store
from talker.errors import UserError
from talker.media.face import Box
from talker.media.face_track import FaceTrack
from talker.stages import Cancelled

SECOND = FaceTrack(Fraction(0), Fraction(1), None)


def inputs(*cues: Cue, **row) -> Inputs:
    return Inputs(Row(id="a", video="v.mp4", **row), "voice", Path("v.mp4"), {}, cues=cues or None)


def spans(*cues: Cue, **row) -> list[tuple[int, int]]:
    return [(one.first, one.last) for one in segments_of(inputs(*cues, **row), SECOND, [])]


def test_a_cue_has_the_whole_frames_inside_of_it_up_to_a_tenth_of_a_frame() -> None:
    assert spans(Cue(0.2, 0.4, "a")) == [(5, 10)]
    assert spans(Cue(0.203, 0.397, "a")) == [(5, 10)]
    assert spans(Cue(0.205, 0.395, "a")) == [(6, 9)]
    assert spans(Cue(0.01, 0.045, "less than a frame"), Cue(0.2, 0.4, "a")) == [(5, 10)]
    assert spans(text="a", start=0.2) == [(5, 25)]
    assert spans(text="a", start=0.2, end=0.8) == [(5, 20)]
    assert spans(text="a", end=7.0) == [(0, 25)]
    with pytest.raises(UserError, match="after the end of the video"):
        spans(Cue(1.0, 2.0, "a"))


def test_a_cue_that_ends_a_frame_after_the_video_is_reported_and_cut() -> None:
    for end, expected in ((1.03, 0), (1.05, 1)):
        warnings: list[str] = []
        (segment,) = segments_of(inputs(Cue(0.4, end, "a")), SECOND, warnings)
        assert (segment.first, segment.last, len(warnings)) == (10, 25, expected)


def test_the_seed_of_a_cue_depends_on_its_words_its_start_and_the_row_alone() -> None:
    def seeds(*cues: Cue, seed: int = 0) -> list[int]:
        return [one.seed for one in segments_of(inputs(*cues, seed=seed), SECOND, [])]

    a, b = Cue(0.2, 0.4, "a"), Cue(0.6, 0.8, "b")
    assert seeds(a, b) == [*seeds(a), *seeds(b)]
    assert seeds(Cue(0.2, 0.5, "a")) == seeds(a)
    others = [*seeds(a, seed=1), *seeds(Cue(0.24, 0.4, "a")), *seeds(Cue(0.2, 0.4, "b"))]
    assert len({*seeds(a), *others}) == 4


def test_a_stage_that_is_entered_twice_has_the_sum_of_its_times(tmp_path: Path) -> None:
    seen: list[str] = []
    job = Job(inputs(text="a").row, tmp_path, Store(tmp_path / WORK), notify=seen.append)
    for _ in range(2):
        with job.stage("voice"):
            time.sleep(0.01)
    assert job.timing["voice"] >= 0.02
    with pytest.raises(ClipError) as failed, job.stage("text"):
        raise KeyError("x")
    assert (failed.value.stage, failed.value.reason) == ("text", "KeyError: 'x'")
    with pytest.raises(ClipError) as outer, job.stage("mux"), job.stage("inner"):
        raise UserError("bad")
    assert (outer.value.stage, outer.value.reason) == ("inner", "bad")
    with pytest.raises(Cancelled), job.stage("motion"):
        raise Cancelled
    assert seen == ["voice", "voice", "text", "mux", "inner", "motion"]
    assert sorted(job.timing) == sorted(set(seen))


def test_a_reason_is_one_line_without_folders_and_control_characters(tmp_path: Path) -> None:
    job = Job(inputs(text="a").row, tmp_path / "in", Store(tmp_path / "out" / WORK))
    line = one_line(
        UserError(f"{job.root}/a.mp4,\n{job.store.folder}/b and {tmp_path}/out/c\x1b, or use --crop none"),
        job,
    )
    assert line == "a.mp4, work/b and c\\x1b"
    assert one_line(OSError(28, "No space left", f"{tmp_path}/x"), job) == "No space left"
    job.warn("two\nlines")
    assert job.warnings == ["two lines"]


def test_a_track_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    for squares, seen in (((Box(1.5, 2.25, 64.125), Box(2.0, 3.0, 65.0)), (True, False)), (None, ())):
        track = FaceTrack(Fraction(1, 3), Fraction(7, 5), squares, 3, seen)
        save_track(track, tmp_path / "track.json")
        assert load_track(tmp_path / "track.json") == track
