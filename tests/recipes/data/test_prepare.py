"""Preparation of raw videos: sources, shots, transcripts, processes, and errors of the command."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from media_files import chirps, person, write_video
from PIL import Image
from prepared_data import tiny_codecs
from talking_videos import write_clip

from evaluation.sync import Sync, sync_net
from motion_ae.config import MotionAEConfig
from recipes.data.prepare import __main__ as main_module
from recipes.data.prepare import clips as clips_module
from recipes.data.prepare.analysis import analyse, choose_spans
from recipes.data.prepare.clips import Clip, ClipWriter, Record, make_clips
from recipes.data.prepare.detect import _boxes, box_of, retinaface
from recipes.data.prepare.encode import FRAMES_PER_BATCH, Encoders, Setup, encode_videos
from recipes.data.prepare.pack import pack
from recipes.data.prepare.parallel import _run, in_processes
from recipes.data.prepare.samples import read_metadata, write_samples
from recipes.data.prepare.sources import Source, find_sources
from recipes.data.released import MISSING
from recipes.data.tar_shards import read_index
from recipes.data.transcript import Cue
from recipes.data.validate import check
from talker.errors import UserError
from talker.media.face import Box
from talker.shipped import PUPPET


def test_every_video_has_a_unique_and_safe_key(tmp_path: Path) -> None:
    names = ["a.mp4", "A.mp4", "b/a.mp4", "Zoë – 你好.MOV", "..mkv", "x" * 200 + ".webm", b"\xff\xfe\n.mp4"]
    out = tmp_path / "out"
    for name in [*names, "out/clips/a/000.mkv"]:
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    lines = "\ufeffb/a.mp4\n# a comment\n\nnot there.mp4\n b/a.mp4\r\n"
    (tmp_path / "notes.txt").write_text(lines, encoding="utf-8")
    found = find_sources(tmp_path, out)
    keys = [source.key for source in found]
    assert len(set(keys)) == len(names)
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(key) < 60 for key in keys)
    for source in found:
        source.name.encode()
        assert source.name.isprintable()
    listed = find_sources(tmp_path / "notes.txt", out)
    assert [source.name for source in listed] == ["b/a.mp4", "not there.mp4"]
    (tmp_path / "wrong.txt").write_text("not there.mp4\n")
    for wrong in ("a.mp4", "wrong.txt", "nowhere", "out"):
        with pytest.raises(UserError):
            find_sources(tmp_path / wrong, out)


@pytest.mark.parametrize("suffix", [".json", ".srt", ".txt", ".vtt", ".JSON", ".Txt"])
def test_a_new_transcript_changes_the_stamp_of_its_video(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.mp4").touch()
    source = Source.of(tmp_path / "a.mp4", "a.mp4")
    before = source.stamp
    (tmp_path / f"a{suffix}").write_text("So it goes.")
    assert (source.stamp == before) == (suffix == ".Txt"), "no transcript has this name"


def test_only_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    kept = ["report.json", "clips/a/000.mkv", "latents/a.npz"]
    unfinished = [".report.json.x", f"clips/{clips_module.UNFINISHED}b/000.mkv", "latents/.a.npz.x"]
    for name in (*kept, *unfinished):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    main_module._remove_unfinished(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)


def test_rows_that_lacked_files_are_encoded_again(tmp_path: Path) -> None:
    for lost, again in (({}, False), ({"no text": 1}, False), ({MISSING: 1}, True)):
        write_samples(tmp_path / "a.npz", [], lost, [])
        assert main_module._incomplete(tmp_path / "a.npz") == again
    assert main_module._incomplete(tmp_path / "b.npz")


def test_a_file_with_two_names_is_one_source_and_a_broken_link_is_reported(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a.mp4").touch()
    (videos / "b.mp4").symlink_to("a.mp4")
    (videos / "c.mp4").symlink_to("nowhere.mp4")
    (videos / "d.mp4").symlink_to("d.mp4")
    found = find_sources(videos, tmp_path / "out")
    assert [one.name for one in found] == ["a.mp4", "c.mp4", "d.mp4"]
    (tmp_path / "list.txt").write_text(f"videos/a.mp4\n./videos/../videos/a.mp4\n{videos}/b.mp4\n")
    assert [one.name for one in find_sources(tmp_path / "list.txt", tmp_path)] == ["videos/a.mp4"]
    for one in found[1:]:
        make_clips(one, tmp_path / one.key, 64, None)
        assert Record.read(tmp_path / one.key).lost == {"unreadable": 1}


def test_box_of_landmarks_moves_and_scales_with_the_face() -> None:
    face = np.array([[40, 50], [60, 50], [50, 60], [43, 70], [57, 70]], float)
    box = box_of(face)
    assert box.centre == pytest.approx((50, 55.4))
    assert box.side == pytest.approx(51)
    found = np.concatenate([np.zeros((1, 5)), face.reshape(1, 10)], axis=1)
    net = SimpleNamespace(detect_faces=lambda *_, **__: found)
    (scaled,) = _boxes(net, Image.new("RGB", (1920, 1080)))  # twice the side that is searched
    assert (scaled.side, scaled.centre) == (pytest.approx(102), pytest.approx((100, 110.8)))
    larger = box_of(face * 3 + 7)
    assert larger.side == pytest.approx(3 * box.side)
    assert larger.centre == pytest.approx((157, 3 * 55.4 + 7))


def test_no_span_extends_over_two_shots(tmp_path: Path) -> None:
    first = person(128)
    second = 255 - (255 - np.roll(first, 15, 1)) // 2
    path = write_video(tmp_path / "a.mp4", [first] * 36 + [second] * 48, sound=True)
    analysis = analyse(path, None)
    assert analysis.shots == ((0, 25), (36, 84))
    words = [Cue(start, start + 0.5, "so") for start in (0.1, 1.1, 1.6, 2.2)]
    found, lost = choose_spans(analysis, words)
    assert [len(span.cues) for span in found] == [1, 2]
    assert sum(lost.values()) == 1  # the word across the cut
    assert found[0].end <= 25 / 25
    assert found[1].start >= 36 / 25
    found, lost = choose_spans(analysis, [Cue(0, math.inf, "so " * 5)])
    assert not found
    assert sum(lost.values()) == 1
    assert len(choose_spans(analysis, [])[0]) == 2
    assert all(analysis.detections)
    # The squares of one shot do not depend on the faces of the other.
    assert analysis.track.square(24) == analysis.track.square(0)
    assert analysis.track.square(36) == analysis.track.square(80) != analysis.track.square(0)


def test_a_cue_that_is_not_english_loses_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, [person(64)] * 125, chirps(5.0, 24_000)[0])
    analysis = analyse(path, lambda _: [Box(16, 16, 32)])
    good, cyrillic = Cue(2.45, 4.9, "The quick brown fox jumps."), Cue(0.1, 2.4, "Привет, как дела?")
    lost = {"cue that is not English": 1}
    for odd in (cyrillic, dataclasses.replace(cyrillic, text="Je ne parle pas anglais.")):
        (span,), reasons = choose_spans(analysis, [odd, good])
        assert (span.cues, reasons) == ((good,), lost)
        assert 2.4 <= span.start <= 2.45
    words = [
        Cue(start, start + 0.4, text) for start, text in ((0.2, "so"), (1, "мир"), (1.5, "it"), (2, "goes"))
    ]
    found, reasons = choose_spans(analysis, words)
    assert ([[cue.text for cue in span.cues] for span in found], reasons) == ([["so"], ["it", "goes"]], lost)
    assert found[0].end <= 1.0 < 1.4 <= found[1].start
    overlap = dataclasses.replace(good, start=2.2)  # two persons speak at once
    assert choose_spans(analysis, [cyrillic, overlap])[0][0].cues == (overlap,)
    assert choose_spans(analysis, [cyrillic]) == ([], lost)


@pytest.mark.long
def test_a_text_without_times_is_kept_only_with_the_whole_sound(tmp_path: Path) -> None:
    words, whole = [Cue(start, start + 0.4, "so") for start in (0.1, 1.2, 2.2)], [Cue(0, math.inf, "so " * 5)]
    pcm, face = chirps(3.0, 24_000)[0], person(64)

    def kept(name: str, frames: int, sound: np.ndarray, begin: float = 0.0, share: float = 1.0) -> list[list]:
        """Starts of the cues that are kept: of the words with times, and of the text without times."""
        path, stamps = tmp_path / name, [begin + number / 25 for number in range(frames)]
        write_clip(path, [face] * frames, sound, stamps=stamps, flags="faststart" * (share < 1))
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        analysis = analyse(path, lambda _: [Box(16, 16, 32)])
        return [
            [cue.start for span in choose_spans(analysis, cues)[0] for cue in span.cues]
            for cues in (words, whole)
        ]

    assert kept("whole.mp4", 75, pcm) == [[0.1, 1.2, 2.2], [0.0]]
    assert kept("picture ends.mp4", 50, pcm) == [[0.1, 1.2], []]
    silence = np.where(np.arange(len(pcm)) < 48_000, pcm, 0)
    assert kept("silence follows.mp4", 50, silence) == [[0.1, 1.2], [0.0]]
    assert kept("sound ends.mp4", 75, pcm[:48_000]) == [[0.1, 1.2], [0.0]]
    assert kept("picture begins.mkv", 50, pcm, 1.0) == [pytest.approx([0.2, 1.2]), []]
    assert kept("picture and sound begin.mkv", 75, pcm, 0.2)[1] == [0.0]
    assert kept("cut.mp4", 75, pcm, share=0.85)[1] == []  # its header states more than can be read


# Transcripts of a clip of one second, and their faults.
TRANSCRIPTS = [
    ([Cue(0.1, 0.5, "so"), Cue(0.5, 1.2, "it went")], None),
    ([Cue(0.0, 1.0, "你好世界")], "text outside the tokenizer"),
    ([Cue(0.0, 1.0, "...!!!")], "text outside the tokenizer"),
    ([Cue(0.0, 1.0, "so it goes " * 9)], "text does not fit its sound"),
    ([Cue(0.1, 0.5, "so"), Cue(1.1, 1.2, "it goes")], "words outside of the clip"),
    ([Cue(0.1, 2.5, "so it goes")], "words outside of the clip"),
]


def test_clips_with_a_transcript_fault_are_left_out_and_reported(tmp_path: Path) -> None:
    folder, latents = tmp_path / "clips" / "a", tmp_path / "latents"
    folder.mkdir(parents=True)
    latents.mkdir()
    codecs, side = tiny_codecs(tmp_path / "codecs"), MotionAEConfig.tiny().resolution
    with ClipWriter(folder / "000.mkv", side) as writer:
        for _ in range(25):
            writer.write(person(side), 0.1 * torch.randn(960))
    for number in range(1, len(TRANSCRIPTS)):
        (folder / f"{number:03d}.mkv").symlink_to(folder / "000.mkv")
    record = Record("a.mp4", [], [Clip(0, 25, tuple(cues)) for cues, _ in TRANSCRIPTS], {}, [])
    record.write(folder)
    encode_videos(Setup(codecs, "cpu", None, 0.0), tmp_path / "clips", latents, ["a"])
    entries = pack(latents, ["a"], torch.zeros(8), tmp_path)
    report = main_module._report(tmp_path, ["a"], [record], entries)
    faults = {number: why for number, (_, why) in enumerate(TRANSCRIPTS) if why}
    assert report["clips"] == len(TRANSCRIPTS) - len(faults)
    assert report["reasons"] == Counter(faults.values())
    assert max(cue.end for entry in entries for cue in entry.cues) == 1.0, "the end of the clip"
    for line, (number, why) in zip(report["lines"], faults.items(), strict=True):
        assert line.startswith(f"a.mp4: clip {number:03d}: {why}: ")
        assert "--force" not in line
    assert check(tmp_path)[1] == ["no clip is in the split heldout"]


@pytest.mark.parametrize(
    ("offset", "confidence", "good"), [(-4, 0.2, True), (5, 0.2, False), (-5, 0.2, False), (0, 0.05, False)]
)
def test_clips_whose_sound_does_not_match_the_lips_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int, confidence: float, good: bool
) -> None:
    folder, side = tmp_path / "clips" / "a", MotionAEConfig.tiny().resolution
    folder.mkdir(parents=True)
    with ClipWriter(folder / "000.mkv", side) as writer:
        for _ in range(25):
            writer.write(person(side), 0.1 * torch.randn(960))
    Record("a.mp4", [], [Clip(0, 25, (Cue(0.1, 0.9, "so it goes"),))], {}, []).write(folder)
    monkeypatch.setattr(Encoders, "sync_of", lambda *_: Sync(offset, confidence))
    setup = Setup(tiny_codecs(tmp_path / "codecs"), "cpu", None, 0.1)
    encode_videos(setup, tmp_path / "clips", tmp_path, ["a"])
    assert read_metadata(tmp_path / "a.npz")["lost"] == ({} if good else {"off-screen speech": 1})


def test_encoders_receive_samples_and_pixels_in_minus_one_to_one(tmp_path: Path) -> None:
    encoders = Encoders(Setup(tiny_codecs(tmp_path), "cpu", None, 0.0))
    side = MotionAEConfig.tiny().resolution
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES_PER_BATCH + 3, side, side, 3), np.uint8)
    pcm = 0.1 * torch.randn(len(frames) * 960)
    motion, lips = encoders.encode_frames(iter(frames))
    audio, speaker = encoders.encode_sound(pcm)
    with torch.no_grad():
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1
        expected = encoders.motion_ae.encode(pictures).numpy()
        assert np.allclose(motion, expected, atol=2e-3)
        assert np.allclose(audio, encoders.audio_vae.encode(pcm[None])[0].numpy(), rtol=1e-3, atol=2e-3)
        assert np.allclose(speaker, encoders.speaker.embed(pcm[None])[0].numpy(), rtol=1e-3, atol=2e-3)
    assert len(lips) == len(frames) == len(audio)
    assert motion.dtype == audio.dtype == speaker.dtype == np.float16
    assert encoders.sync_of(lips, pcm) is None
    encoders.sync = sync_net()
    short, shortest = torch.rand(23, 48, 48), torch.rand(24, 48, 48)
    assert encoders.sync_of(short, torch.zeros(23 * 960)) is None
    assert abs(encoders.sync_of(shortest, torch.zeros(24 * 960)).offset) <= 8
    silence = encoders.encode_sound(torch.zeros(24_000))[0]
    assert np.allclose(encoders.quiet(), silence[12], atol=5e-3)


def test_a_crash_is_final_and_any_other_loss_is_tried_again_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clips").mkdir()
    crashes, lost = (-signal.SIGSEGV, -signal.SIGABRT), (-signal.SIGKILL, -signal.SIGUSR1, 1, 255)
    codes = {f"{code}.mp4": code for code in (*crashes, *lost)}
    sources = [Source.of(tmp_path / name, name) for name in codes]
    tried = []

    def exits(_: object, jobs: list[tuple[Source]], workers: int) -> Iterator[tuple[tuple[Source], int]]:
        for job in jobs:
            tried.append(codes[job[0].name])
            yield job, tried[-1]

    monkeypatch.setattr(main_module, "in_processes", exits)
    for _ in range(2):
        records = main_module._clips(sources, tmp_path, Setup(PUPPET, "cpu", None, 0.0), None, 1)
    assert tried == [*crashes, *lost, *lost]
    reasons = ["crashed"] * len(crashes) + [main_module.LOST] * len(lost)
    assert [list(record.lost) for record in records] == [[why] for why in reasons]
    (tmp_path / "latents").mkdir()
    latents = tmp_path / "latents" / f"{sources[0].key}.npz"
    for damage in ("", '{"name": "a.mp4"}', '{"clips": [[]]}'):
        tried.clear()
        latents.touch()
        (tmp_path / "clips" / sources[0].key / "record.json").write_text(damage)
        main_module._clips(sources[:2], tmp_path, Setup(PUPPET, "cpu", None, 0.0), None, 1)
        assert tried == [crashes[0]]  # the video of a damaged record is read again
        assert not latents.exists()


def test_running_out_of_memory_is_not_recorded_as_a_fault_of_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def analyse(*_: object) -> None:
        try:
            raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")
        except av.FFmpegError as error:
            raise UserError("a.mp4 cannot be read") from error

    monkeypatch.setattr(clips_module, "analyse", analyse)
    with pytest.raises(UserError):
        make_clips(Source.of(tmp_path / "a.mp4", "a.mp4"), tmp_path / "a", 64, None)
    assert not (tmp_path / "a").exists()


def test_a_full_disk_ends_the_run_and_the_video_is_not_marked_as_faulty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        _run(Path.write_text, (Path("/dev/full"), "so"))
    assert ended.value.code == errno.ENOSPC
    (tmp_path / "clips").mkdir()
    sources = [Source.of(tmp_path / "a.mp4", "a.mp4")]

    def full(*_: object) -> Iterator[None]:
        Path("/dev/full").write_text("so")
        yield

    monkeypatch.setattr(main_module, "in_processes", full)
    monkeypatch.setattr(main_module, "find_sources", lambda *_: sources)
    monkeypatch.setattr(sys, "argv", ["prepare", str(tmp_path), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^error: no space left for .* make room"):
        main_module.main()
    assert list((tmp_path / "clips").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere", "--out", "out"], "error: nowhere is neither a folder of videos nor a list of them: .*"),
        (["here", "--out", "a.mp4"], "error: a.mp4 cannot be written .* choose another --out"),
        (["here", "--out", "out", "--codecs", "here"], "error: here/audio_vae/config.json is missing: .*"),
        (["here", "--out", "out", "--device", "warp"], "error: --device warp cannot be used .* try cpu"),
        (["here", "--out", "out", "--transcribe", "a.mp4"], "error: a.mp4 holds no Whisper weights .*"),
    ],
)
def test_invalid_arguments_give_one_line_and_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("here/a.mp4", "a.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    monkeypatch.setattr(sys, "argv", ["prepare", *options])
    with pytest.raises(SystemExit) as ended:
        main_module.main()
    assert re.fullmatch(message, str(ended.value.code)), ended.value.code
    assert not Path("out").exists()


def test_a_folder_in_use_or_with_other_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    out, setup = tmp_path / "out", Setup(PUPPET, "cpu", None, 0.0)
    out.mkdir()
    main_module._check_settings(out, setup, None)
    main_module._check_settings(out, setup, None)
    weights = tmp_path / "a.mp4"
    for other, detector in ((dataclasses.replace(setup, whisper=weights), None), (setup, weights)):
        with pytest.raises(UserError, match="other weights or limits"):
            main_module._check_settings(out, other, detector)
    with pytest.raises(UserError, match="other weights or limits: choose another --out"):
        main_module.prepare(tmp_path, out, dataclasses.replace(setup, least_sync=0.1), None, 1)
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is in use by another process"):
            main_module.prepare(tmp_path, out, setup, None, 1)


@pytest.mark.parametrize("value", [["here"], []])
def test_error_for_option_weights_names_codecs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare", "here", "--out", "out", "--weights", *value])
    with pytest.raises(SystemExit):
        main_module.main()
    assert "error: --weights is now called --codecs: use --codecs FOLDER" in capsys.readouterr().err


def whisper_json(words: int, each: float, start: float = 0.0, *more: tuple[float, float]) -> str:
    """A transcript by Whisper: `words` words of `each` seconds without pauses, then words at `more`."""
    times = [(start + k * each, start + (k + 1) * each) for k in range(words)]
    timed = zip([*times, *more], itertools.cycle(("so", "it", "goes")), strict=False)
    return json.dumps({"segments": [{"start": a, "end": b, "text": word} for (a, b), word in timed]})


@pytest.mark.long
def test_prepared_data_has_no_problem_in_validation(tmp_path: Path) -> None:
    later = [(4.3 + 0.3 * k, 4.6 + 0.3 * k) for k in range(5)]
    transcripts = {
        "row": (31.4, ".json", whisper_json(101, 0.31)),  # is cut although it has no pause
        "full": (31.0, ".json", whisper_json(99, 0.303, 0.3, (30.42, 31.0))),  # 30 s in 751 frames
        "late": (2.0, ".srt", "00:00:00.1 --> 00:00:02.2\nSo it goes."),
        "later": (2.0, ".srt", "00:00:00.1 --> 00:00:01.0\nSo it\n\n00:00:01.0 --> 00:00:03.0\ngoes."),
        "much": (2.0, ".txt", "So it goes. " * 20),
        "little": (3.0, ".txt", "Oh."),
        "soft": (6.0, ".json", whisper_json(5, 0.3, 0.1, *later)),
    }
    videos, out = tmp_path / "videos", tmp_path / "out"
    for name, (seconds, suffix, text) in transcripts.items():
        pcm = chirps(seconds, 24_000)[0]
        if name == "soft":
            pcm[len(pcm) // 2 :] *= 0.02
        write_clip(videos / f"{name}.mp4", [person()] * round(25 * seconds), pcm)
        (videos / f"{name}{suffix}").write_text(text)
    report = main_module.prepare(videos, out, Setup(PUPPET, "cpu", None, 0.0), None, 2)
    assert report["reasons"] == {
        "text does not fit its sound": 2,
        "too short": 1,
        "words across a cut, too long or out of time": 1,
        "silent": 1,
    }
    assert max(entry.frames for entry in read_index(out)) == 750
    assert check(out)[1] == []


@pytest.mark.long
def test_failures_of_jobs_are_exit_codes() -> None:
    with pytest.raises(OSError, match="No space left"):
        list(in_processes(Path.write_text, [(Path("/dev/full"), "so")], 1))
    ends = dict(in_processes(os._exit, [(0,), (3,)], 2)) | dict(in_processes(os.abort, [()], 1))
    assert ends == {(0,): 0, (3,): 3, (): -signal.SIGABRT}


@pytest.mark.long
@pytest.mark.parametrize("victim", ["worker", "server"])
def test_a_job_whose_process_is_killed_is_tried_again(tmp_path: Path, victim: str) -> None:
    list(in_processes(os.getpid, [()], 1))
    pid = {"worker": "$PPID", "server": forkserver._forkserver._forkserver_pid}[victim]
    once = f"mkdir {tmp_path}/tried && kill -KILL {pid}; sleep 0.5"
    jobs = [(["sh", "-c", script],) for script in (once, "sleep 0.3")]
    assert sorted(code for _, code in in_processes(subprocess.run, jobs, 2)) == [0, 0]
    assert (tmp_path / "tried").exists()


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
def test_whisper_transcribes_words_with_times(tmp_path: Path) -> None:
    import whisper

    torch.manual_seed(0)
    audio = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 1}
    text = {"n_vocab": 51865, "n_text_ctx": 12, "n_text_state": 16, "n_text_head": 2, "n_text_layer": 1}
    net = whisper.model.Whisper(whisper.model.ModelDimensions(**audio, **text))
    torch.nn.init.zeros_(net.decoder.positional_embedding)  # it is not initialised
    torch.nn.init.normal_(net.decoder.token_embedding.weight, std=0.1)  # low confidence: Whisper samples
    torch.save({"dims": audio | text, "model_state_dict": net.state_dict()}, tmp_path / "w.pt")
    encoders, pcm = Encoders(Setup(PUPPET, "cpu", tmp_path / "w.pt", 0.0)), 0.1 * torch.randn(48_000)
    words = encoders.words(pcm)
    assert words == encoders.words(pcm)  # although it samples
    assert all(0 <= cue.start <= cue.end < 31 and cue.text for cue in words)
    torch.save({"other": 1}, tmp_path / "o.pt")
    with pytest.raises(UserError, match="holds no Whisper weights"):
        Encoders(Setup(PUPPET, "cpu", tmp_path / "o.pt", 0.0))
    torch.set_num_threads(1)  # importing numba, which Whisper does for its word times, changes it
