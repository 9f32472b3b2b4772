"""Finding the source videos, and giving each a key that is safe in any file system and archive."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.data.transcript_files import transcript_path
from talker.errors import UserError

VIDEOS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".3gp", ".flv", ".wmv",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A source video.

    Attributes:
        path: the video file.
        name: its name in the report: one line of printable characters.
        key: name of the files that are made from it: lower-case letters, digits and hyphens.
    """

    path: Path
    name: str
    key: str

    @classmethod
    def of(cls, path: Path, name: str) -> Source:
        """The source at `path`. Its key is made of the safe characters of `name` and a digest of `name`."""
        raw = name.encode("utf-8", "surrogateescape")
        shown = raw.decode("utf-8", "backslashreplace")
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)
        safe = re.sub(r"[^a-z0-9]+", "-", Path(name).stem.lower()).strip("-")[:40] or "video"
        return cls(path, shown, f"{safe}-{hashlib.sha256(raw).hexdigest()[:12]}")

    @property
    def stamp(self) -> list[int]:
        """Sizes and modification times of the video and its transcripts; -1 for a file that is missing.

        A video whose stamp has changed is prepared again.
        """
        files = [self.path, *(self.path.with_suffix(end) for end in (".json", ".srt", ".txt"))]
        transcript = transcript_path(self.path)
        files += [transcript] if transcript and transcript not in files else []
        found: list[int] = []
        for file in files:
            try:
                stat = file.stat()
                found += [stat.st_size, stat.st_mtime_ns]
            except (OSError, ValueError):
                found += [-1, -1]
        return found


def find_sources(source: Path, out: Path) -> list[Source]:
    """Find the videos of a folder, or of a list file.

    Args:
        source: a folder, which is searched recursively, or a text file with one path per line, relative to
            the file; lines that start with # are comments.
        out: the folder of the results. Videos in it are ignored, since preparation made them.

    Returns:
        The sources. A file that has several names (links) occurs once, under the first of them. A link to a
        missing file is a source too, so that the report lists it.

    Raises:
        UserError: `source` is neither a folder nor a list file, or contains no video.
    """
    if source.is_dir():
        videos, own = (p for p in source.rglob("*") if p.suffix.lower() in VIDEOS), out.resolve()
        files = (p for p in videos if p.is_file() or (p.is_symlink() and not p.exists()))
        paths = sorted(p for p in files if own not in Path(os.path.realpath(p)).parents)
        found = [Source.of(path, path.relative_to(source).as_posix()) for path in paths]
    elif source.is_file() and source.suffix.lower() not in VIDEOS:
        try:
            lines = source.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{source} is not a list of videos: give a text file with one path per line"
            ) from error
        names = dict.fromkeys(line.strip() for line in lines if line.strip() and line.strip()[0] != "#")
        found = [Source.of(source.parent / name, name) for name in names]
        if found and not any(one.path.is_file() for one in found):
            raise UserError(f"no line of {source} names a file: give one path per line, relative to {source}")
    else:
        raise UserError(f"{source} is neither a folder of videos nor a list of them: give one of the two")
    if not found:
        raise UserError(f"there is no video in {source}: names of videos end in {', '.join(VIDEOS)}")
    once: dict[object, Source] = {}
    for one in found:
        once.setdefault(_identity(one.path), one)
    return list(once.values())


def equal_files(sources: Sequence[Source]) -> list[list[str]]:
    """Groups of two or more sources whose files are equal byte for byte, as their keys.

    Only files of equal size are read.
    """
    sizes: dict[int, list[Source]] = defaultdict(list)
    for source in sources:
        sizes[source.stamp[0]].append(source)
    groups: dict[str, list[str]] = defaultdict(list)
    for alike in (own for size, own in sizes.items() if len(own) > 1 and size > 0):
        for source in alike:
            with contextlib.suppress(OSError), source.path.open("rb") as file:
                groups[hashlib.file_digest(file, "sha256").hexdigest()].append(source.key)
    return [keys for keys in groups.values() if len(keys) > 1]


def _identity(path: Path) -> object:
    """A value that is equal for all names of the same file."""
    try:
        stat = path.stat()
        return stat.st_dev, stat.st_ino
    except (OSError, ValueError):
        return path
