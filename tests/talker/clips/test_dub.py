"""Speech for given videos: its length, and the copied video track, for many containers and frame rates."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from media_files import person, write_sound, write_video
from PIL import Image
from takes import QUICK, errors, pcm_of, recorded
from tiny_checkpoint import write_checkpoint, write_voice
from toy_generator import ToyGenerator

from heads.streams import Streams
from talker import Talker
from talker.cli import main
from talker.clips.clip import NO_FRAMES, Chunk
from talker.clips.dub import Dubbing, detect_movement
from talker.clips.record import Record
from talker.generation.generator import Durations
from talker.identity import Voice
from talker.media.face_track import FaceTrack
from talker.media.readers import VideoReader, stream_audio
from talker.media.remux import DubWriter, PacketReader, dubbed_name, first_sample_time
from talker.stages import Stages
from talker.system import System

TEXT = "Go."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_voice(folder / "voice.wav", 1.3)
    return folder


def nodding(count: int, size: int = 96) -> list[np.ndarray]:
    picture = person(size)
    return [np.roll(picture, k % 5, axis=0) for k in range(count)]


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


UNEVEN = [Fraction(3 * k + k * k % 3, 60) for k in range(30)]
VIDEOS = [
    ("a.mp4", "out.mp4", 23, {}, Fraction(23, 25)),
    ("b.mp4", "out.mp4", 31, {"rate": 30, "sound": True}, Fraction(31, 30)),
    pytest.param(
        "c.mkv", "out.mkv", 20, {"rate": Fraction(24_000, 1001)}, Fraction(833, 1000), marks=pytest.mark.long
    ),
    ("d.webm", "out.webm", 16, {"rate": 30, "codec": "libvpx"}, Fraction(533, 1000)),
    pytest.param(
        "e.webm",
        "out.mp4",
        16,
        {"rate": 30, "codec": "libvpx-vp9"},
        Fraction(533, 1000),
        marks=pytest.mark.long,
    ),
    ("f.avi", "out.avi", 15, {"codec": "msmpeg4"}, Fraction(15, 25)),
    ("g.mp4", "out.mp4", 30, {"stamps": UNEVEN}, Fraction(89, 60)),
]


def test_reading_a_video_reports_its_seconds(talker: Talker, voice: Voice, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", nodding(23))
    found: list[float] = []
    clip = talker.dub(tmp_path / "a.mp4", TEXT, voice, crop="none", progress=found.append)
    assert found == pytest.approx([1 / 25] * 23)
    del found[:]
    ready = clip.ready(found.append)
    assert sum(found) == pytest.approx(23 / 25)
    assert len(found) > 1
    assert torch.equal(ready.motion(), clip.motion())


def test_damaged_timestamps_of_copied_packets_are_repaired(video: Path) -> None:
    """Decoding times increase, and no frame is shown before it is decoded."""
    with closing(PacketReader(video, "video", Fraction(1, 2))) as source:
        packets = list(itertools.islice(source.stamped(), 4))
        for packet, (dts, pts) in zip(packets, [(70, 80), (70, 60), (65, 90), (99, 99)], strict=True):
            packet.dts, packet.pts, packet.time_base = dts, pts, Fraction(1, 100)
        source.stamped = lambda: iter(packets)  # type: ignore[method-assign]
        found = [(packet.dts, packet.pts, time) for time, packet in source.packets(source.track)]
    assert found == [(20, 30, 0.2), (21, 21, 0.21), (22, 40, 0.22), (49, 49, 0.49)]


@pytest.mark.parametrize(("name", "out", "count", "how", "seconds"), VIDEOS, ids=lambda value: str(value)[:8])
def test_speech_is_as_long_as_the_video_whose_packets_are_copied(
    toy: Talker, voice: Voice, tmp_path: Path, name, out, count, how, seconds
) -> None:
    path = write_video(tmp_path / name, nodding(count), **how)
    dubbing = toy.dub(path, TEXT, voice, crop="none")
    assert abs(dubbing.track.seconds - seconds) <= Fraction(1, 24)
    assert len(dubbing.motion()) == -(-(dubbing.track.seconds * 25 - Fraction(1, 10)) // 1)
    chunks: list[Chunk] = []
    report = dubbing.save(tmp_path / f"dubbed {out}", progress=chunks.append)
    assert len(pcm_of(chunks)) == round(24_000 * dubbing.track.seconds)
    assert report.finish_reason in ("stop", "overflow")
    assert packets(tmp_path / f"dubbed {out}") == packets(path)
    with av.open(str(tmp_path / f"dubbed {out}")) as container:
        starts = [float(stream.start_time * stream.time_base) for stream in container.streams]
        assert [stream.type for stream in container.streams] == ["video", "audio"]
    assert max(starts) - min(starts) < 0.01


# File, codec, its options, and the suffix of the dubbed file.
CONTAINERS = [
    ("a.avi", "mpeg4", {"bf": "2"}, ".mp4"),
    pytest.param("b.avi", "msmpeg4", {}, ".avi", marks=pytest.mark.long),
    ("c.avi", "mjpeg", {}, ".avi"),
    pytest.param("d.avi", "huffyuv", {}, ".avi", marks=pytest.mark.long),
    ("e.avi", "libx264", {}, ".avi"),  # pictures out of order
    pytest.param("f.wmv", "wmv2", {}, ".wmv", marks=pytest.mark.long),
    ("g.flv", "flv", {}, ".flv"),
    ("h.flv", "libx264", {}, ".mp4"),
    ("i.mpg", "mpeg2video", {"bf": "2"}, ".mpg"),
    pytest.param("j.ts", "mpeg2video", {"bf": "2"}, ".ts", marks=pytest.mark.long),
    ("k.ogv", "libvpx", {}, ".ogv"),
    pytest.param("l.mkv", "ffv1", {}, ".mkv", marks=pytest.mark.long),
    ("m.mkv", "libx265", {"x265-params": "log-level=none"}, ".mp4"),
    ("n.mxf", "mpeg2video", {}, ".mkv"),
    pytest.param("o.mov", "prores", {}, ".mov", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "codec", "options", "ending"), CONTAINERS, ids=lambda value: str(value)[:9])
def test_a_video_that_mp4_cannot_hold_keeps_its_container(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    options: dict[str, str],
    ending: str,
) -> None:
    """Packets and pictures are unchanged, and a flash and a click stay synchronous."""
    frames = nodding(20)
    frames[10] = np.full_like(frames[10], 255)
    path = write_video(tmp_path / name, frames, codec=codec, options=options)
    monkeypatch.chdir(tmp_path)
    out, track = dubbed_name(path), FaceTrack.from_video(path, "none")
    assert out == Path(f"{path.stem}-dubbed{ending}")
    pcm = np.zeros(round(24_000 * track.seconds), np.float32)
    pcm[9600:9700] = 0.9
    with DubWriter(out, path, track.start) as writer:
        for part in np.array_split(pcm, 5):
            writer.write(part, NO_FRAMES)
    assert packets(out) == packets(path)
    before, dubbed = list(VideoReader(path)), VideoReader(out)
    after = list(dubbed)
    assert len(before) == len(after) == 20
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    assert [k for k, frame in enumerate(after) if frame.mean() > 240] == [10]
    loudness = torch.cat(list(stream_audio(out))).abs()
    click = first_sample_time(out) - dubbed.start + Fraction(int((loudness > 0.4).int().argmax()), 24_000)
    assert abs(click - Fraction(10, 25)) < 0.005


def test_a_rotated_video_is_read_upright(tmp_path: Path) -> None:
    turned = write_video(tmp_path / "a.mp4", [np.rot90(person(96))] * 5)
    data = turned.read_bytes()
    identity = b"".join(n.to_bytes(4, "big") for n in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    clockwise = b"".join(
        (n & 0xFFFFFFFF).to_bytes(4, "big") for n in (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    )
    track = data.index(b"tkhd")
    at = data.index(identity, track)
    turned.write_bytes(data[:at] + clockwise + data[at + 36 :])
    seen = next(iter(VideoReader(turned)))
    assert np.abs(seen.astype(int) - person(96)).mean() < 8


@pytest.mark.long
def test_the_crop_is_steady_and_follows_a_face_that_moves(tmp_path: Path) -> None:
    def scene(shift: int) -> np.ndarray:
        return np.pad(person(96), ((30, 30), (40 + shift, 200 - shift), (0, 0)))

    rng = np.random.default_rng(0)
    still = [scene(int(rng.integers(-2, 3))) for _ in range(25)]
    track = FaceTrack.from_video(write_video(tmp_path / "a.mp4", still))
    assert track.squares is not None
    assert np.ptp([square.left for square in track.squares]) < 5
    walk = [scene(k) for k in range(0, 180, 2)]
    track = FaceTrack.from_video(write_video(tmp_path / "b.mp4", walk))
    assert track.squares is not None
    lefts = [square.left for square in track.squares]
    assert lefts == sorted(lefts)
    assert lefts[-1] - lefts[0] > 60
    size = next(track.pictures(tmp_path / "b.mp4", 64)).shape
    assert size == (1, 3, 64, 64)


def test_a_face_that_leaves_the_video_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    empty = np.full((96, 96, 3), 90, np.uint8)
    path = write_video(tmp_path / "a.mp4", [person(96)] * 25 + [empty] * 60)
    with caplog.at_level(logging.WARNING):
        track = FaceTrack.from_video(path)
    assert "no face was found for" in caplog.text
    assert track.squares is not None
    assert track.seconds == Fraction(85, 25)


# -- generation ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return write_video(folder / "video.mp4", nodding(22))


def test_the_generator_gets_the_motion_and_the_words(talker: Talker, voice: Voice, video: Path) -> None:
    dubbing = talker.dub(video, TEXT, voice, crop="none", seed=3, sampling=QUICK)
    forced = talker.dub(video, "Il fait froid et tu es content.", voice, "none", force=True)
    assert forced.sentences == ("Il fait froid et tu es content.",)
    take, (request,) = recorded(dubbing)
    assert (request.text, request.task, request.seed) == (TEXT, "v2a", 3)
    seconds: list[float] = []
    motion = dubbing.motion(seconds.append)
    assert sum(seconds) == pytest.approx(22 / 25)
    ready = dubbing.ready()
    assert ready.motion(seconds.append) is ready.codes  # read once
    assert torch.equal(request.given["motion"], motion)
    assert torch.equal(request.first_motion, motion[0])
    assert torch.equal(request.speaker, voice.embedding)
    assert torch.equal(request.silence, talker.system.silence)
    assert request.sampling == QUICK
    assert repr(dubbing) == "<Dubbing: about 0.9 s, video video.mp4, voice voice, seed 3>"
    assert dubbing.extension == ".mp4"
    assert [len(latents["audio"]) for latents in take.latents()] == [4] * 6
    assert len(pcm_of(take)) == 22 * 960


def moving(talker: Talker, voice: Voice, seconds: int, sentence: str, kind: type[ToyGenerator]) -> Dubbing:
    """A plan of speech by a toy generator for a face with random motion."""
    system = talker.system
    toy = kind(system.generator.widths, system.generator.speaker_dim)
    system = System(toy, system.audio_vae, system.motion_ae, system.speaker)
    motion = torch.randn(25 * seconds, system.motion_ae.config.motion_dim)

    class Moving(Dubbing):
        def motion(self) -> torch.Tensor:
            return motion

    track = FaceTrack(Fraction(0), Fraction(seconds), None)
    return Moving(system, Path("unread.mp4"), track, (sentence,), voice, 0)


def test_a_window_without_words_is_silent(talker: Talker, voice: Voice) -> None:
    """Two words in 88 s are in the first and last of three windows. The window between them is silent."""
    dubbing = moving(talker, voice, 88, "Here gone", ToyGenerator)
    system, toy, motion = dubbing.system, dubbing.system.generator, dubbing.motion()
    take, requests = recorded(dubbing)
    assert [request.text for request in requests] == ["Here", "gone"]
    latents = Streams.cat(list(take.latents()))["audio"]
    first, last = (len(request.given["motion"]) for request in requests)
    assert torch.equal(requests[0].given["motion"], motion[:first])
    assert torch.equal(requests[1].given["motion"], motion[-last:])
    silence = system.silence.expand(2200 - first - last, -1)
    assert len(silence) > 100
    assert torch.equal(
        latents, torch.cat([toy.whole(requests[0])["audio"], silence, toy.whole(requests[1])["audio"]])
    )
    assert torch.equal(requests[1].prefix["audio"], silence[:4])
    assert torch.equal(requests[1].prefix["motion"], motion[-last - 4 : -last])


def test_text_that_is_too_long_for_the_video_overflows(talker: Talker, voice: Voice, video: Path) -> None:
    dubbing = talker.dub(video, "This is far more than fits. " * 40, voice, crop="none", sampling=QUICK)
    take = dubbing.take()
    assert len(pcm_of(take)) == 22 * 960
    assert take.finish_reason == "overflow"


class Hasty(ToyGenerator):
    """Speaks at most ten words a second. It has no alignment: every request ends with "length"."""

    def durations(self, text: str) -> Durations:
        return Durations(fastest=len(text.split()) / 10, usual=len(text.split()) / 5)


def test_text_that_is_too_long_at_the_fastest_rate_overflows(talker: Talker, voice: Voice) -> None:
    for words, reason in ((19, "stop"), (21, "overflow")):
        take, _ = recorded(moving(talker, voice, 2, " ".join(["go"] * words), Hasty))
        assert take.finish_reason == reason


class Unfinished:
    """Patches of a generation that did not reach the end of its text."""

    finish_reason = "overflow"

    def __init__(self, patches: Any) -> None:
        self._patches = patches

    def __iter__(self) -> Iterator[Streams]:
        return iter(self._patches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._patches, name)


def test_a_window_whose_words_are_not_all_spoken_overflows(talker: Talker, voice: Voice) -> None:
    dubbing = moving(talker, voice, 2, "go", Hasty)
    generate, take = dubbing.system.generator.generate, dubbing.take()
    take.keep(lambda request: Unfinished(generate(request)))  # type: ignore[arg-type, return-value]
    assert take.finish_reason == "overflow"


def test_closing_the_stages_stops_reading_motion(talker: Talker, voice: Voice, video: Path) -> None:
    read, begun = [], Event()

    class Endless(FaceTrack):
        def pictures(self, path, size):
            picture = next(super().pictures(path, size))
            for number in itertools.count():
                read.append(number)
                begun.set()
                yield picture

    short = talker.dub(video, TEXT, voice, crop="none", sampling=QUICK)
    dubbing = dataclasses.replace(short, track=Endless(Fraction(0), Fraction(1), None))
    record = Record(talker.system.patch_frames)
    with Stages() as stages:
        stages.feed(lambda: dubbing.make(record, talker.system.generator.generate), stages.channel(1))
        assert begun.wait(20)
    count = len(read)
    time.sleep(0.05)
    assert len(read) == count
    assert record.finish_reason == "interrupted"


def test_frames_without_movement_are_pauses() -> None:
    motion = torch.randn(100, 8)
    motion[40:60] = motion[40]
    still = ~detect_movement(motion)
    assert still[43:57].all()
    assert still[:38].mean() < 0.1


def test_movement_is_measured_in_standard_deviations(talker: Talker, voice: Voice) -> None:
    """One channel moves except in a pause; another, of greater values, moves a hundredth of its deviation."""
    dubbing = moving(talker, voice, 8, "Here gone", ToyGenerator)
    motion, toy = dubbing.motion(), dubbing.system.generator
    toy.scale = Streams(audio=toy.scale["audio"], motion=torch.ones(motion.shape[1]))
    toy.scale["motion"][1] = 1000.0
    motion[:, 1] *= 10
    motion[60:90, 0] = motion[60, 0]
    motion[:, 2:] = 0
    two = dataclasses.replace(dubbing, sentences=("Here we are now.", "And now we are gone."))
    _, requests = recorded(two)
    assert [request.text for request in requests] == list(two.sentences)
    assert 60 < len(requests[0].given["motion"]) < 90


def test_sound_is_padded_to_the_duration_of_the_video(talker: Talker, voice: Voice) -> None:
    dubbing = moving(talker, voice, 2, "Go", ToyGenerator)
    chunks = (Chunk(0.0, np.ones(samples, np.float32), NO_FRAMES) for samples in (3840, 99))
    whole = list(dubbing.trimmed(chunks))
    assert [chunk.start_seconds for chunk in whole] == [0.0, 0.16, 3939 / 24_000]
    assert np.array_equal(pcm_of(chunk for chunk in whole if chunk.pcm.any()), np.ones(3939))
    assert sum(len(chunk.pcm) for chunk in whole) == 48_000
    *_, last = dubbing.trimmed(iter([Chunk(0.0, np.ones(47_999, np.float32), NO_FRAMES)]))
    assert (len(last.pcm), last.pcm[0]) == (1, 0)
    (cut,) = dubbing.trimmed(iter([Chunk(0.0, np.ones(50_000, np.float32), NO_FRAMES)]))
    assert len(cut.pcm) == 48_000


# -- the command ---------------------------------------------------------------------------------------------


def test_a_sound_file_with_a_cover_image_is_refused(folder: Path, tmp_path: Path, capsys) -> None:
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=24_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 96
        cover.pix_fmt, cover.disposition = "yuvj420p", Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(person(96))))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 24_000), np.float32), "fltp", "mono")
        frame.sample_rate = 24_000
        for stream, last in ((sound, sound.encode(frame)), (cover, []), (sound, None), (cover, None)):
            container.mux(stream.encode() if last is None else last)
    assert dub(folder, tmp_path / "song.m4a", tmp_path / "out.mp4") == 2
    assert "has no video track" in capsys.readouterr().err


def dub(folder: Path, video: Path, out: Path | None, text: str = TEXT, *more: str) -> int:
    options = [
        "--voice",
        str(folder / "voice.wav"),
        "--model",
        str(folder),
        "--steps",
        "1",
        "--json",
        *more,
    ]
    return main(["dub", str(video), text, *(["-o", str(out)] if out else []), *options])


def test_the_command_accepts_the_video_as_the_voice(folder: Path, tmp_path: Path, capsys) -> None:
    path = write_video(tmp_path / "a.mp4", nodding(25), sound=True)
    assert dub(folder, path, tmp_path / "out.mp4", TEXT, "--voice", str(path)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["duration_seconds"] == 1.0
    assert report["patches"] == 7


def test_the_command_names_the_output(folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    write_video(tmp_path / "old.avi", nodding(9), codec="msmpeg4")
    monkeypatch.chdir(tmp_path)
    assert dub(folder, Path("old.avi"), None) == 0
    assert json.loads(capsys.readouterr().out)["output"] == "old-dubbed.avi"
    assert packets(tmp_path / "old-dubbed.avi") == packets(tmp_path / "old.avi")


@pytest.fixture(scope="module")
def wrong_files(folder: Path) -> None:
    write_video(folder / "good.mp4", nodding(5))
    write_video(folder / "old.webm", nodding(5), codec="libvpx")
    write_video(folder / "new.webm", nodding(5), codec="libvpx-vp9")
    write_video(folder / "divx.avi", nodding(5), codec="msmpeg4")
    write_video(folder / "unordered.avi", nodding(12))
    gif = [Image.fromarray(frame) for frame in nodding(5)]
    gif[0].save(folder / "moving.gif", save_all=True, append_images=gif[1:])
    write_video(folder / "nobody.mp4", [np.full((96, 96, 3), 90, np.uint8)] * 5)
    (folder / "empty.mp4").write_bytes(b"")
    write_sound(folder / "sound.m4a", "aac", seconds=0.3)
    (folder / "alien.mp4").write_bytes((folder / "good.mp4").read_bytes().replace(b"avc1", b"zzzz"))
    whole = (folder / "good.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name, codec in (("zero.mkv", "libx264"), ("zero.avi", "mpeg4")):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            container.start_encoding()
    (folder / "folder.mp4").mkdir()


WRONG = [
    ("nobody.mp4", "out.mp4", TEXT, "no face was found"),
    ("empty.mp4", "out.mp4", TEXT, "cannot be read"),
    ("sound.m4a", "out.mp4", TEXT, "no video track"),
    ("alien.mp4", "out.mp4", TEXT, "in a codec that cannot be read"),
    ("moving.gif", "out.mkv", TEXT, "convert"),
    ("good.mp4", "out.avi", TEXT, "out.mp4"),
    ("new.webm", "out.mov", TEXT, "out.mp4"),
    ("divx.avi", "out.mp4", TEXT, "out.avi"),
    ("unordered.avi", "out.mkv", TEXT, "out.avi"),
    ("unordered.avi", "out.wmv", TEXT, "out.avi"),
    ("moving.gif", "", TEXT, "H.264"),
    ("cut.mp4", "out.mp4", TEXT, "cannot be read"),
    ("zero.mkv", "out.mkv", TEXT, "no frame|no video|cannot be read"),
    ("zero.avi", "out.mp4", TEXT, "no frame|cannot be read"),
    ("folder.mp4", "out.mp4", TEXT, "is a folder"),
    ("missing.mp4", "out.mp4", TEXT, "does not exist"),
    ("good.mp4", "out.mp4", "你好", "English"),
    ("good.mp4", "out.mp4", "", "empty"),
    ("good.mp4", "out.mp4", "?!", "nothing to say"),
    ("good.mp4", "out.txt", TEXT, "is not named"),
    ("old.webm", "out.mp4", TEXT, "out.webm"),
    ("good.mp4", "out.webm", TEXT, "out.mp4"),
]


@pytest.mark.parametrize(("video", "out", "text", "words"), WRONG, ids=lambda value: str(value)[-30:])
def test_an_error_of_the_user_prints_one_line_and_writes_nothing(
    folder: Path, wrong_files: None, tmp_path: Path, capsys, video: str, out: str, text: str, words: str
) -> None:
    assert dub(folder, folder / video, tmp_path / out if out else None, text) == 2
    printed = capsys.readouterr()
    assert len(errors(printed.err)) == 1, printed.err
    assert any(word in printed.err for word in words.split("|")), printed.err
    assert list(tmp_path.iterdir()) == []


def test_the_video_is_not_overwritten(folder: Path, tmp_path: Path, capsys) -> None:
    path = write_video(tmp_path / "a.mp4", nodding(5))
    before = path.read_bytes()
    assert dub(folder, path, path) == 2
    assert path.read_bytes() == before
