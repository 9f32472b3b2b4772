"""Which clips are tried again, and artefacts of the work folder. `integration` tests real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from talker.batch import runner as runner_module
from talker.batch.manifest import Row
from talker.batch.ray_runner import Actor, RayRunner, _packed, _unpacked
from talker.batch.runner import ProcessRunner
from talker.batch.setup import Setup
from talker.batch.store import WORK, Store, digest, file_digest, key_of, locked
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


class Thread:
    """Stands for a worker process: it takes two rows at once and finishes them, or dies of "crash"."""

    made: list[Thread] = []  # noqa: RUF012

    def __init__(self, connection: Connection) -> None:
        self.exitcode, self.killed, self.rows = 0, False, list[str]()
        self._connection = connection
        self._thread = threading.Thread(target=self._work, args=(connection,))
        self.join = self._thread.join
        self.made.append(self)
        self._thread.start()

    def _work(self, connection: Connection) -> None:
        with connection, contextlib.suppress(EOFError, OSError):
            while True:
                held = []
                for _ in range(2):
                    connection.send(("next", None))
                    held.append(connection.recv())
                names = [row.id for row in held if row is not None]
                self.rows += names
                if "wrong" in names:
                    connection.send(("error", "the model is broken"))
                if "crash" in names or "dead" in names:
                    self.exitcode = -signal.SIGKILL
                    return
                for name in names:
                    connection.send(("stage", (name, "check")))
                    connection.send(("done", {"id": name, "status": "ok"}))
                if None in held:
                    return

    def kill(self) -> None:
        self.killed = True
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as pipe:
            pipe.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[Thread]:
    def start(target: object, arguments: tuple, preloaded: str) -> Thread:
        return Thread(Connection(os.dup(arguments[1].fileno())))

    monkeypatch.setattr(runner_module, "start_process", start)
    monkeypatch.setattr(Thread, "made", [])
    return Thread.made


def rows_of(*names: str) -> list[Row]:
    return [Row(id=name, video="v") for name in names]


def runner(folder: Path, workers: int, stages: list | None = None) -> ProcessRunner:
    notify = (lambda *stage: None) if stages is None else (lambda *stage: stages.append(stage))
    return ProcessRunner(Setup(folder, folder, folder, 4), workers, notify)


def test_only_the_clip_that_ends_its_process_twice_fails(tmp_path: Path, threads: list[Thread]) -> None:
    stages: list[tuple[str, str]] = []
    results = list(runner(tmp_path, 1, stages).run(rows_of("a", "b", "crash", "c", "d")))
    assert sorted(result["id"] for result in results) == ["a", "b", "c", "crash", "d"]
    failed = [result for result in results if result["status"] != "ok"]
    assert [(result["id"], result["reason"]) for result in failed] == [("crash", "worker died (SIGKILL)")]
    assert threads[0].rows == ["a", "b", "crash", "c"]
    assert [thread.rows for thread in threads[1:3]] == [["crash"], ["c"]]  # each in a process of its own
    assert sum(thread.rows.count("crash") for thread in threads) == 2
    assert sorted(stages) == [(name, "check") for name in "abcd"]


def test_there_are_as_many_processes_as_wanted_but_no_more_than_clips(
    tmp_path: Path, threads: list[Thread]
) -> None:
    for workers, rows, expected in ((3, "a", 1), (1, "abc", 1), (2, "abcdefgh", 2)):
        threads.clear()
        assert len(list(runner(tmp_path, workers).run(rows_of(*rows)))) == len(rows)
        assert len(threads) == expected


def test_a_model_that_cannot_be_loaded_ends_the_batch(tmp_path: Path, threads: list[Thread]) -> None:
    with pytest.raises(UserError, match="the model is broken"):
        list(runner(tmp_path, 1).run(rows_of("wrong")))
    running = runner(tmp_path, 1).run(rows_of("a", "b", "c", "d"))
    next(running)
    running.close()
    assert [thread.killed for thread in threads] == [True, True]


def test_a_process_that_dies_without_a_clip_ends_the_batch(
    tmp_path: Path, threads: list[Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(self: Thread, connection: Connection) -> None:
        self.exitcode = 3
        connection.close()

    monkeypatch.setattr(Thread, "_work", dies)
    with pytest.raises(UserError, match="exit code 3"):
        list(runner(tmp_path, 1).run(rows_of("a")))


def test_ray_gives_one_result_of_each_clip_whatever_it_repeats_or_loses(tmp_path: Path) -> None:
    (stale := tmp_path / "attempts" / "old").parent.mkdir()
    stale.write_bytes(b"..")
    ray, submitted = SimpleNamespace(exceptions=SimpleNamespace(RayError=RuntimeError), ended=0), []

    class Repeating(RayRunner):
        def __init__(self) -> None:
            self._attempts, self._ray = stale.parent, ray

        def _submitted(self, rows):
            assert not stale.exists()
            submitted.append([row.id for row in rows])
            yield from ({"id": name, "status": "ok"} for name in ("a", "a"))
            if len(submitted) == 1:
                raise RuntimeError("a node was lost")
            yield {"id": "b", "status": "ok"}

    ray.shutdown = lambda: setattr(ray, "ended", ray.ended + 1)
    results = list(Repeating().run(rows_of("a", "b", "c")))
    assert [(result["id"], result["status"]) for result in results] == [
        ("a", "ok"),
        ("b", "ok"),
        ("c", "failed"),
    ]
    assert submitted == [["a", "b", "c"], ["b", "c"], ["c"]]
    assert ray.ended == 1


def test_the_digest_of_a_file_follows_its_content(tmp_path: Path) -> None:
    (path := tmp_path / "a").write_bytes(b"one")
    first = digest(path)
    os.utime(path, ns=(0, 0))
    assert digest(path) == first == file_digest(path)
    path.write_bytes(b"two")
    assert digest(path) == file_digest(path) != first
    store = Store(tmp_path / WORK)
    store.publish(path, lambda temporary: temporary.write_bytes(b"three"))
    assert (path.stat().st_mode & 0o777, path.read_bytes()) == (0o644, b"three")
