"""The log of a server: one line of JSON per event, without text, names or keys of the users."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator

log = logging.getLogger(__name__)


def log_event(event: str, **fields: str | float | None) -> None:
    """Log an event with its time in seconds (Unix)."""
    log.info("%s", json.dumps({"time": round(time.time(), 3), "event": event, **fields}))


@contextlib.contextmanager
def events_to_stderr() -> Iterator[None]:
    """Write the lines to standard error without a prefix."""
    handler = logging.StreamHandler(sys.stderr)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True
