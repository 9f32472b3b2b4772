"""Runs the clips of a batch in worker processes. A clip that ends its process twice is reported, and left."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import Queue
from typing import Any

from talker.batch.manifest import Row
from talker.batch.setup import Setup
from talker.errors import UserError
from talker.processes import start_process

PRELOADED = "talker.batch.worker"
TRIES = 2
Result = dict[str, Any]


@dataclass
class _Worker:
    """A process, and the rows that it has been given and has not finished.

    Attributes:
        source: where its rows come from: all that wait, or a queue of its own.
        served: number of rows that it was given.
    """

    process: BaseProcess
    connection: Connection
    source: deque[Row]
    rows: dict[str, Row] = field(default_factory=dict)
    served: int = 0


class ProcessRunner:
    """Distributes rows among processes, and yields results.

    A process works on several clips at once. If it dies, each of them is tried again in a process of its own,
    so that only the clip at fault dies twice.
    """

    def __init__(
        self, setup: Setup, workers: int, notify: Callable[[str, str], object] = lambda own, stage: None
    ) -> None:
        """`notify` is called with the id of a clip and the name of each stage that begins."""
        self._setup, self._count, self._notify = setup, workers, notify
        self._waiting: deque[Row] = deque()
        self._suspects: deque[Row] = deque()
        self._deaths: dict[str, int] = {}
        self._workers: dict[Any, _Worker] = {}

    def run(self, rows: Sequence[Row]) -> Iterator[Result]:
        """Yield the result of each row, as they are finished.

        Raises:
            UserError: the model cannot be loaded, or processes die without a clip.
        """
        self._waiting = deque(rows)
        try:
            while self._waiting or self._suspects or self._workers:
                most = min(self._count, len(self._waiting) + len(self._suspects) + len(self._workers))
                while len(self._workers) < most and (self._suspects or self._waiting):
                    self._start(deque([self._suspects.popleft()]) if self._suspects else self._waiting)
                for ready in wait(list(self._workers)):
                    yield from self._handle(ready)
        finally:
            for worker in self._workers.values():
                worker.process.kill()
            for worker in self._workers.values():
                worker.process.join()

    def _start(self, source: deque[Row]) -> None:
        ours, theirs = Pipe()
        process = start_process(work, (self._setup, theirs), PRELOADED)
        theirs.close()
        self._workers[ours] = _Worker(process, ours, source)

    def _handle(self, connection: Any) -> Iterator[Result]:
        worker = self._workers[connection]
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            yield from self._ended(worker)
            return
        if kind == "next":
            row = self._next(worker)
            with contextlib.suppress(OSError):  # the process has died, which `_ended` handles
                connection.send(row)
        elif kind == "stage":
            self._notify(*value)
        elif kind == "done":
            worker.rows.pop(value["id"], None)
            yield value
        else:
            raise UserError(value)

    def _next(self, worker: _Worker) -> Row | None:
        if not worker.source:
            return None
        row = worker.source.popleft()
        worker.rows[row.id] = row
        worker.served += 1
        return row

    def _ended(self, worker: _Worker) -> Iterator[Result]:
        del self._workers[worker.connection]
        worker.connection.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        if not worker.served and code:
            raise UserError(f"a worker process ended with {_name(code)}: free memory, or run talker doctor")
        for row in worker.rows.values():
            self._deaths[row.id] = self._deaths.get(row.id, 0) + 1
            if self._deaths[row.id] < TRIES:
                self._suspects.append(row)
            else:
                yield died(row, _name(code))


def work(setup: Setup, connection: Connection) -> None:
    """Serve a `ProcessRunner`: ask for rows and send results until there are no more rows."""
    from talker.batch.worker import Dubber  # imports PyTorch, which the parent does not need

    sending, given = threading.Lock(), Queue[Row | None]()

    def send(kind: str, value: object = None) -> None:
        with sending:
            connection.send((kind, value))

    def receive() -> None:
        while True:
            try:
                given.put(connection.recv())
            except (EOFError, OSError):  # the parent has ended
                os._exit(1)

    def rows() -> Iterator[Row]:
        while True:
            send("next")
            row = given.get()
            if row is None:
                return
            yield row

    threading.Thread(target=receive, daemon=True).start()
    try:
        dubber = Dubber(setup, lambda own, stage: send("stage", (own, stage)))
    except UserError as error:
        send("error", str(error))
        return
    for result in dubber.run(rows()):
        send("done", result)


def died(row: Row, how: str) -> Result:
    """The result of a clip whose process died."""
    reason = f"worker died ({how})"
    return {"id": row.id, "status": "failed", "stage": "worker", "reason": reason, "warnings": []}


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
