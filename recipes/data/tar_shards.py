"""WebDataset shards with an index: every member of every clip is found by offset, so any order can be read.

A data set's folder holds `index.jsonl` (one clip a line), `stats.safetensors` and `shards/*.tar`. Other
people's folders are read with the same code, so nothing in them is trusted and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.data.transcript import Cue
from talker.errors import UserError

INDEX, SHARDS, STATS = "index.jsonl", "shards", "stats.safetensors"
SPLITS = ("train", "heldout")
MEMBERS = ("audio", "motion", "speaker")
MOST_BYTES = 256 * 2**20  # of one member
MOST_HEADER = 4096  # of an array's description, in characters
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}\.tar")


@dataclass(frozen=True)
class Entry:
    """A clip in the index.

    Attributes:
        shard: file name under `shards/`.
        members: (offset, size) in it of each member's bytes, by name.
        frames: length at 25 a second.
        voice: clips of one voice share it.
        cues: what is said, with times in seconds of the clip.
    """

    key: str
    split: str
    shard: str
    members: dict[str, tuple[int, int]]
    frames: int
    voice: str
    cues: tuple[Cue, ...]

    def line(self) -> str:
        """As a line of the index."""
        return json.dumps(asdict(self)) + "\n"


def read_index(folder: Path) -> list[Entry]:
    """Every clip of a data set, in the index's order.

    Raises:
        UserError: there is no index, or a line of it is no clip.
    """
    path = folder / INDEX
    entries = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    entries.append(_entry(json.loads(line)))
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                    raise UserError(
                        f"{path}, line {number} is no clip ({error}): prepare the data again"
                    ) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): make it with python -m recipes.data.prepare"
        ) from error
    if not entries:
        raise UserError(f"{path} lists no clip: see report.json beside it for the reasons")
    return entries


def _entry(held: dict[str, Any]) -> Entry:
    members = {name: (int(at), int(size)) for name, (at, size) in held["members"].items()}
    if not _SHARD_NAME.fullmatch(held["shard"]):
        raise ValueError(f"shard {held['shard']!r} is no plain file name")
    if held["split"] not in SPLITS:
        raise ValueError(f"split {held['split']!r}")
    if any(at < 0 or not 0 <= size <= MOST_BYTES for at, size in members.values()):
        raise ValueError("an offset or a size is out of bounds")
    cues = tuple(Cue(float(c["start"]), float(c["end"]), str(c["text"])) for c in held["cues"])
    frames = int(held["frames"])
    return Entry(str(held["key"]), held["split"], held["shard"], members, frames, str(held["voice"]), cues)


def read_member(folder: Path, entry: Entry, name: str) -> NDArray[Any]:
    """One member of a clip as float16 or float32: (T, C) of a stream, or the embedding (S,).

    Raises:
        UserError: it is missing, cut off, or no such array.
    """
    where = f"{entry.shard}: {entry.key}.{name}"
    if name not in entry.members:
        raise UserError(f"{where} is missing")
    offset, size = entry.members[name]
    try:
        file = _opened(folder / SHARDS / entry.shard)
        data = os.pread(file.fileno(), size, offset)
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror})") from error
    if len(data) < size:
        raise UserError(f"{where} is cut off")
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False, max_header_size=MOST_HEADER)
    except Exception as error:  # hostile bytes raise anything
        raise UserError(f"{where} is no array ({type(error).__name__})") from error
    if array.dtype not in (np.float16, np.float32) or array.ndim != (1 if name == "speaker" else 2):
        raise UserError(f"{where} is {array.dtype} of shape {array.shape}")
    if name != "speaker" and len(array) != entry.frames:
        raise UserError(f"{where} has {len(array)} frames, the index says {entry.frames}")
    return array


@lru_cache(maxsize=64)
def _opened(path: Path) -> io.FileIO:
    return io.FileIO(str(path))


def told_of(voice: str, split: str, cues: Sequence[Cue]) -> dict[str, Any]:
    """What a shard tells of a clip, beside its arrays."""
    return {"voice": voice, "split": split, "cues": [asdict(cue) for cue in cues]}


class Content:
    """The digest of clips that a shard's name ends in."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, key: str, told: dict[str, Any], members: Sequence[NDArray[Any]]) -> None:
        """A clip of the shard, in its order: what `told_of` says, and arrays in the order of MEMBERS."""
        self._digest.update(repr((key, told, [array.shape for array in members])).encode())
        for array in members:
            self._digest.update(array.tobytes())

    def __str__(self) -> str:
        return self._digest.hexdigest()[:12]


def write_shard(path: Path, samples: Sequence[dict[str, Any]]) -> None:
    """Clips as a WebDataset tar: `audio.npy`, `motion.npy`, `speaker.npy` and `json` (a dict) of each key.

    The bytes follow from the samples alone.
    """
    from webdataset import TarWriter

    with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as writer:
        for sample in samples:
            members: dict[str, Any] = {"__key__": sample["key"], "json": json.dumps(sample["json"]).encode()}
            for name in MEMBERS:
                array = io.BytesIO()
                np.lib.format.write_array(array, sample[name], allow_pickle=False)
                members[f"{name}.npy"] = array.getvalue()
            writer.write(members)
