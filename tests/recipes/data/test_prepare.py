"""Raw videos become a data set: twenty of every kind, with a correct report, through kills and restarts."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import person, write_video
from talking_videos import FOLDER, KEPT, write_folder

from recipes.data.prepare import __main__ as main_module
from recipes.data.prepare.clips import Clip, ClipWriter, Record
from recipes.data.prepare.detect import box_of, retinaface
from recipes.data.prepare.encode import Encoders, Setup, encode_videos
from recipes.data.prepare.pack import pack
from recipes.data.prepare.parallel import _quietly, in_processes
from recipes.data.prepare.sources import Source, find_sources
from recipes.data.prepare.watch import stretches, watch
from recipes.data.prepared import Prepared
from recipes.data.transcript import Cue
from recipes.data.validate import check
from talker.checkpoint import PUPPET
from talker.errors import UserError


def test_every_video_has_a_key_of_its_own_that_is_safe(tmp_path: Path) -> None:
    names = ["a.mp4", "A.mp4", "b/a.mp4", "Zoë – 你好.MOV", "..mkv", "x" * 200 + ".webm", b"\xff\xfe.mp4"]
    for name in names:
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "notes.txt").write_text("# chosen\nb/a.mp4\n\nnot there.mp4\nb/a.mp4\n")
    found = find_sources(tmp_path)
    keys = [source.key for source in found]
    assert len(set(keys)) == len(names)
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(key) < 60 for key in keys)
    for source in found:
        source.name.encode()
    assert [source.name for source in find_sources(tmp_path / "notes.txt")] == ["b/a.mp4", "not there.mp4"]
    for wrong in (tmp_path / "a.mp4", tmp_path / "nowhere", Path(__file__).parent):
        with pytest.raises(UserError):
            find_sources(wrong)


def test_boxes_from_landmarks_turn_and_grow_with_the_face() -> None:
    face = np.array([[40, 50], [60, 50], [50, 60], [43, 70], [57, 70]], float)
    box = box_of(face)
    assert box.centre == pytest.approx((50, 55.4))
    assert box.side == pytest.approx(51)
    larger = box_of(face * 3 + 7)
    assert larger.side == pytest.approx(3 * box.side)
    assert larger.centre == pytest.approx((157, 3 * 55.4 + 7))


def test_shots_are_kept_apart(tmp_path: Path) -> None:
    first = person(256)
    second = 255 - (255 - np.roll(first, 30, 1)) // 2
    path = write_video(tmp_path / "a.mp4", [first] * 36 + [second] * 48, sound=True)
    watched = watch(path, None)
    assert watched.shots == ((0, 25), (36, 84))
    words = [Cue(start, start + 0.5, "so") for start in (0.1, 1.1, 1.6, 2.2)]
    found, lost = stretches(watched, words)
    assert [len(span.cues) for span in found] == [1, 2]
    assert sum(lost.values()) == 1  # a word across the cut
    assert found[0].end <= 25 / 25
    assert found[1].start >= 36 / 25
    found, lost = stretches(watched, [Cue(0, math.inf, "so " * 5)])
    assert not found
    assert sum(lost.values()) == 1
    assert len(stretches(watched, [])[0]) == 2
    assert all(watched.looks)
    # The square of the second shot is its own from its first frame on.
    assert watched.track.square(24) == watched.track.square(0)
    assert watched.track.square(36) == watched.track.square(80) != watched.track.square(0)


def test_what_the_tokenizer_cannot_read_is_left_out(tmp_path: Path) -> None:
    folder, latents = tmp_path / "clips" / "a", tmp_path / "latents"
    folder.mkdir(parents=True)
    latents.mkdir()
    side = json.loads((PUPPET / "motion_ae" / "config.json").read_text())["resolution"]
    said = ["so it goes", "你好世界", "...!!!"]
    for number in range(len(said)):
        with ClipWriter(folder / f"{number:03d}.mkv", side) as writer:
            for _ in range(25):
                writer.write(person(side), 0.1 * torch.randn(960))
    clips = [Clip(0, 25, (Cue(0.0, 1.0, text),)) for text in said]
    record = Record("a.mp4", [], clips, {}, [])
    record.write(folder)
    encode_videos(Setup(PUPPET, "cpu", None, 0.0), tmp_path / "clips", latents, ["a"])
    entries = pack(latents, ["a"], torch.zeros(32), tmp_path)
    report = main_module._report(tmp_path, ["a"], [record], entries)
    assert report["clips"] == 1
    assert report["reasons"] == {"text outside the tokenizer": 2}
    for number, line in enumerate(report["lines"], start=1):
        assert line.startswith(f"a.mp4: clip {number:03d}: text outside the tokenizer: ")
    assert not any("tokenizer" in problem for problem in check(tmp_path)[1])


def test_a_killed_video_is_tried_again_and_a_crashed_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clips").mkdir()
    sources = [Source.of(tmp_path / name, name) for name in ("a.mp4", "b.mp4")]
    tried = []

    def ending(_: object, jobs: list[tuple[Source]], workers: int) -> Iterator[tuple[tuple[Source], int]]:
        for job, code in zip(jobs, (-signal.SIGKILL, -signal.SIGSEGV), strict=False):
            tried.append(job[0].name)
            yield job, code

    monkeypatch.setattr(main_module, "in_processes", ending)
    for _ in range(2):
        records = main_module._clips(sources, tmp_path, Setup(PUPPET, "cpu", None, 0.0), None, 1)
    assert tried == ["a.mp4", "b.mp4", "a.mp4"]
    assert [list(record.lost) for record in records] == [[main_module.KILLED], ["crashed"]]


def test_a_full_disk_is_one_line_and_no_fault_of_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        _quietly(Path.write_text, (Path("/dev/full"), "so"))
    assert ended.value.code == errno.ENOSPC
    (tmp_path / "clips").mkdir()
    sources = [Source.of(tmp_path / "a.mp4", "a.mp4")]

    def full(*_: object) -> Iterator[None]:
        Path("/dev/full").write_text("so")
        yield

    monkeypatch.setattr(main_module, "in_processes", full)
    monkeypatch.setattr(main_module, "find_sources", lambda _: sources)
    monkeypatch.setattr(sys, "argv", ["prepare", str(tmp_path), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^error: no space left for .* make room"):
        main_module.main()
    assert list((tmp_path / "clips").iterdir()) == []


@pytest.mark.long
def test_a_crash_is_an_exit_code() -> None:
    with pytest.raises(OSError, match="No space left"):
        list(in_processes(Path.write_text, [(Path("/dev/full"), "so")], 1))
    ends = dict(in_processes(os._exit, [(0,), (3,)], 2)) | dict(in_processes(os.abort, [()], 1))
    assert ends == {(0,): 0, (3,): 3, (): -signal.SIGABRT}


@pytest.mark.long
def test_retinaface_loads_without_unpickling(tmp_path: Path) -> None:
    module = pytest.importorskip("facexlib.detection.retinaface")
    torch.manual_seed(0)
    net = module.RetinaFace(network_name="mobile0.25", device=torch.device("cpu"))
    torch.save({f"module.{name}": value for name, value in net.state_dict().items()}, tmp_path / "r.pth")
    from PIL import Image

    retinaface(tmp_path / "r.pth", "cpu")(Image.new("RGB", (200, 120)))
    torch.save({"other": torch.zeros(1)}, tmp_path / "o.pth")
    torch.save(net, tmp_path / "p.pth")
    for name in ("o.pth", "p.pth", "missing.pth"):
        with pytest.raises(UserError, match="holds no RetinaFace weights"):
            retinaface(tmp_path / name, "cpu")


@pytest.mark.long
def test_whisper_gives_words_with_times(tmp_path: Path) -> None:
    import whisper

    torch.manual_seed(0)
    audio = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 1}
    text = {"n_vocab": 51865, "n_text_ctx": 32, "n_text_state": 16, "n_text_head": 2, "n_text_layer": 1}
    net = whisper.model.Whisper(whisper.model.ModelDimensions(**audio, **text))
    torch.nn.init.zeros_(net.decoder.positional_embedding)  # it is not initialised
    torch.save({"dims": audio | text, "model_state_dict": net.state_dict()}, tmp_path / "w.pt")
    words = Encoders(Setup(PUPPET, "cpu", tmp_path / "w.pt", 0.0)).words(0.1 * torch.randn(48_000))
    assert all(0 <= cue.start <= cue.end < 31 and cue.text for cue in words)
    torch.save({"other": 1}, tmp_path / "o.pt")
    with pytest.raises(UserError, match="holds no Whisper weights"):
        Encoders(Setup(PUPPET, "cpu", tmp_path / "o.pt", 0.0))


def command(videos: Path, out: Path) -> list[str]:
    """The command, two workers."""
    program = [sys.executable, "-m", "recipes.data.prepare"]
    return [*program, str(videos), "--out", str(out), "--workers", "2"]


def finished(out: Path) -> dict[str, int]:
    """What is done, with the time at which it was."""
    paths = [*out.glob("clips/*/*"), *out.glob("latents/*.npz"), *out.glob("shards/*")]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in paths if "/." not in str(path)}


@pytest.mark.long
def test_twenty_videos_through_kills(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    write_folder(videos)
    # Killed once in each of the first two stages.
    for stage, least in (("clips", 6), ("latents", 1)):
        process = subprocess.Popen(command(videos, out), start_new_session=True)
        while len(list(out.glob(f"{stage}/[!.]*"))) < least:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = finished(out)
        assert len(done) > 0
    ran = subprocess.run(command(videos, out), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    after = finished(out)
    assert all(after[path] == stamp for path, stamp in done.items())  # nothing is done twice

    report = json.loads((out / "report.json").read_text())
    assert report["sources"] == len(FOLDER) == 20
    assert report["clips"] == KEPT
    for name, why in FOLDER.items():
        lines = [line for line in report["lines"] if line.startswith(f"{name}: ")]
        assert len(lines) == (why is not None), (name, lines)
        assert why is None or why in lines[0]
    assert report["reasons"] == {why: list(FOLDER.values()).count(why) for why in FOLDER.values() if why}

    again = subprocess.run(command(videos, out), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert finished(out) == after
    assert check(out)[1] == []
    _same_however_it_was_filmed(out)


def _same_however_it_was_filmed(out: Path) -> None:
    """The same second of the same person gives nearly the same codes from every kind of file."""
    clips = [Prepared(out, split) for split in ("train", "heldout")]
    codes = {
        held._views[k].entry.voice.rsplit("-", 1)[0]: {s: held.of(s, k)[6:30] for s in ("audio", "motion")}
        for held in clips
        for k in range(len(held))
    }
    pairs = {"60-fps": "plain-1", "telephone": "plain-1", "late-sound": "plain-1"}
    pairs |= {"variable-rate": "plain-2", "stereo-48-khz": "plain-2", "plain-4": "plain-2"}
    for name, plain in pairs.items():
        for stream in ("audio", "motion"):
            a, b = codes[name][stream], codes[plain][stream]
            other = codes["zo-spricht"][stream][: len(b)]
            away, apart = (a - b).square().mean().sqrt(), (other - b[: len(other)]).square().mean().sqrt()
            assert away < 0.5 * apart, (name, stream, float(away), float(apart))
