"""The command `talker batch-dub`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from talker.batch.manifest import Entry, write_manifest
from talker.batch.run import batch_dub, check_manifest
from talker.batch.store import finite
from talker.errors import UserError
from talker.signals import Interrupted
from talker.signals import command as continued

log = logging.getLogger(__name__)


def command(options: Any) -> int:
    """Run `talker batch-dub` and return its exit code: 0, or 1 if a row failed."""
    defaults = dict(_setting(text) for text in options.set)
    if options.init is not None:
        count = write_manifest(Path(options.manifest), Path(options.init))
        print(f"{options.manifest}: {count} rows; check it with --dry-run")
        return 0
    if options.dry_run:
        checked = check_manifest(options.manifest, options.root, defaults)
        print(problem_table(checked))
        return 1 if any(problem for _, problem in checked) else 0
    if options.out is None:
        raise UserError("give the folder of the results with --out DIR")
    began = time.monotonic()
    try:
        report = batch_dub(
            options.manifest,
            options.out,
            options.model,
            options.capacity,
            options.root,
            options.workers,
            defaults=defaults,
            collect=options.gc,
            ray=options.ray,
            finished=lambda result: print(json.dumps(finite(result), ensure_ascii=False), flush=True),
        )
    except Interrupted as error:
        kept = f"finished clips are kept in {options.out}; continue with: {continued()}"
        raise Interrupted(error.number, kept) from None
    totals, wall = report["totals"], time.monotonic() - began
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["timing"].items())
    log.info("%d finished, %d failed in %.1f s; %s", totals["ok"], totals["failed"], wall, stages)
    log.info("report: %s", Path(options.out) / "report.html")
    return 1 if totals["failed"] else 0


def problem_table(checked: Sequence[tuple[Entry, str]]) -> str:
    """One line per row: its id and its problem."""
    width = max(len(entry.id) for entry, _ in checked)
    return "\n".join(f"{entry.id.ljust(width)}  {problem or 'ok'}" for entry, problem in checked)


def _setting(text: str) -> tuple[str, str]:
    name, middle, value = text.partition("=")
    if not middle or name == "id":
        raise UserError(f"--set {text} is no setting: write --set FIELD=VALUE")
    return name, value
