"""Batch dubbing: a manifest in; finished videos and a report out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from talker.batch.inputs import find_inputs
from talker.batch.manifest import Entry, Row, read_manifest
from talker.batch.ray_runner import RayRunner
from talker.batch.report import build_report, public, write_report
from talker.batch.runner import ProcessRunner, Result
from talker.batch.setup import Setup
from talker.batch.store import WORK, Store, locked
from talker.errors import UserError
from talker.progress import Progress
from talker.shipped import model_folder

log = logging.getLogger(__name__)

CAPACITIES = (1, 4, 8, 16)
CAPACITY = 4


def batch_dub(
    manifest: str | Path,
    out: str | Path,
    model: str | Path | None = None,
    capacity: int = CAPACITY,
    root: str | Path | None = None,
    workers: int = 1,
    threads: int = 1,
    defaults: Mapping[str, str] | None = None,
    collect: bool = False,
    ray: str | None = None,
    finished: Callable[[Result], object] = lambda result: None,
) -> dict[str, Any]:
    """Dub all clips of a manifest. What was finished before is kept; an interrupted batch is continued.

    In a script, call it below `if __name__ == "__main__":`, because it starts processes.

    Args:
        manifest: JSON lines or CSV, see docs/dubbing.md.
        out: folder of the results; created if it is missing.
        model: name of a shipped model or a checkpoint folder; None: the default model.
        capacity: number of cues that are generated at once, one of CAPACITIES. It is part of the result.
        root: folder that contains all inputs; None: that of the manifest.
        workers: number of processes.
        threads: CPU threads of an operation. It is part of the result.
        defaults: values, as text, of fields that a row does not have.
        collect: remove artefacts in the work folder that no clip of the manifest uses.
        ray: address of a Ray cluster whose actors are the workers, see docs/dubbing.md; None: processes.
        finished: called with the result of each clip.

    Returns:
        The report, which is also written to `out`.

    Raises:
        UserError: the manifest or the model cannot be used, or `out` is in use or cannot be written.
    """
    entries, base = _read(manifest, root, defaults)
    if capacity not in CAPACITIES:
        raise UserError(f"--capacity is {capacity}: choose one of {', '.join(map(str, CAPACITIES))}")
    if workers < 1 or threads < 1:
        raise UserError("--workers must be 1 or more")
    setup = Setup(_folder(Path(out)), base, model_folder(model).resolve(), capacity, threads)
    store = Store(setup.out / WORK)
    with locked(store.folder, setup.out):
        results: dict[str, Result] = {}
        with _Shown(len(entries)) as shown:
            for result in _results(entries, setup, workers, ray, shown.begin):
                results[result["id"]] = result
                shown.end(result)
                finished(public(result))
        ordered = [results[entry.id] for entry in entries]
        settings = {"model": setup.model.name, "capacity": capacity, "threads": threads}
        report = build_report(ordered, settings)
        write_report(report, setup.out, store)
        if collect:
            kept = {name for result in ordered for name in result.get("artefacts", ())}
            log.info("removed %d old artefacts", store.collect(kept))
    return report


def check_manifest(
    manifest: str | Path, root: str | Path | None = None, defaults: Mapping[str, str] | None = None
) -> list[tuple[Entry, str]]:
    """Each row with its problem, or an empty text, from the headers of the files. Nothing is written.

    Raises:
        UserError: the manifest cannot be used.
    """
    entries, base = _read(manifest, root, defaults)
    return [(entry, entry.problem or _problem(entry.row, base)) for entry in entries]


def _problem(row: Row | None, root: Path) -> str:
    assert row is not None
    try:
        find_inputs(row, root)
    except UserError as error:
        return str(error)
    return ""


def _read(
    manifest: str | Path, root: str | Path | None, defaults: Mapping[str, str] | None
) -> tuple[list[Entry], Path]:
    path = Path(manifest)
    entries = read_manifest(path, defaults)
    base = Path(root) if root is not None else path.absolute().parent
    if not base.is_dir():
        raise UserError(f"--root {base} is no folder: give the folder that contains the videos")
    return entries, base.resolve()


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return out.resolve()
    except OSError as error:
        raise UserError(f"--out {out} cannot be a folder ({error.strerror}): choose another name") from error


def _results(
    entries: Sequence[Entry],
    setup: Setup,
    workers: int,
    ray: str | None,
    notify: Callable[[str, str], object],
) -> Iterator[Result]:
    """Results of all entries, those of invalid rows first."""
    rows = []
    for entry in entries:
        if entry.row is not None:
            rows.append(entry.row)
        else:
            result = {"id": entry.id, "status": "failed", "stage": "manifest", "reason": entry.problem}
            yield result | {"warnings": []}
    if rows:
        runner = ProcessRunner(setup, workers, notify) if ray is None else RayRunner(setup, ray, workers)
        yield from runner.run(rows)


class _Shown:
    """Progress on standard error: clips, and how many are in each stage."""

    def __init__(self, clips: int) -> None:
        self._progress = Progress("clips", clips)
        self._stages: dict[str, str] = {}

    def begin(self, own: str, stage: str) -> None:
        """Show that a clip is in a stage."""
        self._stages[own] = stage
        self._rename()

    def end(self, result: Result) -> None:
        """Show the end of a clip."""
        self._stages.pop(result["id"], None)
        if result["status"] != "ok":
            log.warning("%s failed (%s): %s", result["id"], result["stage"], result["reason"])
        self._rename()
        self._progress.advance()

    def _rename(self) -> None:
        counts = Counter(self._stages.values())
        self._progress.rename(" ".join(["clips", *(f"{stage}:{count}" for stage, count in counts.items())]))

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.close()
