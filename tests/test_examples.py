"""Every example runs as written and makes its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
FILES = {
    "dub.py": {"frank.mp4", "dubbed.mp4"},
    "live.py": set(),
    "many.py": {"morning.mp4", "evening.mp4", "night.mp4"},
    "say.py": {"say.mp4"},
    "stream.py": set(),
    "notebook.ipynb": set(),
}


def code_of(path: Path) -> str:
    """The code of a script, or of all cells of a notebook. The last line of a cell is displayed."""
    if path.suffix == ".py":
        return path.read_text()
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]).split("\n") for cell in cells]
    show = "show = lambda *values: [print(getattr(x, '_repr_html_', x.__repr__)()[:60]) for x in values]\n"
    return show + "\n".join("\n".join([*lines[:-1], f"show({lines[-1]})"]) for lines in sources)


def test_every_example_is_listed() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == set(FILES)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(FILES))
def test_an_example_makes_its_files(name: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code_of(EXAMPLES / name)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in tmp_path.iterdir()} == FILES[name]
    if name.endswith(".ipynb"):
        assert done.stdout.count("<video controls") == 2
    else:
        assert " s" in done.stdout
