"""The work folder of a batch: artefacts named by a digest of everything that they depend on."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from talker.errors import UserError

WORK = "work"
PACKAGES = ("talker", "heads", "motion_ae", "audio_vae", "evaluation")  # code that results depend on
TEMPORARY = "."  # first character of the names of unfinished files


class Store:
    """Artefacts of a work folder. A complete artefact is never written again.

    Attributes:
        folder: the folder.
        used: names of the artefacts that were read or written.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder if it is missing."""
        self.folder = folder
        self.used: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """The path of an artefact, which counts as used."""
        self.used.add(name)
        return self.folder / name

    def make(self, name: str, write: Callable[[Path], object]) -> Path:
        """The artefact `name`. If it does not exist, `write(temporary path)` writes it."""
        path = self.path(name)
        if not path.exists():
            self.publish(path, write)
        return path

    def publish(self, path: Path, write: Callable[[Path], object]) -> None:
        """Let `write(temporary path)` write a file, flush it to disk, and move it to `path`."""
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=TEMPORARY, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def write_json(self, path: Path, value: Any) -> None:
        """Write a JSON value in one atomic replacement. Numbers that are not finite become null."""
        text = json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n"
        self.publish(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def collect(self, kept: Iterable[str]) -> int:
        """Remove all artefacts but `kept`; returns how many were removed."""
        keep, removed = set(kept), 0
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in keep and path.name != "lock":
                path.unlink(missing_ok=True)
                removed += 1
        return removed


@contextmanager
def locked(folder: Path, out: Path) -> Iterator[IO[str]]:
    """Hold the lock of a work folder, and remove the unfinished files of processes that were killed.

    Raises:
        UserError: another process holds it.
    """
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{out} is in use by another process: wait until it ends") from error
        for path in folder.glob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)
        yield lock


def key_of(**parts: Any) -> str:
    """A digest of JSON values; equal values give equal digests."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest(path: Path) -> str:
    """`file_digest` of an input file, which is read once as long as it does not change."""
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=4096)
def _digest(path: str, *stamp: int) -> str:
    return file_digest(Path(path))


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code_digest() -> str:
    """Digest of the code that results depend on."""
    root, total = Path(__file__).resolve().parents[2], hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            total.update(f"{path.relative_to(root)}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def weights_digest(model: Path) -> str:
    """Digest of the configurations and weights of a checkpoint folder."""
    files = sorted(path for path in model.rglob("*") if path.suffix in (".json", ".safetensors"))
    return key_of(files=[(path.relative_to(model).as_posix(), digest(path)) for path in files])


def read_json(path: Path) -> Any:
    """The JSON value in a file; None if it does not exist or is damaged."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_bytes())
    return None


def finite(value: Any) -> Any:
    """A JSON value in which numbers that are not finite are None."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
