"""Run the data preparation as a program and kill it just before it opens, renames or removes a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

Target = Literal["group", "main", "parent"]

# Every process of the command imports this at its start. It counts audit events and sends the signal.
KILLER = """
import os, sys

if os.environ.get("KILL_AT"):
    event, part, count = os.environ["KILL_AT"].split("|")
    seen = 0
    main = os.environ.setdefault("MAIN", str(os.getpid()))

    def count_event(name, arguments):
        global seen
        if name == event and any(part in str(one) for one in arguments[:2]):
            seen += 1
            if seen == int(count):
                target, number = os.environ["TARGET"], int(os.environ["KILL"])
                if target == "group":
                    os.killpg(0, number)
                else:
                    os.kill(int(main) if target == "main" else os.getppid(), number)

    sys.addaudithook(count_event)
"""


def prepare(
    source: Path,
    out: Path,
    *more: str,
    kill_at: str = "",
    kill: int = signal.SIGKILL,
    target: Target = "group",
) -> int:
    """Run the command and return its exit code; its output goes to OUT.log.

    Args:
        source, out, more: the command's arguments.
        kill_at: "event|part|count": kill when a process raises this audit event of Python for the `count`-th
            time with a path that contains `part`. Empty: do not kill.
        kill: the signal to send.
        target: the processes that get it: all, the main one, or the parent of the process with the event.
    """
    killer = out.parent / "killer"
    killer.mkdir(exist_ok=True)
    (killer / "sitecustomize.py").write_text(KILLER)
    path = os.pathsep.join([str(killer), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"PYTHONPATH": path, "KILL_AT": kill_at, "KILL": str(int(kill)), "TARGET": target}
    with out.with_suffix(".log").open("w") as log:  # a pipe would wait for running workers
        return subprocess.run(
            [sys.executable, "-m", "recipes.data.prepare", str(source), "--out", str(out), *more],
            env=os.environ | variables,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ).returncode


def tree(out: Path) -> dict[str, bytes]:
    """The content of every file of a data set, by its path."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def finished(out: Path) -> dict[str, int]:
    """Modification times of the finished files of all stages, by their paths."""
    paths = [*out.glob("clips/[!.]*/*"), *out.glob("latents/[!.]*"), *out.glob("shards/[!.]*")]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in paths}
