"""The import graph of the packages, and its cycles: `python tests/module_graph.py`.

Every import statement counts: at the top of a module, inside a function, and under `if TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("talker", "heads", "motion_ae", "audio_vae", "puppet", "evaluation", "recipes")

Graph = dict[str, set[str]]


def module_files(root: Path = ROOT) -> dict[str, Path]:
    """Every module of PACKAGES below `root`: dotted name -> file."""
    files = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def import_graph(root: Path = ROOT) -> Graph:
    """Module -> the modules of PACKAGES that it imports."""
    files = module_files(root)
    graph: Graph = {}
    for name, path in files.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                source = node.module or ""
                if node.level:  # relative: one level is the package that contains the module
                    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
                    source = ".".join([*package[: len(package) + 1 - node.level], *filter(None, [source])])
                # `from package import module` imports the module, `from module import name` the source.
                imported |= {
                    submodule if (submodule := f"{source}.{alias.name}") in files else source
                    for alias in node.names
                }
        graph[name] = (imported & files.keys()) - {name}
    return graph


def find_cycles(graph: Graph) -> list[list[str]]:
    """Cycles as paths [a, b, ..., a]: at least one of each strongly connected component.

    After each cycle, its last edge is removed, so that one call lists what there is to repair.
    """
    rest = {name: sorted(graph[name]) for name in sorted(graph)}  # sorted: the same paths every time
    cycles = []
    while True:
        try:
            TopologicalSorter(rest).prepare()
        except CycleError as error:
            # graphlib lists each module before the one that imports it.
            cycle = list(reversed(error.args[1]))
            cycles.append(cycle)
            rest[cycle[-2]].remove(cycle[-1])
        else:
            return cycles


def report(graph: Graph) -> tuple[str, bool]:
    """The text to print, and whether the graph has no cycle."""
    cycles = find_cycles(graph)
    edges = sum(len(imported) for imported in graph.values())
    lines = [f"{len(graph)} modules, {edges} imports, {len(cycles) or 'no'} cycle{'s' * (len(cycles) > 1)}"]
    lines += [f"  cycle: {' -> '.join(cycle)}" for cycle in cycles]
    return "\n".join(lines), not cycles


if __name__ == "__main__":
    text, acyclic = report(import_graph())
    print(text)
    sys.exit(not acyclic)
