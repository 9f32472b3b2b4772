"""Every snippet of the README and of two pages of docs runs as written, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from talker.shipped import shipped_names, voice_error_rates

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/tasks.md", "docs/dubbing.md")
SNIPPETS = [
    (page, *snippet)
    for page in PAGES
    for snippet in re.findall(r"```(bash|python)\n(.*?)```", (ROOT / page).read_text(), re.S)
]
MEDIA = r"[\w-]+\.(?:wav|mp4|png|jpg)"  # names of files
WRITTEN = rf"(?:-o |save\(\")({MEDIA})"
SET_UP = {"make demo", "make test"}  # already done


@pytest.mark.long
def test_pages_have_bash_and_python_snippets() -> None:
    assert {language for _, language, _ in SNIPPETS} == {"bash", "python"}


def test_snippets_need_no_file_that_an_earlier_one_of_the_page_has_not_written() -> None:
    for page in PAGES:
        text = "\n".join(snippet for own, _, snippet in SNIPPETS if own == page)
        for line in text.splitlines():
            code = line.split("#")[0]
            before = re.findall(WRITTEN, text[: text.index(line)])
            unknown = set(re.findall(MEDIA, code)) - set(re.findall(WRITTEN, code)) - set(before)
            assert not unknown, f"{page}: {line} needs {unknown}"


def test_the_readme_has_the_error_rates_of_the_voices() -> None:
    text, rates = (ROOT / "README.md").read_text(), voice_error_rates()
    percent = {name: f"{100 * rate:.0f} %" for name, rate in rates.items()}
    for name in shipped_names("voices"):
        assert f'{name}.wav">{name}</a>, {percent[name]}<' in text
    best, worst = (percent[choose(rates, key=rates.__getitem__)] for choose in (min, max))
    assert f"Between {best} and {worst} of the phonemes" in text


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each page the working folder of its snippets, with the environment alone, as in a fresh clone."""
    made = {page: tmp_path_factory.mktemp("page") for page in PAGES}
    for folder in made.values():
        (folder / ".venv").symlink_to(sys.prefix)
    return made


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet_runs(number: int, folders: dict[str, Path]) -> None:
    page, language, text = SNIPPETS[number]
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    if language == "bash":
        lines = [line for line in text.splitlines() if line.split("#")[0].strip() not in SET_UP]
        command = ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]
    else:
        command = [sys.executable, "-c", text]
    done = subprocess.run(
        command, cwd=folders[page], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
