"""API keys, which name the owner of a request, and access tickets for URLs and WebSockets of browsers."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from talker.errors import UserError
from talker.media.files import error_reason

NO_KEYS_OWNER = "local"  # of everything on a server without keys
TICKET_SECONDS = 60
MOST_TICKETS = 10_000  # valid at once
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}) ([0-9a-f]{64})")


class Keys:
    """The API keys of a server. Only their hashes are kept."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        """`hashes`: SHA-256 of the keys as hexadecimal digits, by the name of the owner."""
        self._hashes = dict(hashes)

    @classmethod
    def read(cls, path: str | Path) -> Keys:
        """Read a file with the lines "NAME HASH", as `add_key` writes it.

        Raises:
            UserError: the file cannot be read, is empty, or has another line.
        """
        try:
            lines = Path(path).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"--keys {path} cannot be read ({error_reason(error)}): create it with `talker key {path}`"
            ) from error
        hashes: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None or match[1] in hashes:
                raise UserError(
                    f"--keys {path}: line {number} is no new name with a hash: add keys with `talker key`"
                )
            hashes[match[1]] = match[2]
        if not hashes:
            raise UserError(f"--keys {path} has no key: add one with `talker key {path}`")
        return cls(hashes)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def owner(self, key: str) -> str | None:
        """The owner of a key; None if there is no such key. The time does not depend on the key."""
        given, found = _hash(key), None
        for name, expected in self._hashes.items():
            if hmac.compare_digest(given, expected):
                found = name
        return found


def add_key(path: str | Path, name: str) -> str:
    """Create a key for the owner `name`, append its hash to a file, and return the key.

    Raises:
        UserError: the name is in use or has other characters, or the file cannot be written.
    """
    path = Path(path)
    try:
        text = path.read_text() if path.exists() else ""
        if any(line.split(" ")[0] == name for line in text.splitlines()):
            raise UserError(f"{path} has a key of the name {name}: choose another --name")
        key = f"talker-{secrets.token_urlsafe(32)}"
        line = f"{name} {_hash(key)}"
        if _LINE.fullmatch(line) is None:
            raise UserError(f"--name {name!r}: use up to 64 letters, digits, and . _ -")
        path.touch(mode=0o600)
        with path.open("a") as file:
            file.write(("\n" if text and not text.endswith("\n") else "") + line + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be written ({error_reason(error)}): choose another file") from error
    return key


class AccessTickets:
    """Random names, valid for a minute, that stand for an owner at one path of the server."""

    def __init__(self) -> None:
        self._tickets: dict[str, tuple[str, str, float]] = {}  # owner, path and end, by hash; oldest first
        self._lock = threading.Lock()

    def issue(self, owner: str, path: str) -> str:
        """A new ticket with which the owner may use `path`."""
        ticket = secrets.token_urlsafe(24)
        with self._lock:
            now = time.monotonic()
            for name, (_, _, end) in list(self._tickets.items()):
                if end > now and len(self._tickets) < MOST_TICKETS:
                    break
                del self._tickets[name]
            self._tickets[_hash(ticket)] = owner, path, now + TICKET_SECONDS
        return ticket

    def owner(self, ticket: str, path: str) -> str | None:
        """The owner of a ticket; None if it does not exist, has expired, or is for another path."""
        with self._lock:
            owner, allowed, end = self._tickets.get(_hash(ticket), ("", "", 0.0))
        return owner if allowed == path and time.monotonic() < end else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
