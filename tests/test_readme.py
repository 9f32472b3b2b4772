"""Every snippet of the README and of docs/tasks.md runs as written, in order, in one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/tasks.md")
SNIPPETS = [
    snippet
    for page in PAGES
    for snippet in re.findall(r"```(bash|python)\n(.*?)```", (ROOT / page).read_text(), re.S)
]
SET_UP = {"make demo", "make test"}  # already done


@pytest.mark.long
def test_pages_have_bash_and_python_snippets() -> None:
    assert {language for language, _ in SNIPPETS} == {"bash", "python"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of the snippets, with the environment and the files that docs/tasks.md expects."""
    folder = tmp_path_factory.mktemp("readme")
    assets = ROOT / "talker" / "assets"
    shutil.copy(sorted((assets / "portraits").glob("*.png"))[0], folder / "face.png")
    shutil.copy(sorted((assets / "voices").glob("*.wav"))[0], folder / "voice.wav")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet_runs(number: int, folder: Path) -> None:
    language, text = SNIPPETS[number]
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    if language == "bash":
        lines = [line for line in text.splitlines() if line.split("#")[0].strip() not in SET_UP]
        command = ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]
    else:
        command = [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
