"""Preparation that is killed in any stage and resumed gives the same bytes, and does nothing twice.

The source is a folder of twenty videos, one of each kind.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from killed import Target, finished, prepare, tree
from media_files import person, write_video
from talking_videos import FOLDER, KEPT, write_folder

from recipes.data.prepare.__main__ import LOST
from recipes.data.prepare.clips import Record
from recipes.data.prepare.parallel import in_processes
from recipes.data.prepared import Prepared
from recipes.data.validate import check
from talker.signals import SIGNALS

pytestmark = pytest.mark.long

# When to kill, by stage: "event|part of a path|count", see `killed.prepare`.
STAGES = {
    "settings": "os.rename|/settings.json|1",
    "tracking": "open|/videos/late sound.mkv|2",
    "cropping": "open|/videos/plain 2.mp4|5",
    "record": "os.rename|/clips/two-sentences-|1",
    "transcript": "open|/mel_filters.npz|1",
    "encoding": "open|/clips/plain-2-|3",
    "filters": "os.rename|/latents/somebody-else-speaks-|1",
    "held out": "os.rename|/heldout.json|1",
    "shard": "os.rename|/shards/train-|1",
    "next shard": "os.rename|/shards/heldout-|1",
    "statistics": "os.rename|/stats.safetensors|1",
    "index": "os.rename|/index.jsonl|1",
    "report": "os.rename|/report.json|1",
}
ALONE = "tracking"  # in this stage only the main process is killed; its workers continue


def silent_whisper(path: Path) -> Path:
    """Weights of a Whisper network that finds no speech in any sound."""
    from whisper.model import ModelDimensions, Whisper
    from whisper.tokenizer import get_tokenizer

    audio = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 1}
    text = {"n_vocab": 51865, "n_text_ctx": 32, "n_text_state": 16, "n_text_head": 2, "n_text_layer": 1}
    net = Whisper(ModelDimensions(**audio, **text))
    state = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    state["decoder.ln.bias"][0] = 1
    state["decoder.token_embedding.weight"][get_tokenizer(True).no_speech, 0] = 30
    torch.save({"dims": audio | text, "model_state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "videos"
    write_folder(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return "--transcribe", str(silent_whisper(tmp_path_factory.mktemp("whisper") / "silent.pt"))


@pytest.fixture(scope="module")
def whole(videos: Path, whisper: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set that one worker prepares without interruption."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert prepare(videos, out, *whisper) == 0, out.with_suffix(".log").read_text()
    return out


def test_the_report_is_correct_and_a_second_run_changes_nothing(
    videos: Path, whisper: tuple[str, str], whole: Path
) -> None:
    report = json.loads((whole / "report.json").read_text())
    assert report["sources"] == len(FOLDER) == 20
    assert report["clips"] == KEPT
    for name, why in FOLDER.items():
        lines = [line for line in report["lines"] if line.startswith(f"{name}: ")]
        assert len(lines) == (why is not None), (name, lines)
        assert why is None or why in lines[0]
    assert report["reasons"] == {why: list(FOLDER.values()).count(why) for why in FOLDER.values() if why}
    assert check(whole)[1] == []
    before = finished(whole)
    assert prepare(videos, whole, *whisper) == 0
    assert finished(whole) == before


def test_a_run_killed_in_every_stage_resumes_and_gives_the_same_bytes(
    videos: Path, whisper: tuple[str, str], whole: Path, tmp_path: Path
) -> None:
    out, done = tmp_path / "out", dict[str, int]()
    for stage, kill_at in STAGES.items():
        target: Target = "main" if stage == ALONE else "group"
        code = prepare(videos, out, *whisper, "--workers", "2", kill_at=kill_at, target=target)
        assert code == -signal.SIGKILL, (stage, out.with_suffix(".log").read_text())
        before, done = done, finished(out)
        assert before.items() <= done.items(), stage  # nothing is done twice
    assert len(done) > 0
    assert prepare(videos, out, *whisper, "--workers", "2") == 0
    assert done.items() <= finished(out).items()
    assert tree(out) == tree(whole)


def test_killing_the_fork_server_is_not_recorded_as_a_fault_of_a_video(
    videos: Path, whisper: tuple[str, str], whole: Path, tmp_path: Path
) -> None:
    out, two = tmp_path / "out", (*whisper, "--workers", "2")
    assert prepare(videos, out, *two, kill_at=STAGES["tracking"], target="parent") == 0
    before, reasons = (json.loads((at / "report.json").read_text())["reasons"] for at in (whole, out))
    assert set(reasons) <= {*before, LOST}  # LOST: the server of the second try was killed too
    assert prepare(videos, out, *two) == 0
    assert tree(out) == tree(whole)


def test_preparation_of_a_changed_video_resumes_after_kills(tmp_path: Path) -> None:
    videos, out, fresh = (tmp_path / name for name in ("videos", "out", "fresh"))
    videos.mkdir()
    for name, step in (("a", 1), ("b", -1)):
        frames = [np.roll(person(), step * shift, 1) for shift in range(30)]
        write_video(videos / f"{name}.mp4", frames, sound=True)
        (videos / f"{name}.txt").write_text("So it goes.")
    assert prepare(videos, out, "--least-sync", "0") == 0
    kept = {path: stamp for path, stamp in finished(out).items() if "/b-" in path}
    assert len(kept) == 3
    (videos / "a.txt").write_text("So it went.")
    for about in ("os.remove|/latents/a-", "os.rmdir|/clips/", "os.rename|/latents/a-", "os.remove|/shards/"):
        code = prepare(videos, out, "--least-sync", "0", kill_at=f"{about}|1")
        assert code == -signal.SIGKILL, about
    for folder in (out, fresh):
        assert prepare(videos, folder, "--least-sync", "0") == 0
    assert kept.items() <= finished(out).items()
    assert tree(out) == tree(fresh)
    assert check(out)[1] == []


def test_workers_do_not_receive_the_signals_of_the_command(tmp_path: Path) -> None:
    job = (f"grep SigBlk /proc/$PPID/status > {tmp_path}/blocked",)
    assert [code for _, code in in_processes(os.system, [job], 1)] == [0]
    blocked = int((tmp_path / "blocked").read_text().split()[1], 16)
    assert all(blocked >> (number - 1) & 1 for number in SIGNALS)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_prints_one_line_and_is_not_recorded_as_a_fault(
    videos: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    at = STAGES["tracking"]
    assert prepare(videos, out, "--workers", "2", kill_at=at, kill=number) == 128 + number
    printed = out.with_suffix(".log").read_text()
    assert "Traceback" not in printed
    line = f"stopped by {number.name}: finished videos are kept in {out}; continue with: "
    assert printed.splitlines()[-1].startswith(line)
    records = [Record.read(path.parent) for path in out.glob("clips/*/record.json")]
    assert not any("crashed" in record.lost for record in records)


def test_ctrl_c_during_the_imports_prints_one_line(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare(videos, out, kill_at="import|torch|1", kill=signal.SIGINT) == 128 + signal.SIGINT
    lines = ["recipes.data.prepare: loading", "stopped by SIGINT: nothing was started"]
    assert out.with_suffix(".log").read_text().splitlines() == lines


def test_codes_hardly_depend_on_the_format_of_the_video(whole: Path) -> None:
    clips = [Prepared(whole, split) for split in ("train", "heldout")]
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
            same, different = (a - b).square().mean().sqrt(), (other - b[: len(other)]).square().mean().sqrt()
            assert same < 0.5 * different, (name, stream, float(same), float(different))
