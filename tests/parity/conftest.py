"""`pytest tests/parity --fixtures DIR`: the same checks on any folder of recorded runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from parity.harness import DEFAULT_FOLDER, Fixture, load_fixture


def pytest_addoption(parser: pytest.Parser) -> None:
    # pytest's own `--fixtures` lists its set-up functions; here the word means the recorded runs (the old
    # meaning stays available as `--funcargs`).
    parser.optparser.conflict_handler = "resolve"
    group = parser.getgroup("parity", "recorded runs of the published systems")
    group.addoption(
        "--fixtures", metavar="DIR", default=None, dest="parity_folder", help="default: ../shared/parity"
    )


def pytest_configure(config: pytest.Config) -> None:
    """A named folder is checked whole: the slow renderers of the default suite's `long` mark as well."""
    if config.getoption("parity_folder", default=None) is not None:
        config.option.markexpr = config.option.markexpr.replace("not long and ", "")


@cache
def _by_kind(folder: Path) -> dict[str, list[Fixture]]:
    found: dict[str, list[Fixture]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        case = load_fixture(path)
        found.setdefault(case.kind, []).append(case)
    return found


def _folder(config: pytest.Config) -> Path | None:
    """The folder to check; None when none was named and the default is not there."""
    named = config.getoption("parity_folder", default=None)
    if named is None:
        return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else None
    if not Path(named).is_dir():
        raise pytest.UsageError(f"--fixtures: there is no folder {named}")
    return Path(named)


def pytest_pycollect_makeitem(
    collector: pytest.Collector, name: str, obj: object
) -> list[pytest.Item] | None:
    """Leave out a test whose fixtures are not in the folder."""
    kinds = getattr(obj, "parity_kinds", None)
    folder = _folder(collector.config)
    if kinds is None or folder is None or any(kind in _by_kind(folder) for kind in kinds):
        return None
    return []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = getattr(metafunc.function, "parity_kinds", None)
    if kinds is None:
        return
    folder = _folder(metafunc.config)
    if folder is None:
        absent = pytest.mark.skip(reason="no recorded runs: ../shared/parity is absent")
        metafunc.parametrize("case", [pytest.param(None, marks=absent)], ids=["absent"])
        return
    cases = [case for kind in kinds for case in _by_kind(folder).get(kind, [])]
    metafunc.parametrize("case", cases, ids=[case.path.stem for case in cases])
