"""Progress on a terminal and on a pipe: something within two seconds, and then the remaining time."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from talker import progress
from talker.progress import Progress


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.02)


def test_a_line_comes_before_the_first_step_is_done(capsys) -> None:
    with Progress("clips", 3):
        time.sleep(0.1)
    assert capsys.readouterr().err == "clips: 0 of 3\n"


def test_lines_name_the_remaining_time_and_the_end(capsys) -> None:
    with Progress("clips", 2) as shown:
        for _ in range(2):
            time.sleep(0.06)
            shown.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["clips: 0 of 2", "clips: 1 of 2, about 00:00 left", "clips: 2 of 2, took 00:00"]


def test_lines_of_long_work_are_at_most_a_minute_apart(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("clips", 100) as shown:
        steps = []
        for step in range(100):
            now[0] += 10
            shown.advance()
            steps += [step] * bool(capsys.readouterr().err)
    assert max(after - before for before, after in pairwise(steps)) == 6


def test_remaining_time_does_not_count_what_was_done_before(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("steps", 100, done=50) as shown:
        now[0] = 20.0
        shown.advance(10)
    assert capsys.readouterr().err == "steps: 60 of 100, about 01:20 left\n"


def test_quick_work_and_hidden_work_print_nothing(capsys) -> None:
    with Progress("clips", 2) as shown, Progress("ranks", 2, shown=False):
        shown.advance(2)
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_seconds_of_media_may_exceed_the_estimate(capsys) -> None:
    with Progress("a.mp4", 1.0, media=True) as shown:
        for _ in range(4):
            shown.advance(0.5)
            time.sleep(0.05)
    assert (shown.done, shown.total) == (2.0, 2.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "a.mp4: 0.5 of about 1.0 s"
    assert lines[-1].startswith("a.mp4: 2.0 of about 2.0 s") or lines[-1].startswith("a.mp4: 1.5 of about")


def test_a_terminal_shows_the_remaining_time() -> None:
    """Also one of unknown width, such as this one."""
    code = """if True:
        import time
        from talker.progress import Progress
        with Progress("a.mp4", 6.8, media=True) as shown:
            time.sleep(0.15)
            shown.advance(3.4)
    """
    master, slave = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=slave, check=True)
    os.close(slave)
    printed = os.read(master, 4096).decode()
    os.close(master)
    assert "| 3.4 of about 6.8 s [00:00<00:00]" in printed
