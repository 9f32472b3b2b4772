"""Imports: no cycle among modules, no lazy package, and a light `import talker`."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from module_graph import PACKAGES, Graph, find_cycles, import_graph, module_files, report

import talker

HEAVY = ("torch", "torchaudio", "transformers", "numpy", "av", "PIL", "skimage", "cv2", "gruut")
LAZY_NAMES = {"talker": {"Talker", "UserError"}}  # the only package that may import lazily


@pytest.fixture(scope="module")
def graph() -> Graph:
    return import_graph()


def test_modules_import_each_other_without_a_cycle(graph: Graph) -> None:
    text, acyclic = report(graph)
    assert acyclic, text


def test_graph_contains_every_package(graph: Graph) -> None:
    """Otherwise the test for cycles would pass without checking anything."""
    assert {name.split(".")[0] for name in graph} == set(PACKAGES)
    assert "talker.errors" in graph["talker"]  # imported inside a function and under TYPE_CHECKING


@pytest.mark.parametrize(
    "statement",
    [
        "from talker import b",
        "import talker.b",
        "from talker.b import name",
        "from . import b",
        "from .b import name",
        "def f():\n    from talker.b import name",
        "if TYPE_CHECKING:\n    import talker.b",
    ],
)
def test_every_form_of_import_closes_a_cycle(statement: str, tmp_path: Path) -> None:
    (tmp_path / "talker").mkdir()
    (tmp_path / "talker" / "__init__.py").write_text("")
    (tmp_path / "talker" / "a.py").write_text(statement)
    (tmp_path / "talker" / "b.py").write_text("from talker.c import d")
    (tmp_path / "talker" / "c.py").write_text("import talker.a")
    (cycle,) = find_cycles(import_graph(tmp_path))
    start = cycle.index("talker.a")
    assert [*cycle[start:-1], *cycle[:start]] == ["talker.a", "talker.b", "talker.c"]


def test_report_lists_every_independent_cycle() -> None:
    graph = {"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"e"}, "e": {"c"}, "f": {"a", "c"}}
    text, acyclic = report(graph)
    assert not acyclic
    assert text.startswith("6 modules, 7 imports, 2 cycles")
    assert report({"a": {"b"}, "b": set()}) == ("2 modules, 1 imports, no cycle", True)


def lazily_imported(tree: ast.Module) -> set[str]:
    """Names that the functions of a module import."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    imports = [
        node
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return {alias.name for node in imports for alias in node.names}


def test_only_talker_imports_lazily_and_only_two_names() -> None:
    for name, path in module_files().items():
        if path.stem != "__init__":
            continue
        tree, allowed = ast.parse(path.read_text()), LAZY_NAMES.get(name, set())
        assert lazily_imported(tree) == allowed, f"{path} must import at the top of the module"
        if not allowed:
            assert "__getattr__" not in path.read_text(), f"{path} must not define __getattr__"


def test_import_talker_loads_nothing_heavy() -> None:
    code = f"import sys, talker; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_talker_has_its_public_names_and_no_others() -> None:
    assert talker.__version__ == importlib.metadata.version("talker")
    assert (talker.Talker.__name__, talker.UserError.__name__) == ("Talker", "UserError")
    assert not hasattr(talker, "nothing")
