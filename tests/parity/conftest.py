"""Collect the recorded runs: one test case for each file whose kind a test names.

`tests/parity/recorded` (small copies, part of the repository) is always read. `../shared/parity` (whole
recordings) is read as well where it exists; `pytest tests/parity --fixtures DIR` reads DIR in its place.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from parity.harness import DEFAULT_FOLDER, RECORDED, Fixture, load_fixture


def pytest_addoption(parser: pytest.Parser) -> None:
    # This option replaces pytest's own `--fixtures`, which lists set-up functions; `--funcargs` still does.
    parser.optparser.conflict_handler = "resolve"
    group = parser.getgroup("parity", "recorded runs of the published systems")
    group.addoption(
        "--fixtures", metavar="DIR", default=None, dest="parity_folder", help="default: ../shared/parity"
    )


def pytest_configure(config: pytest.Config) -> None:
    """With `--fixtures`, run the slow tests (marked `long`) as well."""
    if config.getoption("parity_folder", default=None) is not None:
        config.option.markexpr = config.option.markexpr.replace("not long and ", "")


@cache
def _by_kind(folders: tuple[Path, ...]) -> dict[str, list[Fixture]]:
    found: dict[str, list[Fixture]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.safetensors")):
            case = load_fixture(path)
            found.setdefault(case.kind, []).append(case)
    return found


def _folders(config: pytest.Config) -> tuple[Path, ...]:
    named = config.getoption("parity_folder", default=None)
    if named is not None:
        if not Path(named).is_dir():
            raise pytest.UsageError(f"--fixtures: the folder {named} does not exist")
        return RECORDED, Path(named)
    return (RECORDED, DEFAULT_FOLDER) if DEFAULT_FOLDER.is_dir() else (RECORDED,)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = getattr(metafunc.function, "parity_kinds", None)
    if kinds is None:
        return
    found = _by_kind(_folders(metafunc.config))
    cases = [case for kind in kinds for case in found.get(kind, [])]
    metafunc.parametrize("case", cases, ids=[f"{case.path.parent.name}/{case.path.stem}" for case in cases])
