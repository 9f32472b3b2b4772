"""The report of a batch: report.json for programs, and report.html with pictures for people."""

from __future__ import annotations

import html
import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from talker.batch.store import Store, finite

REPORT = "report"
INTERNAL = ("artefacts", "files")  # fields of a result that only the work folder needs
METRICS = ("per", "offset", "confidence", "loudness", "voice_similarity", "rtf")
STYLE = (
    "body{font:15px sans-serif;margin:2em;color:#222}table{border-collapse:collapse}"
    "td,th{padding:.3em .7em;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}"
    ".failed{color:#a00}.warning{color:#850}img{max-width:640px;display:block}"
)
# No script, frame or file of another place can be loaded, whatever a name contains.
POLICY = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"


def public(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result without what only the work folder needs."""
    return {name: value for name, value in result.items() if name not in INTERNAL}


def build_report(results: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The report as JSON values.

    Only fields named `timing` differ between two runs with the same inputs.

    Args:
        results: of all clips, in the order of the manifest.
        settings: of the batch.
    """
    clips = [public(one) for one in results]
    failed = [one for one in clips if one["status"] != "ok"]
    reasons = Counter(f"{one['stage']}: {one['reason']}" for one in failed)
    stages: Counter[str] = Counter()
    for one in clips:
        stages.update({name: value for name, value in one.get("timing", {}).items() if name != "rtf"})
    report = {
        "version": importlib.metadata.version("talker"),
        "settings": dict(settings),
        "totals": {
            "clips": len(clips),
            "ok": len(clips) - len(failed),
            "failed": len(failed),
            "seconds": round(sum(one.get("seconds", 0.0) for one in clips), 3),
            "warnings": sum(len(one.get("warnings", ())) for one in clips),
            "reasons": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        },
        "clips": clips,
        "timing": {name: round(seconds, 3) for name, seconds in stages.items()},
    }
    checked: dict[str, Any] = finite(report)
    return checked


def write_report(report: Mapping[str, Any], out: Path, store: Store) -> None:
    """Write report.json and report.html into `out`; `store` holds the unfinished files."""
    store.write_json(out / f"{REPORT}.json", report)
    page = report_page(report)
    store.publish(out / f"{REPORT}.html", lambda path: path.write_text(page, encoding="utf-8"))


def report_page(report: Mapping[str, Any]) -> str:
    """The report as an HTML page. All text of the inputs is escaped."""
    totals = report["totals"]
    reasons = "".join(
        f"<tr><td>{count}</td><td>{_text(reason)}</td></tr>" for reason, count in totals["reasons"].items()
    )
    rows = "".join(map(_row, report["clips"]))
    heads = "".join(f"<th>{name}</th>" for name in ("clip", "result", *METRICS, "picture"))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Batch dubbing</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head><body>'
        f"<h1>Batch dubbing</h1><p>{totals['clips']} clips: {totals['ok']} finished, {totals['failed']} "
        f"failed, {totals['warnings']} warnings; {totals['seconds']:.1f} s of video. The speech is generated "
        f"by talker {_text(report['version'])}.</p>"
        + (f"<h2>Reasons</h2><table>{reasons}</table>" if reasons else "")
        + f"<h2>Clips</h2><table><tr>{heads}</tr>{rows}</table></body></html>\n"
    )


def _row(clip: Mapping[str, Any]) -> str:
    own, metrics = str(clip["id"]), clip.get("metrics", {})
    cells = "".join(
        f"<td>{_number(metrics.get(name, clip.get('timing', {}).get(name)))}</td>" for name in METRICS
    )
    warnings = "".join(f'<div class="warning">{_text(line)}</div>' for line in clip.get("warnings", ()))
    if clip["status"] != "ok":
        result, picture = f'<div class="failed">{_text(clip["stage"])}: {_text(clip["reason"])}</div>', ""
    else:
        output = str(clip["output"])
        result = f'<a href="./{quote(output)}">{_text(output)}</a>, {clip["seconds"]:.2f} s'
        picture = f'<img alt="" loading="lazy" src="./{REPORT}/{quote(own)}.jpg">'
    return f"<tr><td>{_text(own)}</td><td>{result}{warnings}</td>{cells}<td>{picture}</td></tr>"


def _text(value: object) -> str:
    return html.escape(str(value))


def _number(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else _text(value)
