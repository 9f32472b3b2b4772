"""Which Host and Origin pass the gate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from talker.serve.gate import Gate
from talker.serve.keys import NO_KEYS_OWNER, AccessTickets, Keys

SERVER = ("192.0.2.7", 8000)


def passes(host: str, origin: str | None = None, hosts: tuple[str, ...] = ()) -> bool:
    """Whether a request reaches the app."""
    reached: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def none(message: Any = None) -> None:
        pass

    headers = [(b"host", host.encode()), *([] if origin is None else [(b"origin", origin.encode())])]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/models",
        "query_string": b"",
        "headers": headers,
        "server": SERVER,
    }
    asyncio.run(Gate(app, Keys({}), AccessTickets(), hosts)(scope, none, none))
    assert all(scope["state"]["owner"] == NO_KEYS_OWNER for scope in reached)
    return bool(reached)


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("192.0.2.7:8000", None, True),  # the address at which the server was reached
        ("192.0.2.8:8000", None, False),
        ("talker.example", None, True),
        ("talker.example", "https://talker.example", True),  # TLS ends at a proxy
        ("talker.example", "http://talker.example", True),
        ("talker.example", "https://talker.example:444", False),
        ("talker.example", "https://evil.example", False),
        ("talker.example.evil.example", None, False),
        ("evil.example", None, False),
        ("", None, False),
        ("localhost:8000", "http://localhost:8000", True),
        ("localhost:8000", "https://localhost:8000", False),
        ("localhost:8000", "http://127.0.0.1:8000", False),
    ],
)
def test_host_and_origin_must_be_those_of_the_server(host: str, origin: str | None, expected: bool) -> None:
    assert passes(host, origin, ("talker.example",)) == expected
