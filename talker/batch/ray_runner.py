"""Runs the clips of a batch as Ray Data over the nodes of a cluster (extra `distributed`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from talker.batch.manifest import Row
from talker.batch.runner import TRIES, Result, died
from talker.batch.setup import Setup
from talker.batch.store import WORK, key_of
from talker.errors import UserError

log = logging.getLogger(__name__)

PASSES = 3  # Ray may drop blocks; what is missing is submitted again


class RayRunner:
    """Distributes rows among the actors of a Ray cluster, whose nodes see the same files.

    Ray runs a block again, without end, if its process dies. So each start of a clip is counted in the work
    folder, and the third one gives a result instead.
    """

    def __init__(self, setup: Setup, address: str, workers: int) -> None:
        """`address`: of a cluster, "auto" for the running one, "local" for one on this machine.

        Raises:
            UserError: Ray is not installed, or there is no cluster.
        """
        try:
            import ray.data
        except ImportError as error:
            raise UserError("--ray needs the extra `distributed`: pip install 'ray[data]'") from error
        self._setup, self._workers, self._ray = setup, workers, ray
        self._attempts = setup.out / WORK / "attempts"
        try:
            ray.init(
                None if address == "local" else address,
                num_cpus=workers * setup.threads if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"--ray {address}: {error}; start a cluster, or use --ray local") from error

    def run(self, rows: Sequence[Row]) -> Iterator[Result]:
        """Yield the result of each row, exactly once, as they are finished."""
        self._attempts.mkdir(exist_ok=True)
        for path in self._attempts.iterdir():  # of an earlier run
            path.unlink()
        left = {row.id: row for row in rows}
        try:
            for _ in range(PASSES):
                try:
                    for result in self._submitted(list(left.values())):
                        if left.pop(result["id"], None) is not None:
                            yield result
                except self._ray.exceptions.RayError as error:
                    log.warning("Ray ended: %s", str(error).splitlines()[0])
                if not left:
                    return
            for row in left.values():
                yield died(row, "lost by Ray")
        finally:
            self._ray.shutdown()

    def _submitted(self, rows: Sequence[Row]) -> Iterator[Result]:
        data = self._ray.data
        data.DataContext.get_current().enable_progress_bars = False
        blocks = data.from_items([{"row": _packed(row)} for row in rows], override_num_blocks=len(rows))
        results = blocks.map(
            Actor,
            fn_constructor_args=(self._setup, self._attempts),
            compute=data.ActorPoolStrategy(size=min(self._workers, len(rows))),
            num_cpus=self._setup.threads,
        )
        for item in results.iter_rows():
            yield json.loads(item["result"])


class Actor:
    """Dubs one clip after another in a process of Ray. It never raises."""

    def __init__(self, setup: Setup, attempts: Path) -> None:
        """`attempts`: folder in which starts are counted."""
        self._setup, self._attempts = setup, attempts
        self._dubber: Any = None

    def __call__(self, item: dict[str, Any]) -> dict[str, str]:
        """The result, as JSON, of the row in `item`."""
        row = _unpacked(item["row"])
        mark = self._attempts / key_of(id=row.id)
        count = mark.stat().st_size if mark.exists() else 0
        if count >= TRIES:
            return {"result": json.dumps(died(row, "twice"))}
        with mark.open("ab") as file:
            file.write(b".")
        try:
            if self._dubber is None:
                from talker.batch.worker import Dubber  # imports PyTorch, which the driver does not need

                self._dubber = Dubber(self._setup)
            (result,) = self._dubber.run([row])
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            result = {"id": row.id, "status": "failed", "stage": "worker", "reason": reason, "warnings": []}
        mark.unlink(missing_ok=True)
        return {"result": json.dumps(result)}


def _packed(row: Row) -> str:
    return json.dumps(vars(row))


def _unpacked(text: str) -> Row:
    values = json.loads(text)
    return Row(**values | {"voices": tuple(map(tuple, values["voices"]))})
