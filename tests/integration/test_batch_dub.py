"""Batch dubbing as a command: bad clips, dead workers, kills, any number of workers."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed import KILLER
from media_files import person, write_video
from tiny_checkpoint import write_checkpoint, write_voice

pytestmark = pytest.mark.long

CRASH = """
def crash(name, arguments):
    if name == "open" and str(arguments[0]).endswith("crash.mp4"):
        os.kill(os.getpid(), 11)

sys.addaudithook(crash)
"""
GOOD = {
    "voice": {"video": "a.mp4", "subtitles": "a.srt"},
    "mkv": {"video": "b.mkv", "text": "Go."},
    "relip": {"video": "a.mp4", "subtitles": "a.srt", "mode": "relip"},
    "Zoë – 你好": {"video": "Zoë – 你好.mp4", "text": "We go."},
    "audio": {"video": "b.mkv", "audio": "voice.wav"},
    "duck": {"video": "a.mp4", "text": "Go.", "background": "duck", "keep_sound": True},
}
BAD = {
    "truncated": ({"video": "truncated.mp4"}, "check", "cannot be read as video"),
    "text": ({"video": "text.mp4"}, "check", "cannot be read as video"),
    "missing": ({"video": "missing.mp4"}, "check", "does not exist"),
    "faceless": ({"video": "faceless.mp4"}, "face", "no face was found"),
    "empty line": ({"video": "a.mp4", "text": " "}, "check", "no words"),
    "empty file": ({"video": "empty.mp4"}, "check", "cannot be read as video"),
    "folder": ({"video": "a.mp4"}, "check", "is a folder"),
    "large": ({"video": "large.mp4"}, "mux", "large"),
    "crash": ({"video": "crash.mp4"}, "worker", "worker died (SIGSEGV)"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    write_checkpoint(root / "model")
    write_voice(root / "voice.wav", 0.7)
    frames = [np.roll(person(96), k % 5, 0) for k in range(30)]
    for name in ("a.mp4", "b.mkv", "Zoë – 你好.mp4", "crash.mp4"):
        write_video(root / name, frames, rate=30, sound=name == "a.mp4")
    (root / "a.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,400\nGo.\n\n2\n00:00:00,500 --> 00:00:00,900\nWe go.\n"
    )
    (root / "truncated.mp4").write_bytes((root / "a.mp4").read_bytes()[:-2000])
    (root / "text.mp4").write_text("no video at all\n" * 50)
    (root / "empty.mp4").touch()
    write_video(root / "faceless.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 10)
    noise = np.random.default_rng(0).integers(0, 255, (25, 256, 256, 3), np.uint8)
    for frame in noise:
        frame[80:176, 80:176] = person(96)
    write_video(root / "large.mp4", noise, options={"crf": "10"})
    assert (root / "large.mp4").stat().st_size > 400_000
    good = [{"id": own, "steps": 1} | row for own, row in GOOD.items()]
    bad = [{"id": own, "steps": 1, "text": "Go."} | row for own, (row, *_) in BAD.items()]
    both = [*good[:2], *bad, *good[2:]]
    for name, rows in (("good", good), ("all", both)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (root / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return root


def start(root: Path, manifest: str, out: Path, *more: str, hooks: str = "", **variables: str) -> Any:
    """Start the command in a session of its own; its output goes to OUT.log and OUT.jsonl."""
    hook = out.parent / "hooks"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(KILLER + hooks)
    path = os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = ["-m", "talker", "batch-dub", str(root / f"{manifest}.jsonl"), "--out", str(out)]
    with out.with_suffix(".log").open("a") as log, out.with_suffix(".jsonl").open("w") as lines:
        return subprocess.Popen(
            [sys.executable, *command, "--model", str(root / "model"), *more],
            env=os.environ | {"PYTHONPATH": path} | variables,
            stdout=lines,
            stderr=log,
            start_new_session=True,
            preexec_fn=limit_files if "LIMIT" in variables else None,
        )


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


def outputs(out: Path) -> dict[str, bytes]:
    """Content of every result but the reports."""
    files = [path for path in [*out.glob("*"), *out.glob("report/*")] if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.stem != "report"}


def without_timing(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_timing(inner) for name, inner in value.items() if name != "timing"}
    return [without_timing(inner) for inner in value] if isinstance(value, list) else value


def report(out: Path) -> Any:
    return without_timing(json.loads((out / "report.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def clean(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of an undisturbed run."""
    out = tmp_path_factory.mktemp("clean") / "out"
    assert start(root, "good", out).wait() == 0, out.with_suffix(".log").read_text()
    return out


def test_good_clips_are_unaffected_by_bad_ones_and_every_bad_one_is_named(
    root: Path, clean: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "folder.mp4").mkdir(parents=True)
    done = start(root, "all", out, "--workers", "2", hooks=CRASH, LIMIT="yes")
    assert done.wait() == 1, out.with_suffix(".log").read_text()
    assert outputs(out) == outputs(clean)
    clips = {clip["id"]: clip for clip in report(out)["clips"]}
    assert list(clips) == [*list(GOOD)[:2], *BAD, *list(GOOD)[2:]]
    for own, (_, stage, reason) in BAD.items():
        assert clips[own]["status"] == "failed"
        assert clips[own]["stage"] == stage, clips[own]
        assert reason.lower() in clips[own]["reason"].lower()
    lines = [json.loads(line) for line in out.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(clips)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(own in page for own in clips)


def test_the_number_of_workers_does_not_change_a_bit(root: Path, clean: Path, tmp_path: Path) -> None:
    assert start(root, "good", tmp_path / "out", "--workers", "3").wait() == 0
    assert outputs(tmp_path / "out") == outputs(clean)
    assert report(tmp_path / "out") == report(clean)


def finished(out: Path) -> dict[str, int]:
    """Time of change of every complete artefact and result."""
    files = [
        path for path in out.rglob("*") if path.is_file() and path.name[0] != "." and path.name != "lock"
    ]
    return {path.name: path.stat().st_mtime_ns for path in files}


def test_a_batch_that_is_killed_and_continued_gives_the_same_bytes(
    root: Path, clean: Path, tmp_path: Path
) -> None:
    out, draw, before = tmp_path / "out", random.Random(0), dict[str, int]()
    for _ in range(20):
        event = draw.choice(["open|work|", "os.rename|work|", ""])
        count, delay = draw.randint(1, 40), draw.uniform(2, 14)
        kill = {"KILL_AT": f"{event}{count}", "KILL": str(int(signal.SIGKILL)), "TARGET": "group"}
        done = start(root, "good", out, **(kill if event else {}))
        try:
            code = done.wait(delay if not event else 120)
        except subprocess.TimeoutExpired:
            os.killpg(done.pid, signal.SIGKILL)
            code = done.wait()
        assert code in (0, -signal.SIGKILL), out.with_suffix(".log").read_text()
        time.sleep(0.3)  # the group ends
        now = finished(out) if out.exists() else {}
        again = {name for name in before.keys() & now.keys() if before[name] != now[name]}
        assert not {name for name in again if not name.startswith("report.")}
        before |= now
    assert start(root, "good", out).wait() == 0
    assert outputs(out) == outputs(clean)
    assert report(out) == report(clean)


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_continue(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = start(root, "good", out)
    lines = out.with_suffix(".jsonl")
    while not lines.exists() or not lines.read_text():
        assert done.poll() is None, out.with_suffix(".log").read_text()
        time.sleep(0.1)
    os.kill(done.pid, signal.SIGINT)
    assert done.wait() == 130
    assert "continue with: " in out.with_suffix(".log").read_text()
    first = json.loads(lines.read_text().splitlines()[0])
    changed = finished(out)[first["output"]]
    assert start(root, "good", out).wait() == 0
    assert finished(out)[first["output"]] == changed


def test_a_folder_has_one_batch_at_a_time_and_gc_removes_old_artefacts(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start(root, "good", out)
    while not (out / "work" / "lock").exists():
        time.sleep(0.1)
    second = start(root, "good", tmp_path / "out")
    assert second.wait() == 2
    assert "is in use by another process" in out.with_suffix(".log").read_text()
    assert first.wait() == 0
    (out / "work" / "speech-old.safetensors").touch()
    before = finished(out)
    assert start(root, "good", out, "--gc").wait() == 0
    after = finished(out)
    assert "speech-old.safetensors" not in after
    assert before.keys() - after.keys() == {"speech-old.safetensors"}


def test_a_ray_cluster_of_two_nodes_gives_the_same_bytes(
    root: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip that ends its process twice is reported there, too."""
    pytest.importorskip("pandas", reason="needs the extra `distributed`")
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs the extra `distributed`")
    (tmp_path / "sitecustomize.py").write_text("import os, sys\n" + CRASH)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    out, cluster = (
        tmp_path / "out",
        cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1}),
    )
    try:
        cluster.add_node(num_cpus=1)
        done = start(root, "all", out, "--workers", "2", "--ray", cluster.address)
        assert done.wait() == 1, out.with_suffix(".log").read_text()
    finally:
        cluster.shutdown()
    found = outputs(out)
    assert {name: found[name] for name in outputs(clean)} == outputs(clean)
    clips = {clip["id"]: clip for clip in report(out)["clips"]}
    assert list(clips) == [*list(GOOD)[:2], *BAD, *list(GOOD)[2:]]
    assert clips["crash"]["reason"] == "worker died (twice)"
