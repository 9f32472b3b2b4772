"""The memory of the server after many sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CYCLES = 200


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_sessions(folder: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, str(root / "tests" / "serve_cycles.py"), str(folder), str(CYCLES)]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    sizes = [int(line) for line in done.stdout.splitlines()]
    assert len(sizes) == CYCLES
    assert sum(sizes[-20:]) <= 1.02 * sum(sizes[20:40])
