"""The command under signals, on a full disk and with huge inputs: one error line and no partial file."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from takes import errors
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

PAGE = "The quick brown fox jumps over the lazy dog, again and again. " * 160


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav")
    return folder


def command(folder: Path, out: Path, text: str = "Hello there.", *more: str | Path) -> list[str]:
    given = ["--portrait", folder / "face.png", "--voice", folder / "voice.wav", "--model", folder]
    start = [sys.executable, "-m", "talker", "say", text, "-o", out, "--steps", "1"]
    return [str(part) for part in [*start, *given, *more]]


def run(arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=300, **options)


def assert_one_line(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert words in done.stderr
    assert len(errors(done.stderr)) == 1, done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB. Mounting it needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.long
def test_full_disk_is_one_error_line_and_keeps_the_old_file(folder: Path, small_disk: Path) -> None:
    face = folder / "noise.png"  # noise does not compress, so the video fills the disk
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).resize((512, 512), Image.Resampling.NEAREST).save(face)
    (small_disk / "old").write_bytes(bytes(250_000))
    (small_disk / "out.mp4").write_bytes(b"old video")
    done = run(command(folder, small_disk / "out.mp4", PAGE, "--portrait", face, "--crop", "none"))
    assert_one_line(done, "cannot be written")
    assert sorted(path.name for path in small_disk.iterdir()) == ["old", "out.mp4"]
    assert (small_disk / "out.mp4").read_bytes() == b"old video"
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={small_disk / 'rest'}"], capture_output=True
    )  # fills the disk to the last byte
    assert_one_line(run(command(folder, small_disk / "out.mp4")), "cannot be written")


@pytest.mark.long
@pytest.mark.parametrize("pause", [0.02, 0.3])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_two_signals_during_generation_leave_no_file(
    folder: Path, tmp_path: Path, number: signal.Signals, pause: float
) -> None:
    # A shell starts background jobs with SIGINT ignored, and children inherit that; restore the default.
    process = subprocess.Popen(
        command(folder, tmp_path / "out.mp4", PAGE, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in tmp_path.iterdir()):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "out.mp4").exists()
    process.send_signal(number)
    time.sleep(pause)
    process.send_signal(number)  # during the clean-up
    out, printed = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    report = json.loads(out)
    assert (report["finish_reason"], report["output"], report["patches"]) == ("interrupted", None, 0)
    assert errors(printed) == [f"stopped by {number.name}: nothing was written"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_unwritable_folder_is_one_error_line(folder: Path, tmp_path: Path) -> None:
    """/proc refuses new files even from root, who may write to every ordinary folder."""
    assert_one_line(run(command(folder, Path("/proc/out.mp4"))), "/proc")
    if os.getuid():
        tmp_path.chmod(0o500)
        assert_one_line(run(command(folder, tmp_path / "out.mp4")), "not writable")
        tmp_path.chmod(0o700)


@pytest.mark.long
def test_large_portrait_and_long_text_stay_below_3_gib(folder: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    face = Image.fromarray(data.astronaut()[:256, 100:356]).convert("RGBA")
    face.resize((7_900, 7_900), Image.Resampling.NEAREST).save(large, compress_level=1)
    brief = write_checkpoint(tmp_path / "brief", stops=True)
    more = ["--portrait", large, "--model", brief, "--json"]
    done = run(command(folder, tmp_path / "out.mp4", PAGE[:10_000], *more))
    assert done.returncode == 0, done.stderr
    assert errors(done.stderr) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["brief", "large.png", "out.mp4"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert peak < 3 * 2**30
