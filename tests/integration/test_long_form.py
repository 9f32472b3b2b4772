"""Long clips: memory use does not depend on the length; the progress bar appears on terminals only."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from media_files import write_sound, write_video
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

TESTS = Path(__file__).resolve().parents[1]

MEASURE = """
import sys, pathlib, torch
from talker import Talker
from talker.media.encoders import VideoWriter
from heads.sampling import Sampling
torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])
talker = Talker.from_pretrained(folder)
voice, face = talker.voice(folder / "voice.wav"), talker.portrait(folder / "face.png")
resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096
with VideoWriter(folder / "out.mp4", 32) as writer:
    for k, chunk in enumerate(talker.stream("Go on. " * 1000, voice, face, sampling=Sampling(steps=1))):
        writer.write(chunk.pcm, chunk.frames)
        if k in (150, 900):
            print(resident())
        if k == 900:
            break
"""

GIVEN = """
import sys, pathlib, torch
from talker import Talker
from heads.sampling import Sampling
torch.set_num_threads(1)
folder, task, minutes = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
talker, quick = Talker.from_pretrained(folder), Sampling(steps=1)
if task == "animate":
    path, face = folder / f"{minutes}.m4a", talker.portrait(folder / "face.png")
    made = talker.animate(path, face, sampling=quick)
else:
    path = folder / f"{minutes}.mp4"
    made = talker.dub(path, "Go on. " * 100, talker.voice(folder / "voice.wav"), "none", sampling=quick)
report = made.save(folder / "out.mp4")
assert round(report.duration_seconds) == 60 * minutes, report
status = pathlib.Path("/proc/self/status").read_text()  # the peak of getrusage includes the parent process
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder, stops=True)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav")
    return folder


@pytest.mark.long
def test_memory_does_not_grow_with_length(folder: Path) -> None:
    """Two more minutes of speech take less than 20 MB more, including the index of the mp4."""
    command = [sys.executable, "-c", MEASURE, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    early, late = map(int, done.stdout.split())
    assert late - early < 20e6


@pytest.mark.long
@pytest.mark.parametrize("task", ["animate", "dub"])
def test_ten_minutes_need_no_more_memory_than_one(folder: Path, task: str) -> None:
    """Less than 40 MB more: keeping all pictures (32 x 32) of the nine minutes would take 41 MB."""
    peaks = []
    for minutes in (1, 10):
        if task == "animate":
            write_sound(folder / f"{minutes}.m4a", "aac", 24_000, 60 * minutes, 1)
        else:
            pictures = (np.full((32, 32, 3), 20 + k % 200, np.uint8) for k in range(1500 * minutes))
            write_video(folder / f"{minutes}.mp4", pictures)
        command = [sys.executable, "-c", GIVEN, str(folder), task, str(minutes)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((*sys.path, str(TESTS)))}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=1800, check=True, env=environment
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 40e6


@pytest.mark.long
def test_progress_bar_appears_on_a_terminal_only(folder: Path, tmp_path: Path) -> None:
    given = ["--portrait", folder / "face.png", "--voice", folder / "voice.wav", "--model", folder]
    command = [sys.executable, "-m", "talker", "say", "Go on. " * 5, "-o", tmp_path / "out.mp4", *given]
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with subprocess.Popen(command, stderr=writer, stdout=subprocess.PIPE, text=True) as process:
        os.close(writer)
        shown = b""
        try:
            while part := os.read(reader, 4096):
                shown += part
        except OSError:  # Linux reports EIO when the other side of the terminal is closed
            pass
        printed = process.stdout.read() if process.stdout else ""
    os.close(reader)
    assert process.returncode == 0
    assert b"of about" in shown
    assert "of about" not in printed
    assert str(tmp_path / "out.mp4") in printed
