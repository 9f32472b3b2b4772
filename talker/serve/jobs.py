"""Videos that are generated one after another. The list is in the store, so that a restart loses none."""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from talker.clips.clip import Clip
from talker.clock import SAMPLE_RATE
from talker.identity import Portrait, Voice
from talker.media.readers import read_frames
from talker.pipeline import Talker
from talker.serve.cancellable import Cancellable
from talker.serve.events import log_event
from talker.serve.identities import Library
from talker.serve.inputs import InputError
from talker.serve.sessions import Sessions
from talker.serve.store import Store, new_id
from talker.stages import Cancelled

log = logging.getLogger(__name__)

MOST_TRIES = 3  # starts of a job that the end of the process interrupts
MOST_QUEUED = 100  # jobs of an owner
RETRY_SECONDS = 300.0
POLL_SECONDS = 0.25
INPUT_EXTENSIONS = {"image": ".png", "sound": ".wav", "video": ".mp4"}


@dataclass(frozen=True, kw_only=True)
class VideoRequest:
    """What a video is made of.

    Attributes:
        prompt: the words. Of a recording they are the transcript, and may be empty.
        voice, portrait: names or ids; None: the default.
        seed: seed of the noise.
        files: kind ("image", "sound", "video") of each uploaded file, by the name of its field.
        digests: SHA-256 of these files.
        consent: how the person in them has agreed.
    """

    prompt: str
    voice: str | None = None
    portrait: str | None = None
    seed: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    consent: str = ""

    @property
    def task(self) -> str:
        """Name of the task: a recording is animated, a video is dubbed."""
        return {"sound": "a2v", "video": "v2a"}.get(self.files.get("input_reference", ""), "t2av")


@dataclass(frozen=True)
class Job:
    """A video that is generated, or will be, or was. Times are Unix times; see SCHEMA."""

    number: int
    id: str
    owner: str
    idempotency_key: str | None
    request: VideoRequest
    status: str
    progress: int
    tries: int
    seconds: float
    created: float
    completed: float | None
    expires: float
    error_code: str | None
    error_message: str | None


class TooManyJobs(Exception):  # noqa: N818 - not an error of the server
    """The owner has too many jobs that have not ended."""

    def __init__(self) -> None:
        super().__init__(f"{MOST_QUEUED} videos of this key are waiting")


class Jobs:
    """Runs the jobs of a store in a thread, one at a time, on a place that no session needs."""

    def __init__(
        self,
        talker: Talker,
        voices: Library[Voice],
        portraits: Library[Portrait],
        sessions: Sessions,
        store: Store,
    ) -> None:
        """`sessions`: gives the place and the batch. Call `start` to run the jobs."""
        self._talker, self._voices, self._portraits = talker, voices, portraits
        self._sessions, self._store = sessions, store
        self._changed = threading.Condition()
        self._closing = False
        self._running: tuple[str, Cancellable] | None = None
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Continue the jobs that the end of the last process interrupted, and run the others."""
        self._store.execute("UPDATE jobs SET status = 'queued', progress = 0 WHERE status = 'in_progress'")
        self._thread.start()

    def close(self) -> None:
        """End the thread. A running job starts again when the server does."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            running = self._running
        if running is not None:
            running[1].cancel()
        self._thread.join()

    # -- routes --------------------------------------------------------------------------------------------

    def create(
        self,
        owner: str,
        request: VideoRequest,
        files: Mapping[str, Path],
        idempotency_key: str | None = None,
        retried: bool = False,
    ) -> Job:
        """Add a job.

        Args:
            owner: who asks for it.
            request: the video.
            files: files that `open_upload` wrote, by the name of the field. They are moved.
            idempotency_key: a further call with this key returns the same job.
            retried: whether the client repeats a call whose answer it may not have received. If it made a
                job of the same request within RETRY_SECONDS, that job is returned.

        Raises:
            InputError: the key was used for another request.
            TooManyJobs: see the exception.
        """
        text, now = json.dumps(dataclasses.asdict(request), sort_keys=True), time.time()
        with self._store.transaction():
            if idempotency_key is not None:
                found = self._select("owner = ? AND idempotency_key = ?", owner, idempotency_key)
                if found and dataclasses.asdict(found[0].request) == dataclasses.asdict(request):
                    return found[0]
                if found:
                    raise InputError(
                        "idempotency_key_reused",
                        "this Idempotency-Key was used for another request: use a new one",
                    )
            since = now - RETRY_SECONDS
            if retried and (
                found := self._select("owner = ? AND request = ? AND created > ?", owner, text, since)
            ):
                return found[-1]
            if len(self._select("owner = ? AND status IN ('queued', 'in_progress')", owner)) >= MOST_QUEUED:
                raise TooManyJobs
            name = new_id("video")
            for field_name, path in files.items():
                path.replace(self._input(name, field_name, request.files[field_name]))
            self._store.execute(
                "INSERT INTO jobs (id, owner, idempotency_key, request, status, created, expires) "
                "VALUES (?, ?, ?, ?, 'queued', ?, ?)",
                name,
                owner,
                idempotency_key,
                text,
                now,
                now + self._store.retained,
            )
        with self._changed:
            self._changed.notify_all()
        log_event("job_created", job=name, owner=owner, task=request.task)
        return self._select("id = ?", name)[0]

    def get(self, owner: str, name: str) -> Job | None:
        """The job of an id, or None if the owner has no such job."""
        return next(iter(self._select("id = ? AND owner = ?", name, owner)), None)

    def page(self, owner: str, limit: int, after: str | None, ascending: bool) -> tuple[list[Job], bool]:
        """At most `limit` jobs of an owner in the order of their creation, and whether there are more.

        Args:
            owner: whose jobs.
            limit: number of jobs.
            after: the id of the last job of the page before.
            ascending: whether the oldest job is the first.

        Raises:
            KeyError: there is no job `after`.
        """
        condition, values = "owner = ?", [owner]
        if after is not None:
            last = self.get(owner, after)
            if last is None:
                raise KeyError(after)
            condition += f" AND number {'>' if ascending else '<'} {last.number}"
        order = f"ORDER BY number {'ASC' if ascending else 'DESC'} LIMIT {limit + 1}"
        found = self._select(condition, *values, order=order)
        return found[:limit], len(found) > limit

    def delete(self, owner: str, name: str) -> bool:
        """Delete a job and its files, also while it runs. Returns False if the owner has no such job."""
        with self._changed:
            if self.get(owner, name) is None:
                return False
            self._store.execute("DELETE FROM jobs WHERE id = ?", name)
            running = self._running
        if running is not None and running[0] == name:
            running[1].cancel()  # the thread removes the files
        else:
            self._store.remove_files(name)
        return True

    def result(self, job: Job, variant: str) -> Path:
        """The file of a completed job. `variant`: "video" or "thumbnail"."""
        return self._store.file(job.id, {"video": ".mp4", "thumbnail": ".jpg"}[variant])

    # -- the thread ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closing and not (queued := self._select("status = 'queued'", order=OLDEST)):
                    self._changed.wait()
                if self._closing:
                    return
                job = queued[0]
                run = Cancellable(self._sessions.generate)
                if not self._sessions.take_place_for_job(run.cancel):
                    self._changed.wait(POLL_SECONDS)
                    continue
                self._running = job.id, run
            try:
                self._run(job, run)
            except Exception:  # the database cannot be written
                log.exception("the state of job %s was lost: it starts again", job.id)
                time.sleep(1)
            finally:
                self._sessions.leave_place_of_job()
                with self._changed:
                    self._running = None

    def _run(self, job: Job, run: Cancellable) -> None:
        if job.tries >= MOST_TRIES:
            self._fail(job, "server_error", "the server ended while it generated this video, several times")
            return
        self._update(job, status="in_progress", tries=job.tries + 1)
        path = self.result(job, "video")
        try:
            seconds = self._make(self._clip(job), path, job, run)
            Image.fromarray(next(iter(read_frames(path)))).save(self.result(job, "thumbnail"), quality=90)
        except Cancelled:
            self._update(job, status="queued", progress=0, tries=job.tries)
        except (InputError, ValueError) as error:  # UserError is a ValueError
            message = str(error).replace(str(path.parent), "")
            self._fail(job, getattr(error, "code", "invalid_request"), message)
        except Exception:
            log.exception("job %s failed", job.id)
            self._fail(job, "server_error", "the generation failed: see the log of the server")
        else:
            now = time.time()
            self._update(
                job,
                status="completed",
                progress=100,
                seconds=round(seconds, 3),
                completed=now,
                expires=now + self._store.retained,
            )
            self._sessions.metrics.jobs.labels("completed").inc()
            log_event("job_ended", job=job.id, owner=job.owner, status="completed", seconds=seconds)
        if not self._select("id = ?", job.id):  # it was deleted meanwhile
            self._store.remove_files(job.id)

    def _make(self, clip: Clip, path: Path, job: Job, run: Cancellable) -> float:
        """Generate the video and return its duration in seconds. Raises Cancelled."""
        take, seconds, progress = clip.take(), 0.0, 0
        with clip.writer(path) as writer:
            for chunk in take.chunks(run):
                writer.write(chunk.pcm, chunk.frames)
                seconds = chunk.start_seconds + len(chunk.pcm) / SAMPLE_RATE
                done = min(99, int(100 * seconds / max(clip.expected_seconds, 0.1)))
                if done > progress:
                    progress = done
                    self._update(job, progress=progress)
                while self._sessions.need_priority and not run.cancelled:
                    time.sleep(POLL_SECONDS / 5)
            if run.cancelled:
                raise Cancelled
        return seconds

    def _clip(self, job: Job) -> Clip:
        """Plan the video. Raises InputError or ValueError if that is impossible."""
        request, files = job.request, job.request.files

        def portrait() -> Portrait:
            for name in ("portrait", "input_reference"):
                if files.get(name) == "image":
                    return self._portraits.computed(self._input(job.id, name, "image"), "uploaded")
            return self._portraits.get(request.portrait, job.owner)

        def voice() -> Voice:
            if "voice" in files:
                return self._voices.computed(self._input(job.id, "voice", "sound"), "uploaded")
            return self._voices.get(request.voice, job.owner)

        if request.task == "t2av":
            return self._talker.say(request.prompt, voice(), portrait(), request.seed)
        given = self._input(job.id, "input_reference", files["input_reference"])
        if request.task == "a2v":
            return self._talker.animate(given, portrait(), request.prompt or None, seed=request.seed)
        return self._talker.dub(given, request.prompt, voice(), seed=request.seed)

    def _input(self, name: str, field_name: str, kind: str) -> Path:
        return self._store.file(name, f".{field_name}{INPUT_EXTENSIONS[kind]}")

    def _fail(self, job: Job, code: str, message: str) -> None:
        self._update(job, status="failed", error_code=code, error_message=message, completed=time.time())
        self._sessions.metrics.jobs.labels("failed").inc()
        log_event("job_ended", job=job.id, owner=job.owner, status="failed", code=code)

    def _update(self, job: Job, **values: str | float | None) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._store.execute(f"UPDATE jobs SET {columns} WHERE id = ?", *values.values(), job.id)

    def _select(self, condition: str, *values: object, order: str = "") -> list[Job]:
        return [
            _job(row) for row in self._store.execute(f"SELECT * FROM jobs WHERE {condition} {order}", *values)
        ]


OLDEST = "ORDER BY number LIMIT 1"


def _job(row: sqlite3.Row) -> Job:
    values: dict[str, Any] = dict(row)
    return Job(**{**values, "request": VideoRequest(**json.loads(values["request"]))})
