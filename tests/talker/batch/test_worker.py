"""Voice mode from the video to the finished file, and what is made again after a change."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from media_files import person, write_video
from tiny_checkpoint import write_checkpoint, write_voice

from talker.batch import worker
from talker.batch.cues import Cue
from talker.batch.fit import Placement
from talker.batch.inputs import find_inputs
from talker.batch.job import ClipError, Job, Segment, load_track, save_track, segments_of
from talker.batch.manifest import Row
from talker.batch.setup import Setup
from talker.batch.soundtrack import Track
from talker.batch.store import WORK, Store, digest, weights_digest
from talker.batch.studio import Studio
from talker.batch.worker import Dubber
from talker.media.face_track import FaceTrack
from talker.media.readers import read_audio
from talker.shipped import shipped_names
from talker.system import System
from talker.text import sentences

ROW = Row(id="ä", video="a.mp4", subtitles="a.srt", steps=1, background="", keep_sound=True)
SRT = "1\n00:00:00,200 --> 00:00:00,700\nGo.\n\n2\n00:00:01,000 --> 00:00:01,400\n{}\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    write_checkpoint(root / "model")
    write_voice(root / "voice.wav", 1.3)
    picture = person(96)
    write_video(root / "a.mp4", [np.roll(picture, k % 5, 0) for k in range(45)], rate=30, sound=True)
    (root / "a.srt").write_text(SRT.format("We go."))
    (root / "broken.mp4").write_bytes((root / "a.mp4").read_bytes()[:3000])
    write_video(root / "cut.mkv", [picture] * 60, options={"g": "1"})
    (root / "cut.mkv").write_bytes((root / "cut.mkv").read_bytes()[: -(root / "cut.mkv").stat().st_size // 2])
    write_video(root / "faceless.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 5)
    return root


@pytest.fixture(scope="module")
def setup(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("out"), root, root / "model", 4)


@pytest.fixture(scope="module")
def dubber(setup: Setup) -> Dubber:
    return Dubber(setup)


def tree(out: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and content of every file."""
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in out.rglob("*")
        if path.is_file()
    }


def without_timing(result: dict) -> dict:
    return {name: value for name, value in result.items() if name != "timing"}


def test_a_clip_is_dubbed_in_its_cues_and_nothing_is_done_twice(
    root: Path, setup: Setup, dubber: Dubber
) -> None:
    (result,) = dubber.run([ROW])
    assert (result["status"], result["output"], result["cues"]) == ("ok", "ä.mp4", 2)
    assert set(result["metrics"]) == {
        "per", "phonemes", "offset", "confidence", "loudness", "voice_similarity", "duration_distance"
    }  # fmt: skip
    with av.open(str(root / "a.mp4")) as before, av.open(str(setup.out / "ä.mp4")) as after:
        assert [stream.type for stream in after.streams] == ["video", "audio", "audio"]
        seconds = float(before.streams[0].duration * before.streams[0].time_base)
        assert after.streams[1].duration * after.streams[1].time_base == pytest.approx(seconds, abs=1e-3)
        packets = [[bytes(p) for p in c.demux(video=0) if p.size] for c in (before, after)]
        assert packets[0] == packets[1]
    pcm = np.abs(read_audio(setup.out / "ä.mp4").numpy())
    spoken = [slice(5200, 16_400), slice(24_400, 33_200)]  # 0.2..0.7 and 1.0..1.4 s, less than a frame off
    assert all(pcm[part].max() > 0.05 for part in spoken)
    quiet = np.concatenate([pcm[:3800], pcm[18_200:22_500], pcm[35_000:]])
    assert quiet.max() < 0.01
    assert (setup.out / "ä.vtt").read_text().count("-->") == 2
    assert (setup.out / "report" / "ä.jpg").is_file()
    assert json.loads((setup.out / "ä.words.json").read_text())

    made = tree(setup.out)
    (again,) = dubber.run([ROW])
    assert without_timing(again) == without_timing(result)
    assert tree(setup.out) == made

    artefact = setup.out / "work" / result["files"]["ä.mp4"][0]
    (setup.out / "ä.mp4").rename(artefact)  # as if the process had died before it moved the file
    (moved,) = dubber.run([ROW])
    assert without_timing(moved) == without_timing(result)
    assert tree(setup.out) == made

    (setup.out / "ä.mp4").write_bytes(b"changed by somebody")
    (repaired,) = dubber.run([ROW])
    assert without_timing(repaired) == without_timing(result)
    assert {name: data for name, (_, data) in tree(setup.out).items()} == {
        name: data for name, (_, data) in made.items()
    }


def test_only_the_cue_that_changed_is_generated_again(
    root: Path, setup: Setup, dubber: Dubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = dataclasses.replace(ROW, id="b", keep_sound=False)
    list(dubber.run([row]))
    before = tree(setup.out / "work")
    (root / "a.srt").write_text(SRT.format("We do."))
    (result,) = dubber.run([row])
    (root / "a.srt").write_text(SRT.format("We go."))
    after = tree(setup.out / "work")
    assert result["status"] == "ok"
    assert {name: after[name] for name in before} == before
    new = sorted(name.partition("-")[0] for name in after if name not in before)
    assert new == ["notes", "result", "speech"]


BAD = {
    "none": ({"video": "none.mp4"}, "check", "does not exist"),
    "broken": ({"video": "broken.mp4"}, "check", "cannot be read as video"),
    "faceless": ({"video": "faceless.mp4"}, "face", "no face was found in faceless.mp4"),
    "cut": ({"video": "cut.mkv"}, "face", "cut.mkv is cut short"),
    "late": ({"subtitles": "late.srt"}, "face", "after the end of the video"),
    "folder": ({}, "check", "folder.mp4 is a folder"),
    "silent": ({"voice": "silent.wav", "consent": True}, "voice", "is silent"),
}


def test_a_bad_clip_is_a_line_with_its_stage_and_the_others_are_finished(
    root: Path, setup: Setup, dubber: Dubber
) -> None:
    (root / "late.srt").write_text("1\n00:01:00,000 --> 00:01:01,000\nGo.\n")
    write_voice(root / "silent.wav")
    (root / "silent.wav").write_bytes((root / "silent.wav").read_bytes()[:44] + bytes(48_000))
    (setup.out / "folder.mp4").mkdir()
    good = Row(id="good", video="a.mp4", text="Go.", steps=1)
    rows = [good]
    for name, (values, *_) in BAD.items():
        text = {} if "subtitles" in values else {"text": "Go."}
        rows.insert(0, Row(**({"id": name, "video": "a.mp4", "steps": 1} | text | values)))
    results = {result["id"]: result for result in dubber.run(rows)}
    assert results["good"]["status"] == "ok"
    for name, (_, stage, reason) in BAD.items():
        assert (results[name]["status"], results[name]["stage"]) == ("failed", stage)
        assert reason in results[name]["reason"]
        assert "\n" not in results[name]["reason"]
        assert str(root) not in results[name]["reason"]


def test_an_error_of_this_program_fails_its_clip_only(
    root: Path, setup: Setup, dubber: Dubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str, **_: object) -> list[str]:
        if text == "Oh.":
            raise AssertionError("planned")
        return split(text)

    split = sentences.split_sentences
    monkeypatch.setattr("talker.clips.text.split_sentences", broken)
    rows = [
        Row(id="bad", video="a.mp4", text="Oh.", steps=1),
        Row(id="fine", video="a.mp4", text="Go.", steps=1),
    ]
    results = {result["id"]: result for result in dubber.run(rows)}
    assert results["bad"]["reason"] == "AssertionError: planned"
    assert results["fine"]["status"] == "ok"


# -- parts ---------------------------------------------------------------------------------------------------


def job_of(dubber: Dubber, row: Row) -> Job:
    """A job whose face was tracked."""
    job = Job(row, dubber.setup.root, Store(dubber.setup.out / WORK))
    job.inputs = find_inputs(row, dubber.setup.root)
    name = dubber.studio.name("track", "json", video=digest(job.inputs.video), face=row.face)
    job.track = load_track(
        job.store.make(name, lambda path: save_track(FaceTrack.from_video(job.inputs.video), path))
    )
    job.segments = segments_of(job.inputs, job.track, job.warnings)
    return job


def test_each_cue_has_its_own_voice_seed_and_sampling(root: Path, dubber: Dubber) -> None:
    (root / "two.vtt").write_text(
        "WEBVTT\n\n00:00.200 --> 00:00.700\n<v Ben>Go.\n\n00:01.000 --> 00:01.400\nWe go.\n"
    )
    row = Row(
        id="v", video="a.mp4", subtitles="two.vtt", voices=(("Ben", "frank"),), seed=5, steps=2, sway=0.25
    )
    mode = dubber._modes["voice"]
    plans = mode.plans(job_of(dubber, row))
    clips = [clip for clip, _, _ in plans]
    assert [clip.voice.name for clip in clips] == ["frank", shipped_names("voices")[0]]
    assert [clip.seed for clip in clips] == [segment.seed for _, segment, _ in plans]
    assert {clip.sampling.steps for clip in clips} == {2}
    assert {clip.sampling.sway for clip in clips} == {0.25}
    assert [len(clip.codes) for clip in clips] == [12, 10]
    assert [clip.sentences for clip in clips] == [("Go.",), ("We go.",)]
    names = {plans[0][2]}
    for change in ({"seed": 6}, {"steps": 1}, {"voices": (("Ben", "ada"),)}):
        job = job_of(dubber, dataclasses.replace(row, **change))
        mode.plans(job)
        names.add(job.speech[0])
    assert len(names) == 4


def test_speech_for_lips_ends_with_the_video_and_an_overflow_is_reported(dubber: Dubber) -> None:
    job = job_of(dubber, Row(id="v", video="a.mp4", text="Go.", start=0.4))
    job.track = dataclasses.replace(job.track, seconds=Fraction(149, 100))
    job.segments = (Segment(Cue(0.4, 1.49, "Go."), 10, 38, 0), Segment(Cue(0, 0.2, "Go."), 0, 5, 0))
    takes = [(None, {"finish_reason": reason}) for reason in ("overflow", "stop")]
    placed = dubber._modes["voice"].placements(job, takes)
    assert placed == [Placement(9600, 35_760 - 9600), Placement(0, 4800)]
    assert job.warnings == ["overflow: the words of the cue at 0.40 s do not fit"]


def test_speech_depends_on_the_model_and_its_capacity_and_tracks_do_not(
    setup: Setup, dubber: Dubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(System, "load", lambda folder: dubber.studio.system)
    other = Studio(dataclasses.replace(setup, threads=2, capacity=8))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert other.version | {"threads": 1, "capacity": 4} == dubber.studio.version
    assert len(dubber.studio.version) == 5
    for changed in dubber.studio.version:
        other.version = dubber.studio.version | {changed: "other"}
        for stage in ("speech", "motion", "starts", "track"):
            same = other.name(stage, "x", a=1) == dubber.studio.name(stage, "x", a=1)
            assert same == (stage == "track" and changed != "code")


def test_each_setting_of_a_row_changes_the_sampling(dubber: Dubber) -> None:
    row = Row(id="a", video="v")
    usual = dubber.studio.sampling(row)
    assert usual == dubber.studio.system.generator.defaults.sampling
    for name, value in {"steps": 3, "guidance": 0.0, "temperature": 0.0, "sway": 0.0}.items():
        changed = dubber.studio.sampling(dataclasses.replace(row, **{name: value}))
        assert changed == dataclasses.replace(usual, **{name: value})


class Written:
    """Stands for the writer of a video."""

    dropped = ["the data track 3 was left out: x"]  # noqa: RUF012

    def __init__(
        self, path: Path, video: Path, start: Fraction, rate: int, layout: str, tags: dict, *more, **named
    ):
        self.given = (start, rate, layout, more, named["encode"])
        self.comment = tags["comment"]
        path.touch()

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def write(self, block: np.ndarray) -> None:
        pass


def test_the_old_sound_is_ducked_from_the_first_picture_on_and_a_stem_is_not(
    dubber: Dubber, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mixes, writers = [], []

    def mixed(*given: object) -> Iterator[np.ndarray]:
        mixes.append(given[1:])
        return iter(())

    def writer(*given: object, **named: object) -> Written:
        writers.append(Written(*given, **named))
        return writers[-1]

    monkeypatch.setattr(worker, "mixed", mixed)
    monkeypatch.setattr(worker, "ProgrammeWriter", writer)
    placed, start = [Placement(0, 4800)], Fraction(1, 3)
    video, stem = dubber.setup.root / "a.mp4", dubber.setup.root / "voice.wav"
    for number, (values, below, given) in enumerate(
        [
            (
                {"background": "duck", "keep_sound": True},
                (video, start, placed),
                (start, 48_000, "stereo", (True,), False),
            ),
            ({"background": "voice.wav"}, (stem, 0, None), (start, 48_000, "stereo", (False,), False)),
            ({}, None, (start, 24_000, "mono", (False,), False)),
        ]
    ):
        job = job_of(dubber, Row(id="v", video="a.mp4", text="Go.", voices=(("B", "frank"),), **values))
        job.track, job.key = dataclasses.replace(job.track, start=start), f"key{number}"
        speech = Track(tmp_path, 4800)
        for _ in range(2):  # the second time, the file exists
            job.warnings.clear()
            dubber._write_media(job, tmp_path / f"{number}.mp4", speech, placed, [])
            assert job.warnings == Written.dropped
        assert len(writers) == number + 1
        assert writers[-1].given == given
        assert f"in the voice {shipped_names('voices')[0]}, frank." in writers[-1].comment
        assert mixes[number : number + 1] == ([] if below is None else [below])


def test_speech_has_the_wanted_loudness_else_that_of_the_old_sound(
    dubber: Dubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[float] = []
    monkeypatch.setattr(Track, "set_loudness", lambda self, wanted: levels.append(wanted))
    monkeypatch.setattr(Track, "write", lambda self, placed: None)
    old: list[float | None] = [-31.0, None]
    monkeypatch.setattr(worker, "old_loudness", lambda path, start: old[0])
    placed = [Placement(24_000, 24_000)]

    def made(**values) -> tuple[Track, list[str]]:
        job = job_of(dubber, Row(id="v", video="a.mp4", **values))
        return dubber._soundtrack(job, placed, [(None, {})]), job.warnings

    track, warnings = made(text="Go.", loudness=-20.0)
    assert track.samples == 48_000  # the longer one of the video and the speech
    assert "the speech is silent" in warnings
    made(text="Go.")
    assert len(made(audio="voice.wav")[1]) == 1  # a recording keeps its own loudness
    del old[0]
    made(text="Go.")
    assert levels == [-20, -31, -23]


def test_the_distance_is_that_of_the_speech_before_its_change_to_its_cue() -> None:
    segments = [SimpleNamespace(frames=25), SimpleNamespace(frames=50)]
    placed = [Placement(0, 24_000, 1.2, cut=0.1), Placement(0, 60_000)]
    # Lengths in seconds before the change of tempo: 1 / 1.2 + 0.1, and 2.5.
    expected = (abs(1 / 1.2 + 0.1 - 1) / 1 + 0.5 / 2) / 2
    assert worker._distance(SimpleNamespace(segments=segments), placed) == pytest.approx(expected, abs=1e-4)


def test_a_result_that_somebody_replaces_meanwhile_fails(dubber: Dubber) -> None:
    job = Job(ROW, dubber.setup.root, Store(dubber.setup.out / WORK))
    job.result = {"files": {"x.mp4": ["media-x.mp4", "0" * 64]}}
    for content in (None, b"other"):
        if content is not None:
            (dubber.setup.out / "x.mp4").write_bytes(content)
        with pytest.raises(ClipError, match="was changed while the batch was running"):
            dubber._deliver(job)


def test_the_wanted_face_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def tracked(path: Path, crop: str = "face", progress: object = None, choice: str = "") -> FaceTrack:
        seen.append(choice)
        return FaceTrack(Fraction(0), Fraction(1), None)

    monkeypatch.setattr(FaceTrack, "from_video", tracked)
    worker._write_track(tmp_path / "a.mp4", "index:1", tmp_path / "t.json")
    assert seen == ["index:1"]


def test_the_digest_of_weights_covers_every_configuration_and_weights_file(tmp_path: Path) -> None:
    (tmp_path / "talker").mkdir()
    found = set()
    for name in ("talker/config.json", "talker/model.safetensors", "talker/second.safetensors"):
        for content in ("a", "b"):
            (tmp_path / name).write_text(content)
            found.add(weights_digest(tmp_path))
    assert len(found) == 6
