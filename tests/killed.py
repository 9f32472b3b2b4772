"""The data preparation as a program that is killed just before it does something to a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

Whom = Literal["group", "main", "parent"]

# Python imports it in every process of the command; it counts what the process does to files.
KILLER = """
import os, sys

if os.environ.get("KILL_AT"):
    event, part, count = os.environ["KILL_AT"].split("|")
    seen = 0
    main = os.environ.setdefault("MAIN", str(os.getpid()))

    def look(name, arguments):
        global seen
        if name == event and any(part in str(one) for one in arguments[:2]):
            seen += 1
            if seen == int(count):
                whom, how = os.environ["WHOM"], int(os.environ["KILL"])
                if whom == "group":
                    os.killpg(0, how)
                else:
                    os.kill(int(main) if whom == "main" else os.getppid(), how)

    sys.addaudithook(look)
"""


def prepare(
    source: Path, out: Path, *more: str, kill_at: str = "", kill: int = signal.SIGKILL, whom: Whom = "group"
) -> int:
    """The command's exit code; what it says lies in OUT.log.

    Args:
        kill_at: "event|part|count": an audit event of Python's for a file with `part` in its name, as soon as
            one process has had it that many times.
        kill: the signal that is sent then.
        whom: all processes get it, or the main one, or the parent of the one that had the event.
    """
    killer = out.parent / "killer"
    killer.mkdir(exist_ok=True)
    (killer / "sitecustomize.py").write_text(KILLER)
    path = os.pathsep.join([str(killer), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = {"PYTHONPATH": path, "KILL_AT": kill_at, "KILL": str(int(kill)), "WHOM": whom}
    with out.with_suffix(".log").open("w") as log:  # a pipe would wait for workers that live on
        return subprocess.run(
            [sys.executable, "-m", "recipes.data.prepare", str(source), "--out", str(out), *more],
            env=os.environ | told,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ).returncode


def tree(out: Path) -> dict[str, bytes]:
    """Every file of a data set."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def finished(out: Path) -> dict[str, int]:
    """What is done, with the time at which it was."""
    paths = [*out.glob("clips/[!.]*/*"), *out.glob("latents/[!.]*"), *out.glob("shards/[!.]*")]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in paths}
