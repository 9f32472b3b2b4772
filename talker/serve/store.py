"""What a server keeps on disk for a limited time: uploaded voices and portraits, and jobs with their results.

The rows are in an SQLite database, the files beside it. Everything belongs to an owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from talker.errors import UserError
from talker.media.files import error_reason

RETAINED_HOURS = 24.0
SCHEMA = """
CREATE TABLE uploads (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, consent TEXT NOT NULL,
    detail TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, owner TEXT NOT NULL,
    idempotency_key TEXT, request TEXT NOT NULL, status TEXT NOT NULL, progress INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0, created REAL NOT NULL, completed REAL,
    expires REAL NOT NULL, error_code TEXT, error_message TEXT, UNIQUE (owner, idempotency_key));
"""
VERSION = 1


@dataclass(frozen=True)
class Upload:
    """An uploaded voice or portrait.

    Attributes:
        id: random name.
        kind: "voice" or "portrait".
        owner: who uploaded it.
        name: chosen by the owner.
        consent: how the person in it has agreed.
        detail: transcript of a voice's recording, or "face" or "none", the crop of a portrait; or empty.
        created, expires: Unix times.
    """

    id: str
    kind: str
    owner: str
    name: str
    consent: str
    detail: str
    created: float
    expires: float


class Store:
    """The folder of a server. Only one server uses it at a time."""

    def __init__(self, folder: Path, hours: float = RETAINED_HOURS) -> None:
        """Open or create the folder.

        Args:
            folder: the folder.
            hours: time after which an upload or a result is deleted.

        Raises:
            UserError: the folder cannot be written, is in use, or was written by a newer version.
        """
        self.folder = folder
        self._files, self._incoming = folder / "files", folder / "incoming"
        self.retained = 3600 * hours
        self._lock = threading.RLock()
        try:
            for path in (self._files, self._incoming):
                path.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._lock_file = (folder / "lock").open("w")
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._lock_file.close()
                raise UserError(f"--data {folder} is in use by another server: choose another") from error
            self._database = sqlite3.connect(
                folder / "server.sqlite3", isolation_level=None, check_same_thread=False
            )
        except OSError as error:
            raise UserError(
                f"--data {folder} cannot be written ({error_reason(error)}): choose another folder"
            ) from error
        self._database.row_factory = sqlite3.Row
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON;")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise UserError(f"--data {folder} was written by a newer version: choose another folder")
        if version < VERSION:
            self._database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        self._remove_orphans()

    def close(self) -> None:
        """Close the database and unlock the folder."""
        with self._lock:
            self._database.close()
            self._lock_file.close()

    def execute(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """Run a statement of SQL and return its rows."""
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Statements in the block happen all or not at all."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    # -- files ---------------------------------------------------------------------------------------------

    def file(self, name: str, extension: str) -> Path:
        """Path of a file of an upload or job. `name`: its id."""
        return self._files / f"{name}{extension}"

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Path]:
        """A path for a file that is removed at the end of the block."""
        path = self._incoming / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def remove_files(self, name: str) -> None:
        """Remove the files of an upload or job."""
        for path in self._files.glob(f"{name}.*"):
            path.unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """Remove files without a row, which a killed server left."""
        for path in self._incoming.iterdir():
            path.unlink()
        known = {row["id"] for row in self.execute("SELECT id FROM uploads UNION SELECT id FROM jobs")}
        for path in self._files.iterdir():
            if path.name.split(".")[0] not in known:
                path.unlink()

    # -- uploads -------------------------------------------------------------------------------------------

    def add_upload(
        self, kind: str, owner: str, name: str, consent: str, detail: str, content: Path
    ) -> Upload:
        """Add an upload. Its file `content` is moved into the folder.

        Raises:
            KeyError: the owner has another upload of this kind and name.
        """
        now = time.time()
        made = Upload(new_id(kind), kind, owner, name, consent, detail, now, now + self.retained)
        with self.transaction():
            if any(upload.name == name for upload in self.uploads(kind, owner)):
                raise KeyError(name)
            content.replace(self.file(made.id, EXTENSIONS[kind]))
            self.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *vars(made).values())
        return made

    def uploads(self, kind: str, owner: str) -> list[Upload]:
        """The uploads of an owner, oldest first."""
        rows = self.execute(
            "SELECT * FROM uploads WHERE kind = ? AND owner = ? AND expires > ? ORDER BY created",
            kind,
            owner,
            time.time(),
        )
        return [Upload(**row) for row in rows]

    def upload(self, kind: str, owner: str, name: str) -> Upload | None:
        """The upload of an id or name, or None if the owner has no such upload."""
        return next((one for one in self.uploads(kind, owner) if name in (one.id, one.name)), None)

    def delete_upload(self, upload: Upload) -> None:
        """Delete an upload and its file."""
        self.execute("DELETE FROM uploads WHERE id = ?", upload.id)
        self.remove_files(upload.id)

    def expire(self) -> None:
        """Delete uploads and ended jobs whose time is over."""
        now = time.time()
        expired = self.execute(
            "SELECT id FROM uploads WHERE expires <= ? UNION "
            "SELECT id FROM jobs WHERE expires <= ? AND status IN ('completed', 'failed')",
            now,
            now,
        )
        for row in expired:
            self.execute("DELETE FROM uploads WHERE id = ?", row["id"])
            self.execute("DELETE FROM jobs WHERE id = ?", row["id"])
            self.remove_files(row["id"])


def default_folder() -> Path:
    """The folder of a server that is given none, among the user's data."""
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if data.startswith("/") else Path.home() / ".local" / "share") / "talker" / "serve"


EXTENSIONS = {"voice": ".wav", "portrait": ".png"}


def new_id(kind: str) -> str:
    """A random id, such as "voice_4f...": 128 bits."""
    return f"{kind}_{secrets.token_hex(16)}"
