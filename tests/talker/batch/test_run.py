"""A batch as a function and as a command, with workers that do nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from talker.batch import command, run
from talker.batch.manifest import Row
from talker.batch.run import batch_dub, check_manifest
from talker.batch.setup import Setup
from talker.cli import main
from talker.errors import UserError
from talker.shipped import model_folder

LINES = [
    '{"id": "a", "video": "a.mp4", "text": "Go."}',
    "{",
    '{"id": "b", "video": "b.mp4"}',
    '{"id": "c", "video": "c.mp4"}',
]


class Quick:
    """Finishes the rows from the last one on; "b" fails."""

    made: list[tuple[Setup, int]] = []  # noqa: RUF012

    def __init__(self, setup: Setup, workers: int, notify: Any = None) -> None:
        self.made.append((setup, workers))
        self.notify = notify

    def run(self, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        for row in reversed(rows):
            self.notify(row.id, "check")
        for row in reversed(rows):
            (self.made[-1][0].out / "work" / f"speech-{row.id}").touch()
            kept = {"artefacts": [f"speech-{row.id}"], "warnings": []}
            if row.id == "b":
                yield kept | {"id": "b", "status": "failed", "stage": "voice", "reason": "r"}
            else:
                yield kept | {
                    "id": row.id,
                    "status": "ok",
                    "output": f"{row.id}.mp4",
                    "seconds": 1.0,
                    "files": {},
                }


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "ProcessRunner", Quick)
    Quick.made.clear()
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "m.jsonl"
    path.write_text("\n".join(LINES))
    return path


def test_the_report_has_the_order_of_the_manifest_and_results_come_as_they_finish(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names: list[str] = []
    monkeypatch.setattr(run.Progress, "rename", lambda self, name: names.append(name))
    finished: list[dict[str, Any]] = []
    report = batch_dub(
        manifest, out := tmp_path / "new/out", capacity=8, workers=3, threads=2, finished=finished.append
    )
    assert [clip["id"] for clip in report["clips"]] == ["a", "line-2", "b", "c"]
    assert [result["id"] for result in finished] == ["line-2", "c", "b", "a"]
    assert not any({"artefacts", "files"} & set(result) for result in [*finished, *report["clips"]])
    assert report["settings"] == {"model": model_folder(None).name, "capacity": 8, "threads": 2}
    assert json.loads((out / "report.json").read_text()) == report
    ((setup, workers),) = Quick.made
    assert setup == Setup(out.resolve(), manifest.parent.resolve(), model_folder(None).resolve(), 8, 2)
    assert workers == 3
    assert names == [
        "clips",
        "clips check:1",
        "clips check:2",
        "clips check:3",
        "clips check:2",
        "clips check:1",
        "clips",
    ]
    assert "b failed (voice): r" in caplog.text


def test_old_artefacts_are_removed_on_demand_and_those_of_failed_clips_kept(
    manifest: Path, tmp_path: Path
) -> None:
    work = tmp_path / "out" / "work"
    work.mkdir(parents=True)
    (work / "speech-old").touch()
    for collect in (False, True):
        batch_dub(manifest, tmp_path / "out", collect=collect)
        names = {path.name for path in work.iterdir()}
        assert names - {"lock"} == {"speech-a", "speech-b", "speech-c", *([] if collect else ["speech-old"])}
    assert "lock" in names


def test_a_batch_that_cannot_start_is_an_error_of_one_line(manifest: Path, tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    for options, message in (
        ({"capacity": 3}, "--capacity is 3"),
        ({"workers": 0}, "--workers"),
        ({"threads": 0}, "1 or more"),
        ({"root": tmp_path / "none"}, "--root"),
        ({"out": file}, "--out"),
    ):
        with pytest.raises(UserError, match=message):
            batch_dub(manifest, **({"out": tmp_path / "out"} | options))
    assert not Quick.made


def test_paths_are_below_the_given_root(manifest: Path, tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    (other / "a.mp4").write_text("no video")
    checked = dict(zip("a-bc", (problem for _, problem in check_manifest(manifest, other)), strict=True))
    assert "cannot be read as video" in checked["a"]
    assert "no words" in checked["b"]
    assert "does not exist" in check_manifest(manifest)[0][1]
    batch_dub(manifest, tmp_path / "out", root=other)
    assert Quick.made[0][0].root == other.resolve()


def test_each_option_is_an_argument_and_a_failed_row_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[tuple[Any, ...]] = []
    failed = Counter[str]()

    def dubbed(*values: Any, finished: Any, **more: Any) -> dict[str, Any]:
        calls.append((*values, more))
        finished({"id": "ä", "rtf": float("nan")})
        return {"totals": {"ok": 1, "failed": failed["rows"]}, "timing": {}}

    monkeypatch.setattr(command, "batch_dub", dubbed)
    plain = ["batch-dub", "m.csv", "--out", "o"]
    assert main(plain) == 0
    assert capsys.readouterr().out == '{"id": "ä", "rtf": null}\n'
    failed["rows"] = 2
    more = ["--model", "x", "--capacity", "8", "--root", "r", "--workers", "3", "--gc", "--ray", "local"]
    assert main([*plain, *more, "--set", "text=a=b", "--set", "seed=3"]) == 1
    assert calls == [
        ("m.csv", "o", None, 4, None, 1, {"defaults": {}, "collect": False, "ray": None}),
        ("m.csv", "o", "x", 8, "r", 3,
         {"defaults": {"text": "a=b", "seed": "3"}, "collect": True, "ray": "local"}),
    ]  # fmt: skip
    for wrong in ("id=a", "seed"):
        assert main([*plain, "--set", wrong]) == 2
        assert f"--set {wrong} is no setting" in caplog.text
