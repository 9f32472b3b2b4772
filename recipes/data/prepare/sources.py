"""Which videos there are, and a name for each that is safe in any file system and archive."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from talker.errors import UserError

VIDEOS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".3gp", ".flv", ".wmv",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A video, what the report calls it, and the key that everything made of it is filed under."""

    path: Path
    name: str
    key: str

    @classmethod
    def of(cls, path: Path, name: str) -> Source:
        """The key keeps what is harmless of the name and adds a digest of the whole."""
        raw = name.encode("utf-8", "surrogateescape")
        shown = raw.decode("utf-8", "backslashreplace")
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)  # on one line
        harmless = re.sub(r"[^a-z0-9]+", "-", Path(name).stem.lower()).strip("-")[:40] or "video"
        return cls(path, shown, f"{harmless}-{hashlib.sha256(raw).hexdigest()[:12]}")

    @property
    def stamp(self) -> list[int]:
        """Size and time of change of the video and of the transcripts beside it: another stamp is work."""
        files = (self.path, *(self.path.with_suffix(end) for end in (".json", ".srt", ".txt")))
        found: list[int] = []
        for file in files:
            try:
                stat = file.stat()
                found += [stat.st_size, stat.st_mtime_ns]
            except (OSError, ValueError):
                found += [-1, -1]
        return found


def find_sources(source: Path, out: Path) -> list[Source]:
    """Every video under a folder, or on each line of a list file (relative to it; # begins a comment).

    What lies under `out` is none: it was made here. A file with two names is one video, by its first name.

    Raises:
        UserError: neither a folder nor a list, or nothing in it.
    """
    if source.is_dir():
        videos, own = (p for p in source.rglob("*") if p.suffix.lower() in VIDEOS), out.resolve()
        # A link to nothing is asked for, too, and reported.
        files = (p for p in videos if p.is_file() or (p.is_symlink() and not p.exists()))
        paths = sorted(p for p in files if own not in Path(os.path.realpath(p)).parents)
        found = [Source.of(path, path.relative_to(source).as_posix()) for path in paths]
    elif source.is_file() and source.suffix.lower() not in VIDEOS:
        try:
            lines = source.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{source} is no list of videos: give a text file, one path a line") from error
        names = dict.fromkeys(line.strip() for line in lines if line.strip() and line.strip()[0] != "#")
        found = [Source.of(source.parent / name, name) for name in names]
        if found and not any(one.path.is_file() for one in found):
            raise UserError(f"no line of {source} names a file: give paths relative to it, one a line")
    else:
        raise UserError(f"{source} is neither a folder of videos nor a list of them: give one of the two")
    if not found:
        raise UserError(f"there is no video in {source}: names end in {', '.join(VIDEOS)}")
    once: dict[object, Source] = {}
    for one in found:
        once.setdefault(_file(one.path), one)
    return list(once.values())


def _file(path: Path) -> object:
    """Equal for all names of one file."""
    try:
        stat = path.stat()
        return stat.st_dev, stat.st_ino
    except (OSError, ValueError):
        return path
