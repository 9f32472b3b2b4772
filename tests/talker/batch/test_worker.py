"""Voice mode from the video to the finished file, and what is made again after a change."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import person, write_video
from tiny_checkpoint import write_checkpoint, write_voice

from talker.batch.manifest import Row
from talker.batch.setup import Setup
from talker.batch.worker import Dubber
from talker.media.readers import read_audio
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
