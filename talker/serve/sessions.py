"""The sessions of a server: admission, time limits and the end of the server.

Speech without video and jobs take places beside the sessions. A job gives its place to whoever is live.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from talker.clips.idle import IdleLoop
from talker.generation.request import Request
from talker.generation.scheduler import Scheduler, Ticket
from talker.serve.events import log_event
from talker.serve.inputs import SoundInput, TextInput
from talker.serve.keys import NO_KEYS_OWNER
from talker.serve.session import Limits, LiveClip, Session

log = logging.getLogger(__name__)

MOST_LOOPS = 16
TICK = 0.25  # seconds between checks of the time limits


class NotAdmitted(Exception):  # noqa: N818 - not an error of the server
    """No session can start now.

    Attributes:
        code: "at_capacity" or "draining".
        retry_after: seconds after which another attempt makes sense.
    """

    def __init__(self, code: str, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.code, self.retry_after = code, retry_after


class Metrics:
    """Prometheus metrics of the sessions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.running = Gauge("talker_sessions", "Running sessions", registry=self.registry)
        self.rejected = Counter(
            "talker_sessions_rejected", "Sessions that were not admitted", ["code"], registry=self.registry
        )
        self.ended = Counter(
            "talker_sessions_ended", "Sessions by finish reason", ["finish_reason"], registry=self.registry
        )
        self.first_chunk = Histogram(
            "talker_time_to_first_chunk_seconds",
            "Time from the first request of a session to its first fragment",
            buckets=(0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 2, 5, 10),
            registry=self.registry,
        )
        self.jobs = Counter("talker_jobs", "Ended jobs by status", ["status"], registry=self.registry)
        self.rtf = Histogram(
            "talker_rtf",
            "Real-time factor of a session, with encoding",
            buckets=(0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1, 1.2, 1.5, 2, 5),
            registry=self.registry,
        )


class Sessions:
    """Starts sessions on a scheduler, and ends those beyond their limits.

    Attributes:
        most: number of places. A session, a speech and a job take one each.
    """

    def __init__(self, scheduler: Scheduler, limits: Limits, most: int | None = None) -> None:
        """Prepare the places.

        Args:
            scheduler: the batch of all sessions. It is not closed here.
            limits: time limits.
            most: number of places, at most the number of rows; None: as many as rows.
        """
        self.limits, self.metrics, self.draining = limits, Metrics(), False
        self.most = scheduler.capacity if most is None else most
        self._scheduler = scheduler
        self._speeches = 0
        self._end_job: Callable[[], None] | None = None  # ends the job that has a place
        self._sessions: dict[str, Session] = {}
        self._loops: dict[bytes, IdleLoop] = {}  # the last ones that were used, by the motion of the portrait
        self._lock = threading.Lock()
        self._warned = False
        self.metrics.running.set_function(lambda: self.running)

    @property
    def running(self) -> int:
        """Number of sessions that are not finished."""
        return sum(not session.finished for session in list(self._sessions.values()))

    @property
    def generate(self) -> Callable[[Request], Ticket]:
        """Starts a generation in the batch of the sessions."""
        return self._scheduler.submit

    @property
    def need_priority(self) -> bool:
        """Whether a client will soon wait for what is generated now, see `Session.needs_priority`."""
        return self._speeches > 0 or any(s.needs_priority for s in list(self._sessions.values()))

    @property
    def failed(self) -> bool:
        """Whether the batch failed, so that no session can be generated."""
        return self._scheduler.failed

    def get(self, name: str, owner: str = NO_KEYS_OWNER) -> Session | None:
        """The session of an id, or None if the owner has no such session."""
        session = self._sessions.get(name)
        return session if session is not None and session.owner == owner else None

    def check_admission(self) -> None:
        """Raise NotAdmitted if no session can start now.

        If all places are in use, the job gives its place away; if there is none, a session ends that has
        waited for its client for `Limits.hold_when_full`.
        """
        if self.draining:
            self.metrics.rejected.labels("draining").inc()
            raise NotAdmitted("draining", "the server is shutting down: try again later", 30)
        if self._used() < self.most:
            return
        if self._end_job is not None:
            end_job, self._end_job = self._end_job, None
            end_job()
            return
        waiting = [
            (session.detached + self.limits.hold_when_full - time.monotonic(), session.id)
            for session in list(self._sessions.values())
            if session.detached is not None and not session.finished
        ]
        left, longest = min(waiting, default=(5.0, ""))
        if left <= 0:
            self.end(self._sessions[longest])
            return
        self.metrics.rejected.labels("at_capacity").inc()
        retry_after = math.ceil(left)
        raise NotAdmitted(
            "at_capacity",
            f"all {self.most} sessions are in use: try again in {retry_after} s",
            retry_after,
        )

    def _used(self) -> int:
        return self.running + self._speeches + (self._end_job is not None)

    def start(self, clip: LiveClip, feed: TextInput | SoundInput, owner: str = NO_KEYS_OWNER) -> Session:
        """Start a session, see `Session`.

        Raises:
            NotAdmitted: see `check_admission`.
        """
        with self._lock:
            self.check_admission()
            loop = self._loop(clip)
            session = Session(clip, feed, self.generate, loop, self.limits, self._ended, owner)
            self._sessions[session.id] = session
        log_event("session_started", session=session.id, owner=owner)
        return session

    def _loop(self, clip: LiveClip) -> IdleLoop:
        """The motion of the clip's face while it waits, which sessions with the same face share."""
        assert clip.portrait is not None
        key = clip.portrait.motion.numpy().tobytes()
        loop = self._loops.pop(key, None) or IdleLoop(clip.system, clip.portrait, self.generate)
        self._loops[key] = loop
        if len(self._loops) > MOST_LOOPS:
            del self._loops[next(iter(self._loops))]
        return loop

    @contextlib.contextmanager
    def place_for_speech(self) -> Iterator[None]:
        """A place for speech without video.

        Raises:
            NotAdmitted: see `check_admission`.
        """
        with self._lock:
            self.check_admission()
            self._speeches += 1
        try:
            yield
        finally:
            with self._lock:
                self._speeches -= 1

    def take_place_for_job(self, end: Callable[[], None]) -> bool:
        """Take a place for a job, if one is free.

        `end`: called when a session or a speech needs the place. It must end the job soon.
        """
        with self._lock:
            free = self._used() < self.most and self._end_job is None and not self.draining
            if free:
                self._end_job = end
            return free

    def leave_place_of_job(self) -> None:
        """Free the place of the job."""
        with self._lock:
            self._end_job = None

    def end(self, session: Session, code: str | None = None) -> None:
        """Stop a session and forget it. A client can no longer continue it."""
        session.stop(code)
        self._sessions.pop(session.id, None)

    async def watch(self) -> None:
        """End sessions beyond their time limits, until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            for session in list(self._sessions.values()):
                if session.detached is not None and now - session.detached > self.limits.hold:
                    self.end(session)
                elif now - session.began > self.limits.total:
                    session.stop("too_long")
                elif now - session.active > self.limits.idle:
                    session.stop("idle")

    async def drain(self) -> None:
        """Admit no more sessions, and wait until those that speak have ended, at most `Limits.drain`."""
        self.draining = True
        end = time.monotonic() + self.limits.drain
        while time.monotonic() < end and (
            self._speeches or any(s.detached is None for s in list(self._sessions.values()))
        ):
            for session in list(self._sessions.values()):
                if session.waits:
                    session.stop("draining")
            await asyncio.sleep(TICK)

    def close(self) -> None:
        """Stop all sessions and wait for their threads."""
        self.draining = True
        sessions = list(self._sessions.values())
        for session in sessions:
            self.end(session)
        for session in sessions:
            session.join()
        for loop in self._loops.values():
            loop.close()

    def _ended(self, session: Session) -> None:
        log_event(
            "session_ended",
            session=session.id,
            owner=session.owner,
            finish_reason=session.finish_reason,
            code=session.stop_code,
            seconds=session.position.generated_ms / 1000,
            time_to_first_chunk=session.first_chunk_seconds,
            rtf=session.rtf,
        )
        self.metrics.ended.labels(session.finish_reason).inc()
        if session.first_chunk_seconds is not None:
            self.metrics.first_chunk.observe(session.first_chunk_seconds)
        if session.rtf is not None:
            self.metrics.rtf.observe(session.rtf)
            if session.rtf > 1 and not self._warned:
                self._warned = True
                log.warning(
                    "a session was generated slower than real time (rtf %.2f), so its playback stalls: "
                    "use a smaller --capacity or a faster machine",
                    session.rtf,
                )
