"""Jobs survive the end of the server, and give their place to whoever is live."""

from __future__ import annotations

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

import numpy as np
import pytest
from serve_running import until
from serve_sessions import Speak, studio_of

from talker import Talker, UserError
from talker.serve import jobs as jobs_module
from talker.serve.jobs import MOST_TRIES, Jobs, TooManyJobs, VideoRequest
from talker.serve.sessions import Sessions
from talker.serve.store import Store

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
    jobs.start()
    until(lambda: status(jobs, job.id) == "completed")
    assert store.upload("voice", "ann", "me") is None
    store.expire()
    assert jobs.get("ann", job.id) is None
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
    store.close()
    Store(folder).close()
    assert not orphan.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--data"):
        Store(tmp_path / "file" / "data")


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
