"""A small client of WebDriver BiDi, which drives Debian's Firefox."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

FIREFOX = shutil.which("firefox-esr")


class Firefox:
    """A headless Firefox with one tab, as a context manager."""

    def __init__(self) -> None:
        assert FIREFOX is not None
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (Path(self._home.name) / "profile").mkdir()
        command = [FIREFOX, "--headless", "--no-remote", "--profile", f"{self._home.name}/profile"]
        self._process = subprocess.Popen(
            [*command, "--remote-debugging-port", "0"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"HOME": self._home.name, "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                break
        else:
            raise AssertionError("Firefox ended before it listened")
        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(connect(f"{found[1]}/session", proxy=None, max_size=None))
        self._numbers = itertools.count(1)
        self.send("session.new", capabilities={})
        self._tab = self.send("browsingContext.getTree")["contexts"][0]["context"]

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        """Open a page, and wait until it has loaded."""
        self.send("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in JavaScript that gives a number, a text, a bool or null."""
        target = {"context": self._tab}
        found = self.send("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert found["type"] == "success", found
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """Click in the middle of an element, as a person does."""
        where = self.evaluate(
            f"(() => {{ const element = document.querySelector({selector!r});"
            "element.scrollIntoView({ block: 'center' }); const box = element.getBoundingClientRect();"
            "return `${Math.round(box.x + box.width / 2)} ${Math.round(box.y + box.height / 2)}`; })()"
        )
        x, y = map(int, where.split())
        actions = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "actions": actions}
        self.send("input.performActions", context=self._tab, actions=[mouse])

    def __enter__(self) -> Firefox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stack.close()
        self._process.terminate()
        self._process.wait(30)
        self._home.cleanup()
