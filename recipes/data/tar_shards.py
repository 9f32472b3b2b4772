"""WebDataset shards with an index that gives the offset of every array of every clip.

A data set's folder holds `index.jsonl` (one clip per line), `stats.safetensors` and `shards/*.tar`. Because
of the offsets, clips can be read in any order. Data sets from other people are read with the same code, so
the index is checked and nothing is unpickled.
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
MEMBERS = ("audio", "motion", "speaker")  # the arrays of a clip
MOST_BYTES = 256 * 2**20  # of one array
MOST_HEADER = 4096  # characters of the header of a .npy file
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}\.tar")


@dataclass(frozen=True)
class Entry:
    """A clip in the index.

    Attributes:
        key: unique name of the clip.
        split: "train" or "heldout".
        shard: file name of its shard under `shards/`.
        members: (offset, size) in bytes of each array in the shard, by name.
        frames: length at 25 frames per second.
        voice: name of the speaker; equal for all clips of one speaker.
        cues: the transcript, with times in seconds of the clip.
    """

    key: str
    split: str
    shard: str
    members: dict[str, tuple[int, int]]
    frames: int
    voice: str
    cues: tuple[Cue, ...]

    def line(self) -> str:
        """The entry as a line of the index."""
        return json.dumps(asdict(self)) + "\n"


def read_index(folder: Path) -> list[Entry]:
    """Read all entries of a data set's index, in their order.

    Raises:
        UserError: the index is missing or empty, or a line of it is not a valid entry.
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
                        f"{path}, line {number} is not a clip ({error}): prepare the data again"
                    ) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): make it with python -m recipes.data.prepare"
        ) from error
    if not entries:
        raise UserError(f"{path} lists no clip: report.json in the same folder gives the reasons")
    return entries


def _entry(held: dict[str, Any]) -> Entry:
    members = {name: (int(at), int(size)) for name, (at, size) in held["members"].items()}
    if not _SHARD_NAME.fullmatch(held["shard"]):
        raise ValueError(f"shard {held['shard']!r} is not a plain file name")
    if held["split"] not in SPLITS:
        raise ValueError(f"split {held['split']!r} is neither train nor heldout")
    if any(at < 0 or not 0 <= size <= MOST_BYTES for at, size in members.values()):
        raise ValueError("an offset or a size is out of bounds")
    cues = tuple(Cue(float(c["start"]), float(c["end"]), str(c["text"])) for c in held["cues"])
    frames = int(held["frames"])
    return Entry(str(held["key"]), held["split"], held["shard"], members, frames, str(held["voice"]), cues)


def read_member(folder: Path, entry: Entry, name: str) -> NDArray[Any]:
    """Read one array of a clip: float16 or float32, (T, C) for a stream and (S,) for "speaker".

    Raises:
        UserError: the array is missing or truncated, or has another type or shape.
    """
    where, again = f"{entry.shard}: {entry.key}.{name}", ": remove the shard and prepare the data again"
    if name not in entry.members:
        raise UserError(f"{where} is missing{again}")
    offset, size = entry.members[name]
    try:
        file = _opened(folder / SHARDS / entry.shard)
        data = os.pread(file.fileno(), size, offset)
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror}){again}") from error
    if len(data) < size:
        raise UserError(f"{where} is truncated{again}")
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False, max_header_size=MOST_HEADER)
    except Exception as error:  # hostile bytes raise any exception
        raise UserError(f"{where} is not an array ({type(error).__name__}){again}") from error
    if array.dtype not in (np.float16, np.float32) or array.ndim != (1 if name == "speaker" else 2):
        raise UserError(f"{where} has type {array.dtype} and shape {array.shape}{again}")
    if name != "speaker" and len(array) != entry.frames:
        raise UserError(f"{where} has {len(array)} frames, the index says {entry.frames}{again}")
    return array


@lru_cache(maxsize=64)
def _opened(path: Path) -> io.FileIO:
    return io.FileIO(str(path))


def metadata_of(voice: str, split: str, cues: Sequence[Cue]) -> dict[str, Any]:
    """The metadata of a clip in its shard, beside the arrays; the `json` member holds it."""
    return {"voice": voice, "split": split, "cues": [asdict(cue) for cue in cues]}


class ContentDigest:
    """Digest of the clips of a shard; the shard's name ends in it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, key: str, metadata: dict[str, Any], members: Sequence[NDArray[Any]]) -> None:
        """Add the next clip of the shard.

        Args:
            key: the clip's key.
            metadata: from `metadata_of`.
            members: the arrays in the order of MEMBERS.
        """
        self._digest.update(repr((key, metadata, [array.shape for array in members])).encode())
        for array in members:
            self._digest.update(array.tobytes())

    def __str__(self) -> str:
        return self._digest.hexdigest()[:12]


def write_shard(path: Path, samples: Sequence[dict[str, Any]]) -> None:
    """Write clips as a WebDataset tar. Equal clips give equal bytes.

    Args:
        path: the tar to write.
        samples: one dict per clip, with `key`, `json` (metadata) and the arrays of MEMBERS. The tar holds
            them as KEY.json and KEY.audio.npy, KEY.motion.npy, KEY.speaker.npy.
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
