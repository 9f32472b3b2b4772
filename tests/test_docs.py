"""Rules of the Markdown files."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
MOST_CHARACTERS = 119


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_lines_of_markdown_are_shorter_than_120_characters(path: Path) -> None:
    long = [
        number for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > MOST_CHARACTERS
    ]
    assert not long, f"wrap these lines of {path.name}: {long}"
