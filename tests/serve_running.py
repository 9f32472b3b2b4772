"""A running server on a free port, for tests of its routes."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from websockets.sync.client import ClientConnection, connect

from talker.serve.server import Server, listen
from talker.serve.studio import Studio


class Running:
    """A running server."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.sessions = studio, studio.sessions
        self.listener = listen("127.0.0.1", 0, studio.keys)
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.server = Server(studio)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        try:
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body."""
        status, _, body = self.request("GET", path, **headers)
        return status, body

    def json(self, method: str, path: str, fields: dict[str, Any] | None = None, **headers: str) -> Any:
        """The answer to a JSON body."""
        body = None if fields is None else json.dumps(fields).encode()
        return json.loads(self.request(method, path, body, Content_Type="application/json", **headers)[2])

    def connect(self, **options: Any) -> ClientConnection:
        """A WebSocket."""
        return connect(f"ws://{self.address}/v1/realtime/video", proxy=None, max_size=None, **options)

    def __enter__(self) -> Running:
        until(lambda: self.server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition did not become true within {seconds} s"
        time.sleep(0.005)
