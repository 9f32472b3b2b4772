"""The report escapes everything that comes from inputs, and counts every clip once."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from talker.batch.report import build_report, report_page, write_report
from talker.batch.store import Store

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> & =1+1"
RESULTS = [
    {
        "id": EVIL, "status": "ok", "mode": "voice", "output": f"{EVIL}.mp4", "seconds": 1.5, "cues": 1,
        "warnings": [EVIL], "metrics": {"per": float("nan"), "offset": 1}, "timing": {"mux": 0.5, "rtf": 3.0},
        "files": {}, "artefacts": [],
    },
    {"id": "b", "status": "failed", "stage": "check", "reason": EVIL, "warnings": [], "timing": {"mux": 1}},
    {"id": "c", "status": "failed", "stage": "check", "reason": EVIL, "warnings": []},
    {"id": "d", "status": "failed", "stage": "a", "reason": "b", "warnings": [], "artefacts": ["x"]},
]  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_contains_text_of_inputs_as_text_only() -> None:
    page = Tags()
    page.feed(report_page(build_report(RESULTS, {})))
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "tr", "td", "th",
               "div", "a", "img"}  # fmt: skip
    assert {tag for tag, _ in page.found} <= allowed
    assert not any(name.startswith("on") for _, values in page.found for name in values)
    links = [values.get("src") or values["href"] for tag, values in page.found if tag in ("a", "img")]
    assert all(link.startswith("./") and not set(link) & set("<>\"'") for link in links)


def test_the_report_has_every_clip_and_no_internal_names(tmp_path: Path) -> None:
    report = build_report(RESULTS, {"capacity": 4})
    write_report(report, tmp_path, Store(tmp_path / "work"))
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert read == report
    assert [clip["id"] for clip in read["clips"]] == [EVIL, "b", "c", "d"]
    assert list(read["totals"]["reasons"].items()) == [(f"check: {EVIL}", 2), ("a: b", 1)]  # the usual first
    assert (read["totals"]["ok"], read["totals"]["failed"], read["totals"]["seconds"]) == (1, 3, 1.5)
    assert read["totals"]["warnings"] == 1
    assert read["clips"][0]["metrics"]["per"] is None
    assert read["timing"] == {"mux": 1.5}
    assert not any({"files", "artefacts"} & set(clip) for clip in read["clips"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<td>3</td>" in page  # the rtf
    assert page.count('class="failed"') == 3
