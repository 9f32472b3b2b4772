"""Jobs survive the end of the server, and give their place to whoever is live."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from serve_running import until
from serve_sessions import Speak, studio_of

from talker import Talker, UserError
from talker.clips.clip import NO_FRAMES, Chunk
from talker.serve import jobs as jobs_module
from talker.serve.cancellable import Cancellable
from talker.serve.inputs import InputError
from talker.serve.jobs import MOST_TRIES, RETRY_SECONDS, Jobs, TooManyJobs, VideoRequest
from talker.serve.sessions import Sessions
from talker.serve.store import Store, default_folder

GO = VideoRequest(prompt="Go.")
LONG = VideoRequest(prompt="So we go on and on and on and on. " * 20)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def jobs(talker: Talker, voice, portrait, sessions: Sessions, store: Store) -> Iterator[Jobs]:
    """Jobs that are not started."""
    jobs = studio_of(talker, voice, portrait, sessions, store).jobs
    yield jobs
    if jobs._thread.is_alive():
        jobs.close()


def status(jobs: Jobs, name: str) -> str:
    job = jobs.get("ann", name)
    return "" if job is None else job.status


def test_an_interrupted_job_is_generated_again_with_the_same_frames(
    jobs: Jobs, store: Store, written
) -> None:
    whole, interrupted = jobs.create("ann", GO, {}), jobs.create("ann", GO, {})
    store.execute("UPDATE jobs SET status = 'in_progress', tries = 1 WHERE id = ?", interrupted.id)
    store.file(interrupted.id, ".mp4").write_bytes(b"half")
    jobs.start()
    until(lambda: status(jobs, interrupted.id) == "completed")
    ended = [jobs.get("ann", job.id) for job in (whole, interrupted)]
    assert [job.tries for job in ended] == [1, 2]
    first, second = written[: len(written) // 2], written[len(written) // 2 :]
    for chunk, again in zip(first, second, strict=True):
        assert all(map(np.array_equal, chunk, again))
    assert not jobs.result(ended[1], "video").read_bytes().startswith(b"half")


def test_a_job_that_ends_the_server_several_times_is_reported_as_failed(jobs: Jobs, store: Store) -> None:
    job = jobs.create("ann", GO, {})
    store.execute("UPDATE jobs SET status = 'in_progress', tries = ?", MOST_TRIES)
    jobs.start()
    until(lambda: status(jobs, job.id) == "failed")
    assert jobs.get("ann", job.id).error_code == "server_error"


def test_closing_interrupts_a_job_that_starts_again_later(jobs: Jobs) -> None:
    job = jobs.create("ann", LONG, {})
    jobs.start()
    until(lambda: jobs.get("ann", job.id).progress > 0)
    jobs.close()
    left = jobs.get("ann", job.id)
    assert (left.status, left.progress, left.tries) == ("queued", 0, 0)


def test_deleting_a_running_job_removes_its_files(jobs: Jobs, store: Store, folder: Path) -> None:
    with store.incoming() as path:
        shutil.copy(folder / "face.png", path)
        request = dataclasses.replace(LONG, files={"portrait": "image"}, digests={"portrait": "x"})
        job = jobs.create("ann", request, {"portrait": path})
    jobs.start()
    until(lambda: jobs.get("ann", job.id).progress > 0)
    assert jobs.delete("ann", job.id)
    assert not jobs.delete("ann", job.id)
    until(lambda: not list((store.folder / "files").iterdir()))


def test_a_job_gives_its_place_to_a_session(jobs: Jobs, sessions: Sessions, speak: Speak) -> None:
    sessions.most = 1
    job = jobs.create("ann", LONG, {})
    jobs.start()
    until(lambda: status(jobs, job.id) == "in_progress")
    session = speak()
    until(lambda: status(jobs, job.id) == "queued")
    session.stop()
    until(lambda: status(jobs, job.id) == "in_progress")


def test_a_job_waits_while_a_client_needs_what_is_generated(
    jobs: Jobs, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sessions, "need_priority", True)
    job = jobs.create("ann", GO, {})
    jobs.start()
    until(lambda: jobs.get("ann", job.id).progress > 0)
    time.sleep(0.2)
    assert status(jobs, job.id) == "in_progress"
    monkeypatch.setattr(Sessions, "need_priority", False)
    until(lambda: status(jobs, job.id) == "completed")


def test_the_number_of_waiting_jobs_of_an_owner_is_limited(jobs: Jobs, monkeypatch) -> None:
    monkeypatch.setattr(jobs_module, "MOST_QUEUED", 2)
    for _ in range(2):
        jobs.create("ann", GO, {})
    with pytest.raises(TooManyJobs):
        jobs.create("ann", GO, {})
    jobs.create("bob", GO, {})


def test_uploads_and_results_expire(jobs: Jobs, store: Store, tmp_path: Path) -> None:
    store.retained = -1.0
    (content := tmp_path / "x").write_bytes(b"x")
    upload = store.add_upload("voice", "ann", "me", "yes", "", content)
    assert not content.exists()
    job = jobs.create("ann", GO, {})
    failed = jobs.create("ann", dataclasses.replace(GO, voice="nobody"), {})
    jobs.start()
    until(lambda: status(jobs, failed.id) == "failed")
    (waiting := store.file(failed.id, ".input.png")).touch()
    assert jobs.get("ann", failed.id).completed >= failed.created
    assert status(jobs, job.id) == "completed"
    jobs.close()
    queued = jobs.create("ann", GO, {})
    assert store.upload("voice", "ann", "me") is None
    store.expire()
    assert jobs.get("ann", job.id) is jobs.get("ann", failed.id) is None
    assert not waiting.exists()
    assert status(jobs, queued.id) == "queued"  # it has not been made
    assert not list((store.folder / "files").iterdir())
    assert upload.expires < time.time()


def test_a_folder_serves_one_server_and_files_without_a_row_are_removed(tmp_path: Path) -> None:
    store = Store(folder := tmp_path / "data")
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UserError, match="--data"):
        Store(folder)
    orphan = store.file("video_1", ".mp4")
    orphan.write_bytes(b"x")
    with store.incoming() as path:
        path.write_bytes(b"x")
    assert not path.exists()
    store.execute(
        "INSERT INTO jobs (id, owner, request, status, created, expires) VALUES (?, '', '', '', 0, 0)",
        "video_2",
    )
    (kept := store.file("video_2", ".voice.wav")).touch()
    store.close()
    again = Store(folder, hours=2.0)
    assert again.retained == 7200
    assert not orphan.exists()
    assert kept.exists()
    again.execute("PRAGMA user_version = 2")
    again.close()
    with pytest.raises(UserError, match="newer version"):
        Store(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--data"):
        Store(tmp_path / "file" / "data")


def test_statements_of_a_transaction_happen_all_or_not_at_all(store: Store) -> None:
    insert = "INSERT INTO uploads VALUES (?, 'voice', 'ann', 'me', '', '', 0, 1e12)"
    with contextlib.suppress(KeyError), store.transaction():
        store.execute(insert, "a")
        raise KeyError
    assert store.uploads("voice", "ann") == []
    with store.transaction():
        store.execute(insert, "b")
    assert [one.id for one in store.uploads("voice", "ann")] == ["b"]


def test_the_folder_is_among_the_data_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for data, expected in (
        ("/data", Path("/data")),
        ("relative", tmp_path / ".local/share"),
        ("", tmp_path / ".local/share"),
    ):
        monkeypatch.setenv("XDG_DATA_HOME", data)
        assert default_folder() == expected / "talker" / "serve"


# -- which job -----------------------------------------------------------------------------------------------


def test_a_key_stands_for_one_request_of_one_owner(jobs: Jobs) -> None:
    first = jobs.create("ann", GO, {}, "key")
    assert jobs.create("ann", GO, {}, "key").id == first.id
    assert jobs.create("bob", GO, {}, "key").id != first.id
    with pytest.raises(InputError, match="another request"):
        jobs.create("ann", dataclasses.replace(GO, seed=1), {}, "key")
    assert jobs.create("ann", GO, {}).id != first.id


def test_a_repeated_call_returns_the_last_job_of_the_same_request_within_minutes(
    jobs: Jobs, store: Store
) -> None:
    jobs.create("ann", GO, {})
    second = jobs.create("ann", GO, {})
    assert jobs.create("ann", GO, {}, retried=True).id == second.id
    assert jobs.create("bob", GO, {}, retried=True).id != second.id
    assert jobs.create("ann", dataclasses.replace(GO, seed=1), {}, retried=True).id != second.id
    store.execute("UPDATE jobs SET created = created - ?", RETRY_SECONDS + 1)
    assert jobs.create("ann", GO, {}, retried=True).id != second.id


def test_pages_have_every_job_once_in_both_orders(jobs: Jobs) -> None:
    names = [jobs.create("ann", GO, {}).id for _ in range(4)]
    jobs.create("bob", GO, {})
    for ascending, expected in ((True, names), (False, names[::-1])):
        for limit in (1, 2, 3, 4, 9):
            found, after, more = list[str](), None, True
            while more:
                page, more = jobs.page("ann", limit, after, ascending)
                assert len(page) == limit or not more
                found += [job.id for job in page]
                assert more == (len(found) < 4)
                after = found[-1]
            assert found == expected
    with pytest.raises(KeyError):
        jobs.page("bob", 2, names[0], True)


def test_only_jobs_that_have_not_ended_are_limited(jobs: Jobs, store: Store, monkeypatch) -> None:
    monkeypatch.setattr(jobs_module, "MOST_QUEUED", 1)
    for state in ("completed", "failed"):
        job = jobs.create("ann", GO, {})
        store.execute("UPDATE jobs SET status = ? WHERE id = ?", state, job.id)
    job = jobs.create("ann", GO, {})
    for state in ("queued", "in_progress"):
        store.execute("UPDATE jobs SET status = ? WHERE id = ?", state, job.id)
        with pytest.raises(TooManyJobs):
            jobs.create("ann", GO, {})


def test_a_job_that_waits_again_after_a_restart_has_no_progress(
    jobs: Jobs, store: Store, sessions: Sessions
) -> None:
    job = jobs.create("ann", GO, {})
    store.execute("UPDATE jobs SET status = 'in_progress', progress = 60")
    sessions.most = 0
    jobs.start()
    found = jobs.get("ann", job.id)
    assert (found.status, found.progress) == ("queued", 0)


def test_deleting_a_job_ends_no_other_one(jobs: Jobs) -> None:
    running, queued = jobs.create("ann", LONG, {}), jobs.create("ann", LONG, {})
    jobs.start()
    until(lambda: jobs.get("ann", running.id).progress > 0)
    (_, run) = jobs._running
    assert jobs.delete("ann", queued.id)
    assert not run.cancelled
    assert not jobs.delete("bob", running.id)
    assert jobs.delete("ann", running.id)
    assert run.cancelled


def test_what_a_job_is_made_of_is_passed_on(jobs: Jobs, store: Store, voice, portrait) -> None:
    calls: list[tuple] = []
    names = ("say", "animate", "dub")
    jobs._talker = SimpleNamespace(
        **{name: lambda *given, name=name, **more: calls.append((name, *given, more)) for name in names}
    )
    for kind, prompt in ((None, "Go."), ("sound", "Go."), ("sound", ""), ("video", "Go.")):
        files, kept = {} if kind is None else {"input_reference": kind}, {}
        for name in files:
            kept[name] = store.folder / "incoming" / name
            kept[name].touch()
        request = VideoRequest(prompt=prompt, voice="v", portrait="p", seed=7, files=files)
        job = jobs.create("ann", request, kept)
        jobs._clip(job)
    given = [call[1] for call in calls]
    assert all(path.is_file() for path in given[1:])
    assert calls == [
        ("say", "Go.", voice, portrait, 7, {}),
        ("animate", given[1], portrait, "Go.", {"seed": 7}),
        ("animate", given[2], portrait, None, {"seed": 7}),
        ("dub", given[3], "Go.", voice, {"seed": 7}),
    ]


def test_progress_stays_below_a_hundred_and_a_failure_names_no_folder(
    jobs: Jobs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Endless:
        expected_seconds = 0.16
        chunks = lambda self, run: (Chunk(k * 0.16, np.zeros(3840), NO_FRAMES) for k in range(4))  # noqa: E731
        take = lambda self: self  # noqa: E731
        writer = lambda self, path: contextlib.nullcontext(SimpleNamespace(write=lambda *_: None))  # noqa: E731

    job = jobs.create("ann", GO, {})
    monkeypatch.setattr(jobs, "_update", lambda job, **values: seen.append(values["progress"]))
    assert jobs._make(Endless(), Path("x"), job, Cancellable(None)) == pytest.approx(0.64)
    assert seen == [99]
    monkeypatch.undo()

    def fail(job: object) -> None:
        raise ValueError(f"{store.folder}/files/x.wav is bad")

    monkeypatch.setattr(jobs, "_clip", fail)
    jobs._run(job, Cancellable(None))
    failed = jobs.get("ann", job.id)
    assert (failed.error_code, failed.error_message) == ("invalid_request", "/x.wav is bad")


def test_a_result_is_kept_from_its_end_on(jobs: Jobs, store: Store) -> None:
    job = jobs.create("ann", GO, {})
    store.execute("UPDATE jobs SET expires = 5")
    jobs.start()
    until(lambda: status(jobs, job.id) == "completed")
    ended = jobs.get("ann", job.id)
    assert ended.expires == ended.completed + store.retained
    assert abs(ended.completed - time.time()) < 10
    assert ended.seconds > 0


@pytest.mark.long
def test_no_job_is_lost_when_the_server_is_killed(folder: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]

    def start() -> tuple[subprocess.Popen[bytes], str]:
        command = [sys.executable, "-m", "talker", "serve", "--port", "0", "--capacity", "1"]
        command += ["--data", str(tmp_path / "data"), "--model", str(folder)]
        with (tmp_path / "log").open("w") as log:
            server = subprocess.Popen(command, stderr=log, env={**os.environ, "PYTHONPATH": str(root)})
        until(lambda: "http://" in (tmp_path / "log").read_text(), seconds=120)
        return server, (tmp_path / "log").read_text().split("http://")[1].split(";")[0]

    def call(address: str, path: str, fields: dict[str, str] | None = None) -> dict:
        data = None if fields is None else json.dumps(fields).encode()
        request = urllib.request.Request(
            f"http://{address}{path}", data, {"Content-Type": "application/json"}
        )
        return json.loads(urllib.request.urlopen(request).read())

    server, address = start()
    names = [call(address, "/v1/videos", {"prompt": text})["id"] for text in (LONG.prompt[:200], "Go.")]
    until(lambda: call(address, f"/v1/videos/{names[0]}")["progress"] > 0)
    server.send_signal(signal.SIGKILL)
    server.wait()
    server, address = start()
    for name in names:
        until(lambda name=name: call(address, f"/v1/videos/{name}")["status"] == "completed", seconds=120)
    server.terminate()
    assert server.wait(20) == 0
