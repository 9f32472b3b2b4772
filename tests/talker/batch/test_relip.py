"""Relip: which frames change, how long the video is, and what the face is made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_files import person, write_video
from tiny_checkpoint import write_checkpoint, write_voice

from heads.streams import Streams
from talker.batch.cues import Cue
from talker.batch.inputs import find_inputs
from talker.batch.job import Job, Segment, segments_of
from talker.batch.manifest import Row
from talker.batch.relip_mode import Spoken
from talker.batch.setup import Setup
from talker.batch.store import WORK, Store
from talker.batch.worker import Dubber
from talker.errors import UserError
from talker.media.face_track import FaceTrack
from talker.media.paste import planes_of
from talker.media.readers import VideoReader

FRAMES = 36


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    write_checkpoint(root / "model")
    write_voice(root / "voice.wav", 0.6)
    picture = np.pad(person(96), ((0, 32), (0, 64), (0, 0)), "edge")
    write_video(root / "a.mp4", [picture] * FRAMES, rate=30, options={"crf": "6"})
    (root / "a.srt").write_text("1\n00:00:00,400 --> 00:00:00,800\nGo.\n")
    return root


@pytest.fixture(scope="module")
def dubber(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Dubber:
    return Dubber(Setup(tmp_path_factory.mktemp("out"), root, root / "model", 4))


@pytest.fixture(autouse=True)
def _tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Track the face of the unmoving video once."""

    def tracked(path: Path, **_: object) -> FaceTrack:
        return FACE.setdefault("track", real(path))

    real = FaceTrack.from_video
    monkeypatch.setattr(FaceTrack, "from_video", tracked)


FACE: dict[str, FaceTrack] = {}


def planes(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [planes_of(frame)[0] for frame in container.decode(video=0)]


def test_motion_follows_the_tempo_and_fades_in_and_out() -> None:
    motion = torch.arange(11.0)[:, None]
    spoken = Spoken(1.0, 1.4, 1.1, motion)
    assert spoken.at(1.0) == 0
    assert spoken.at(1.2) == pytest.approx(0.2 * 1.1 * 25)
    assert spoken.at(9.0) == 10
    assert [spoken.weight(t) for t in (0.9, 1.0, 1.06, 1.2, 1.4, 2.0)] == pytest.approx([0, 0, 0.5, 1, 0, 0])


def test_only_the_mouth_changes_and_only_in_the_cue(root: Path, dubber: Dubber) -> None:
    row = Row(id="cue", video="a.mp4", subtitles="a.srt", mode="relip", length="trim", steps=1)
    (result,) = dubber.run([row])
    assert result["status"] == "ok", result
    before, after = planes(root / "a.mp4"), planes(dubber.setup.out / "cue.mp4")
    assert len(after) == FRAMES
    square, (height, width) = FACE["track"].square(0), before[0].shape
    x, y = (np.arange(width) - square.left) / square.side, (np.arange(height) - square.top) / square.side
    inside = np.hypot((x[None] - 0.5) / 0.25, (y[:, None] - 0.69) / 0.22) < 1.3
    change = [np.abs(a.astype(int) - b) for a, b in zip(before, after, strict=True)]
    spoken = [0.46 < number / 30 < 0.74 for number in range(FRAMES)]
    silent = [not 0.38 < number / 30 < 0.82 for number in range(FRAMES)]
    assert max(difference[~inside].mean() for difference in change) < 1  # encoding
    still = max(
        difference[inside].mean() for difference, is_silent in zip(change, silent, strict=True) if is_silent
    )
    moved = min(
        difference[inside].mean() for difference, is_spoken in zip(change, spoken, strict=True) if is_spoken
    )
    assert moved > 2 * still


def test_frames_without_the_face_keep_every_sample(root: Path, dubber: Dubber) -> None:
    """Before encoding, frames are either rendered or equal to those of the source, bit for bit."""
    mode, row = dubber._modes["relip"], Row(id="x", video="a.mp4", text="Go.", mode="relip")
    job = _job(dubber, row)
    motion = torch.full((40, 6), 2.0)
    for seen in (False, True):
        job.track = dataclasses.replace(FACE["track"], seen=(seen,) * len(FACE["track"].seen))
        made = list(mode.frames(job, [Spoken(0.22, 0.81, 1.0, motion)]))
        source = list(VideoReader(root / "a.mp4").source_frames())
        assert [seconds for _, seconds in made] == [frame.seconds for frame in source]
        for (frame, seconds), old in zip(made, source, strict=True):
            equal = all(map(np.array_equal, planes_of(frame), planes_of(old.frame)))
            assert equal == (not seen or not 0.22 < seconds < 0.81), (seen, seconds)


def _job(dubber: Dubber, row: Row) -> Job:
    job = Job(row, dubber.setup.root, Store(dubber.setup.out / WORK))
    job.inputs = find_inputs(row, dubber.setup.root)
    job.track = FaceTrack.from_video(job.inputs.video)
    return job


def test_extended_speech_holds_the_last_frame(root: Path, dubber: Dubber) -> None:
    row = Row(id="long", video="a.mp4", text="Go.", mode="relip", length="extend", start=0.9, steps=1)
    (result,) = dubber.run([row])
    assert result["status"] == "ok", result
    assert result["seconds"] > 1.3
    with av.open(str(dubber.setup.out / "long.mp4")) as container:
        shown = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert shown == pytest.approx([number / 30 for number in range(len(shown))], abs=1e-3)
    assert result["seconds"] - 1.5 / 30 <= shown[-1] < result["seconds"]


def test_a_recording_and_a_portrait_are_used(root: Path, dubber: Dubber) -> None:
    rows = [
        Row(id="recording", video="a.mp4", audio="voice.wav", steps=1),
        Row(id="portrait", video="a.mp4", text="Go.", portrait="ada", length="trim", steps=1),
    ]
    results = {result["id"]: result for result in dubber.run(rows)}
    assert {result["status"] for result in results.values()} == {"ok"}, results
    assert {result["mode"] for result in results.values()} == {"relip"}
    with av.open(str(dubber.setup.out / "recording.mp4")) as container:
        comment = container.metadata["comment"]
    assert "Speech: the recording voice.wav." in comment
    assert "Picture: generated lips" in comment


# -- parts ---------------------------------------------------------------------------------------------------


def test_speech_is_placed_in_its_cue_by_the_policy_of_the_row(root: Path, dubber: Dubber) -> None:
    """Three cues of half a second, one a second; the speech lasts 0.4, 0.8 and 1.2 s."""
    job, mode = _job(dubber, Row(id="x", video="a.mp4", text="Go.", mode="relip")), dubber._modes["relip"]
    job.segments = tuple(Segment(Cue(k, k + 0.5, "Go."), 25 * k, 25 * k + 13, 0) for k in range(3))
    takes = [
        (Streams(motion=torch.zeros(frames, 6)), {"finish_reason": reason})
        for frames, reason in ((10, "stop"), (20, "silence"), (30, "overflow"))
    ]

    def placed(length: str, cues: bool) -> tuple[list[tuple[int, int, float]], list[str]]:
        job.row = dataclasses.replace(job.row, length=length)
        job.inputs = dataclasses.replace(job.inputs, cues=(Cue(0, 1, ""),) if cues else None)
        job.warnings.clear()
        found = mode.placements(job, takes)
        assert [one.start for one in found] == [0, 24_000, 48_000]
        assert "silence: not the stop predictor ended the speech at 1.00 s" in job.warnings
        assert not any("not the stop" in line and "1.00" not in line for line in job.warnings)
        cuts = [line for line in job.warnings if "do not fit" in line]
        return [(one.samples // 960, round(one.tempo, 3)) for one in found], cuts

    assert placed("trim", True) == (
        [(10, 1), (13, 1), (13, 1)],
        [
            f"trimmed: the last {cut} s of the speech at {k}.00 s do not fit"
            for cut, k in ((0.28, 1), (0.68, 2))
        ],
    )
    frames, cuts = placed("extend", True)
    assert (frames, cuts) == ([(10, 1), (20, 1), (30, 1)], [])
    assert placed("fit", True) == (
        [(round(10 / 0.9), 0.9), (13, 1.15), (13, 1.15)],
        [
            "overflow: the last 0.20 s of the speech at 1.00 s do not fit",
            "overflow: the last 0.60 s of the speech at 2.00 s do not fit",
        ],
    )
    # A part of a video is only an upper limit.
    assert placed("fit", False)[0] == [(10, 1), (13, 1.15), (13, 1.15)]


def test_speech_that_is_extended_ends_at_the_next_cue(root: Path, dubber: Dubber) -> None:
    job, mode = _job(dubber, Row(id="x", video="a.mp4", text="Go.", length="extend")), dubber._modes["relip"]
    job.segments = tuple(Segment(Cue(k / 2, 1, "Go."), 10 * k, 10 * k + 5, 0) for k in range(2))
    takes = [(Streams(motion=torch.zeros(30, 6)), {"finish_reason": "stop"})] * 2
    assert [one.samples // 960 for one in mode.placements(job, takes)] == [10, 30]
    assert mode.track(job, 10).seconds == job.track.seconds
    assert mode.track(job, 480_000).seconds == 20


def test_the_mouth_moves_by_the_share_of_the_new_lips_and_all_else_as_before(
    root: Path, dubber: Dubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode, job = dubber._modes["relip"], _job(dubber, Row(id="x", video="a.mp4", text="Go.", mode="relip"))
    network = dubber.studio.system.motion_ae
    monkeypatch.setattr(network, "config", dataclasses.replace(network.config, mouth=(1, 3)))
    seen: list[torch.Tensor] = []

    def decode(motion: torch.Tensor, source: object) -> torch.Tensor:
        seen.append(motion)
        return torch.zeros(len(motion), 3, 32, 32)

    monkeypatch.setattr(network, "decode", decode)
    new = torch.full((40, 6), 2.0)
    list(mode.frames(job, [Spoken(0.2, 0.5, 1.0, new)]))
    motion = torch.cat(seen)
    times = [k / 30 for k in range(FRAMES) if 0.2 <= k / 30 < 0.5]
    share = torch.tensor([min(1, min(t - 0.2, 0.5 - t) / 0.12) for t in times])[:, None]
    own = motion[:1]  # the video does not move, and the weight of its first frame is 0
    assert torch.allclose(motion[:, [0, 2, 4, 5]], own[:, [0, 2, 4, 5]].expand(len(times), 4), atol=1e-4)
    assert torch.allclose(motion[:, [1, 3]], torch.lerp(own[:, [1, 3]], new[:1, [1, 3]], share), atol=1e-4)


def test_the_speech_of_a_cue_depends_on_what_it_is_made_of(root: Path, dubber: Dubber) -> None:
    mode, base = (
        dubber._modes["relip"],
        {"id": "x", "video": "a.mp4", "audio": "voice.wav", "portrait": "ada"},
    )
    names = []
    for change in ({}, {"start": 0.2}, {"seed": 1}, {"steps": 2}, {"portrait": "ben"}, {"text": "Go."},
                   {"face": "first"}, {"portrait": ""}):  # fmt: skip
        job = _job(dubber, Row(**(base | change)))
        job.segments = segments_of(job.inputs, job.track, [])
        ((clip, segment, name),) = mode.plans(job)
        assert job.speech == [name]
        assert clip.portrait.name == (change.get("portrait", "ada") or "a")
        assert (clip.seed, clip.sampling.steps) == (segment.seed, change.get("steps", clip.sampling.steps))
        names.append(name)
    assert len(set(names)) == len(names)
    turned = _job(dubber, Row(**base))
    turned.track = dataclasses.replace(turned.track, turn=1)
    with pytest.raises(UserError, match="is not upright"):
        mode.plans(turned)


def test_sound_and_pictures_are_written_in_the_order_of_their_times(dubber: Dubber, monkeypatch) -> None:
    written: list[float] = []

    class Writer:
        seconds = 0.0

        def write(self, block: np.ndarray) -> None:
            self.seconds += block.shape[1] / 24_000
            written.append(-self.seconds)

        def write_frame(self, frame: object, seconds: float) -> None:
            written.append(seconds)

    mode = dubber._modes["relip"]
    monkeypatch.setattr(mode, "frames", lambda job, spoken: iter([(None, 0.0), (None, 0.5), (None, 1.2)]))
    mode.write(None, Writer(), iter([np.zeros((1, 12_000))] * 5), [], [])
    assert written == [-0.5, 0.0, -1.0, 0.5, -1.5, 1.2, -2.0, -2.5]
