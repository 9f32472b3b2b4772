"""Attempts of a Ray actor, and artefacts of the work folder. The processes are tested in `integration`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talker.batch.manifest import Row
from talker.batch.ray_runner import Actor, _packed, _unpacked
from talker.batch.setup import Setup
from talker.batch.store import Store, key_of, locked
from talker.errors import UserError

ROW = Row(id="ä", video="a.mp4", text="Go.", voices=(("Anna", "ada"),), end=2.0)


class Quick:
    def run(self, rows):
        for row in rows:
            if row.seed:
                raise RuntimeError("planned")
            yield {"id": row.id, "status": "ok"}


def actor(folder: Path) -> Actor:
    made = Actor(Setup(folder, folder, folder, 4), folder)
    made._dubber = Quick()
    return made


def call(actor: Actor, row: Row) -> dict:
    return json.loads(actor({"row": _packed(row)})["result"])


def test_rows_travel_as_text() -> None:
    assert _unpacked(_packed(ROW)) == ROW


def test_an_actor_never_raises_and_refuses_a_clip_that_ended_two_processes(tmp_path: Path) -> None:
    assert call(actor(tmp_path), ROW) == {"id": "ä", "status": "ok"}
    failed = call(actor(tmp_path), Row(id="b", video="a.mp4", seed=1))
    assert (failed["status"], failed["reason"]) == ("failed", "RuntimeError: planned")
    assert not list(tmp_path.iterdir())  # finished clips leave no mark
    (tmp_path / key_of(id="ä")).write_bytes(b".")  # started, and not finished
    assert call(actor(tmp_path), ROW)["status"] == "ok"
    (tmp_path / key_of(id="ä")).write_bytes(b"..")
    assert call(actor(tmp_path), ROW)["reason"].startswith("worker died")


def test_an_artefact_is_written_once_and_completely(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), list[Path]()

    def write(path: Path) -> None:
        calls.append(path)
        path.write_text("whole")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("planned")

    with pytest.raises(OSError, match="planned"):
        store.make("a.txt", fail)
    assert not list(tmp_path.iterdir())
    assert store.make("a.txt", write) == store.make("a.txt", write) == tmp_path / "a.txt"
    assert len(calls) == 1
    assert store.used == {"a.txt"}
    store.make("b.txt", write)
    assert store.collect({"b.txt"}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_the_lock_is_exclusive_and_removes_unfinished_files(tmp_path: Path) -> None:
    (tmp_path / ".media.abc.part").touch()
    (tmp_path / "media").touch()
    with (
        locked(tmp_path, tmp_path),
        pytest.raises(UserError, match="in use by another process"),
        locked(tmp_path, tmp_path),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "media"]
