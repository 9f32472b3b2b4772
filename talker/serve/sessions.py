"""The sessions of a server: admission, time limits and the end of the server."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from talker.generation.scheduler import Scheduler
from talker.serve.inputs import SoundInput, TextInput
from talker.serve.session import Limits, LiveClip, Session

log = logging.getLogger(__name__)

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
        self.rtf = Histogram(
            "talker_rtf",
            "Real-time factor of a session, with encoding",
            buckets=(0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1, 1.2, 1.5, 2, 5),
            registry=self.registry,
        )


class Sessions:
    """Starts sessions on a scheduler, at most as many as it has rows, and ends those beyond their limits."""

    def __init__(self, scheduler: Scheduler, limits: Limits) -> None:
        """`scheduler`: the batch of all sessions. It is not closed here."""
        self.limits, self.metrics, self.draining = limits, Metrics(), False
        self._scheduler = scheduler
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._warned = False
        self.metrics.running.set_function(lambda: self.running)

    @property
    def running(self) -> int:
        """Number of sessions that are not finished."""
        return sum(not session.finished for session in list(self._sessions.values()))

    @property
    def failed(self) -> bool:
        """Whether the batch failed, so that no session can be generated."""
        return self._scheduler.failed

    def get(self, name: str) -> Session | None:
        """The session of an id, or None."""
        return self._sessions.get(name)

    def check_admission(self) -> None:
        """Raise NotAdmitted if no session can start now.

        If all rows are in use, a session ends that has waited for its client for `Limits.hold_when_full`.
        """
        if self.draining:
            self.metrics.rejected.labels("draining").inc()
            raise NotAdmitted("draining", "the server is shutting down: try again later", 30)
        if self.running < self._scheduler.capacity:
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
            f"all {self._scheduler.capacity} sessions are in use: try again in {retry_after} s",
            retry_after,
        )

    def start(self, clip: LiveClip, feed: TextInput | SoundInput) -> Session:
        """Start a session, see `Session`.

        Raises:
            NotAdmitted: see `check_admission`.
        """
        with self._lock:
            self.check_admission()
            session = Session(clip, feed, self._scheduler.submit, self.limits, self._ended)
            self._sessions[session.id] = session
        return session

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
        """Admit no more sessions, and wait until those with a client have ended, at most `Limits.drain`."""
        self.draining = True
        end = time.monotonic() + self.limits.drain
        while any(s.detached is None for s in self._sessions.values()) and time.monotonic() < end:
            await asyncio.sleep(TICK)

    def close(self) -> None:
        """Stop all sessions and wait for their threads."""
        self.draining = True
        sessions = list(self._sessions.values())
        for session in sessions:
            self.end(session)
        for session in sessions:
            session.join()

    def _ended(self, session: Session) -> None:
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
