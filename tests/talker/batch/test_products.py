"""Captions and times of words lie where the speech is placed, at its tempo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from talker.batch.cues import Cue, read_cues
from talker.batch.fit import Placement
from talker.batch.inputs import Inputs
from talker.batch.job import Job, Segment
from talker.batch.manifest import Row
from talker.batch.products import captions_of, word_times, write_beside
from talker.batch.store import Store, file_digest

PLACED = [Placement(24_000, 24_000, tempo=1.25), Placement(72_000, 12_000), Placement(90_000, 0)]
WORDS = [[["We", 0], ["go", 25], ["on", 31], ["cut", 32]], [["Oh", 5]], []]
TIMES = [("We", 1.0), ("go", 1.8), ("on", 1.992), ("Oh", 3.2)]


def test_words_have_the_time_of_their_speech_and_cut_words_none() -> None:
    found = word_times(PLACED, [{"words": words} for words in WORDS])
    assert [(one["word"], one["start"]) for one in found] == TIMES


def test_captions_have_up_to_eight_words_and_end_where_the_next_one_starts() -> None:
    words = [{"word": f"w{k}", "start": k / 2} for k in range(17)]
    first, second, third = captions_of(words, 9.0)
    assert [(one.start, one.end) for one in (first, second, third)] == [(0, 4), (4, 8), (8, 9)]
    assert (first.text.split(), third.text) == ([f"w{k}" for k in range(8)], "w16")
    assert captions_of(words[16:], 7.0) == [Cue(8, 8, "w16")]  # never before its start


def beside(folder: Path, words: list, **inputs) -> tuple[list[tuple[float, float, str]], list[str]]:
    """Captions and names of the files of three segments, of which the last one is cut as a whole."""
    job = Job(row := Row(id="a", video="v.mp4"), folder, Store(folder / "work"), key="key")
    job.inputs = Inputs(row, "voice", Path("v.mp4"), {}, **inputs)
    job.segments = tuple(Segment(Cue(0, 1, text), 0, 25, 0) for text in ("We go.", "Oh.", "Gone."))
    made = write_beside(job, Image.new("RGB", (8, 8)), PLACED, [(None, {"words": own}) for own in words])
    for artefact, digest in made.values():
        assert file_digest(job.store.folder / artefact) == digest
    cues = read_cues(job.store.folder / made["a.vtt"][0], "a.vtt")
    return [(cue.start, cue.end, cue.text) for cue in cues], sorted(made)


def test_subtitles_are_captioned_by_cue_and_texts_by_words(tmp_path: Path) -> None:
    by_cue = [(1.0, 2.0, "We go."), (3.0, 3.5, "Oh.")]
    captions, names = beside(tmp_path / "a", WORDS, cues=(Cue(0, 1, "We go."),))
    assert captions == by_cue
    assert names == ["a.vtt", "a.words.json", "report/a.jpg"]
    read = json.loads(next((tmp_path / "a/work").glob("words-*")).read_text())
    assert [one["word"] for one in read] == ["We", "go", "on", "Oh"]
    assert beside(tmp_path / "b", WORDS) == ([(1.0, 3.5, "We go on Oh")], names)
    captions, names = beside(tmp_path / "c", [[], [], []])  # without an alignment
    assert (captions, names) == (by_cue, ["a.vtt", "report/a.jpg"])
    assert captions[1][1] == pytest.approx(3.5)
