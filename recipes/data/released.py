"""The published data set in its own layout: metadata/train.csv and tar shards of sounds and motion codes.

Its content is not trusted: names are only looked up, never used as paths outside of the folder; sizes are
checked against the files; tensors are read without executing code.
"""

from __future__ import annotations

import contextlib
import csv
import io
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from recipes.data.faults import silent, values_fault
from talker.clips.windows import LONGEST_SECONDS
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.errors import UserError
from talker.media.readers import read_audio

METADATA = Path("metadata/train.csv")
COLUMNS = (
    "sample_id",
    "dataset_source",
    "split",
    "text",
    "wav_path",
    "motion_pt_path",
    "video_path",
    "pt_length",
    "fps",
)
MOST_BYTES = 256 * 2**20  # of one sound or one motion file
TOLERANCE = 2  # frames by which the lengths of sound, motion and table may differ
SHORTEST = 12  # frames
MOTION_VALUES = 40  # per frame
MISSING, DAMAGED = "missing file", "damaged tar"


@dataclass(frozen=True)
class Row:
    """One line of the table; `fault` ("reason: detail") is set if the line is not valid."""

    sample_id: str
    split: str
    text: str
    wav_path: str
    motion_path: str
    length: int
    fps: float
    fault: str | None = field(default=None, repr=False)

    @property
    def heldout(self) -> bool:
        """Whether the row is of another split than the training split."""
        return self.split.strip().lower() != "train"


class Released:
    """The rows of the table, with their sounds and motion codes.

    Attributes:
        root: the data set's folder.
        rows: every line of the table, in its order.
    """

    def __init__(self, root: Path) -> None:
        """Read the table `root`/metadata/train.csv; a line that is not valid becomes a row with a fault.

        Raises:
            UserError: the table cannot be read, or lacks columns.
        """
        self.root = root
        path = root / METADATA
        try:
            with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
                reader = csv.DictReader(file)
                missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
                if missing:
                    raise UserError(
                        f"{path} has no column {', '.join(missing)}: give the published data set's folder"
                    )
                self.rows = list(_rows(reader))
        except (OSError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as a table: {error}") from error

    @cached_property
    def has_heldout(self) -> bool:
        """Whether a valid row of the table is of another split than the training split."""
        return any(row.heldout for row in self.rows if not row.fault)

    @property
    def damaged(self) -> list[str]:
        """One line for each damaged tar shard; its undamaged members are read nevertheless."""
        return self._shards[1]

    def read(self, row: int) -> tuple[Tensor, Tensor] | str:
        """Read and check a row.

        Returns:
            Sound (N,) at 24 kHz with N >= HOP T, and motion codes (T, 40); or the row's fault, as "reason"
            or "reason: detail".
        """
        line = self.rows[row]
        if line.fault:
            return line.fault
        if not line.text.strip():
            return "no transcript"
        if line.fps != FRAME_RATE:
            return f"other frame rate: {line.fps:g}"
        longest = LONGEST_SECONDS * FRAME_RATE
        if line.length > longest:
            return f"too long: {line.length} frames"  # without word times it cannot be split
        for name in (line.wav_path, line.motion_path):
            if self._find(name) is None:
                return f"{MISSING}: {name}"
        try:
            pcm, motion = self.pcm(row), self.motion(row)
        except ValueError as error:  # includes UserError
            return f"unreadable: {error}"
        sound = len(pcm) * FRAME_RATE / SAMPLE_RATE  # frames
        if max(abs(sound - len(motion)), abs(line.length - len(motion))) > TOLERANCE:
            return f"lengths disagree: table {line.length}, motion {len(motion)}, sound {sound:.1f} frames"
        if len(motion) < SHORTEST:
            return "too short"
        if len(motion) > longest:
            return f"too long: {len(motion)} frames"
        if motion.shape[1] != MOTION_VALUES:
            return f"other motion codes: {motion.shape[1]} values per frame"
        fault = values_fault("motion", motion.numpy()) or ("silent" if silent(pcm) else None)
        return fault or (pcm, motion[: len(pcm) // HOP])

    def pcm(self, row: int) -> Tensor:
        """The sound (N,) of a row at 24 kHz.

        Raises:
            UserError: the file is missing or is not a sound.
        """
        name = self.rows[row].wav_path
        with tempfile.NamedTemporaryFile(suffix=PurePosixPath(name).suffix[:8]) as file:
            file.write(self._bytes(name))
            file.flush()
            try:
                return read_audio(file.name, LONGEST_SECONDS + 1)
            except UserError as error:
                raise UserError(str(error).replace(file.name, name)) from error

    def motion(self, row: int) -> Tensor:
        """The motion codes (T, M) float32 of a row.

        Raises:
            UserError: the file is missing or is not a matrix of floating-point numbers.
        """
        name = self.rows[row].motion_path
        data = self._bytes(name)
        try:
            held = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        except Exception as error:  # hostile bytes raise any exception
            raise UserError(f"{name} holds no tensor ({type(error).__name__}): download it again") from error
        plain = isinstance(held, Tensor) and held.layout == torch.strided and held.device.type == "cpu"
        # A small file can declare a tensor of any size.
        if not plain or held.ndim != 2 or not held.is_floating_point() or held.numel() > MOST_BYTES:
            raise UserError(f"{name} holds no motion of shape (frames, values): download it again")
        return held.detach().float()

    @cached_property
    def _shards(self) -> tuple[dict[str, tuple[Path, int, int]], list[str]]:
        """The regular files in all tar shards, and one line for each damaged shard.

        A file is given as (shard, offset, size), under its path and, if unique, under its name alone.
        """
        found: dict[str, tuple[Path, int, int]] = {}
        names: dict[str, list[tuple[Path, int, int]]] = {}
        faults = []
        for shard in sorted(path for path in self.root.rglob("*.tar") if not path.is_dir()):
            members, fault = tar_members(shard)
            if fault is not None:
                faults.append(f"{shard.relative_to(self.root)}: {DAMAGED}: {fault}")
            for name, (offset, size) in members.items():
                found.setdefault(name, (shard, offset, size))
                names.setdefault(PurePosixPath(name).name, []).append((shard, offset, size))
        return {name: places[0] for name, places in names.items() if len(places) == 1} | found, faults

    def _find(self, name: str) -> tuple[Path, int, int] | None:
        """Find a name of the table in the folder or in a shard: (file, offset, size), or None."""
        pure, (members, _) = PurePosixPath(name), self._shards
        path = self.root / pure
        inside = not pure.is_absolute() and ".." not in pure.parts
        with contextlib.suppress(OSError):  # not a valid file name here, but perhaps a name in a shard
            if inside and path.is_file() and path.resolve().is_relative_to(self.root.resolve()):
                return path, 0, path.stat().st_size
        return members.get(str(pure)) or members.get(pure.name)

    def _bytes(self, name: str) -> bytes:
        """The content of the file that the table calls `name`."""
        place = self._find(name)
        if place is None:
            raise UserError(f"{name} is missing from the data set's folder and its shards")
        file, offset, size = place
        if size > MOST_BYTES:
            raise UserError(f"{name} has {size} bytes, more than {MOST_BYTES}")
        try:
            with file.open("rb") as opened:
                opened.seek(offset)
                return opened.read(size)
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror})") from error


def tar_members(path: Path) -> tuple[dict[str, tuple[int, int]], str | None]:
    """List the regular files in an uncompressed tar, up to the first damage.

    Returns:
        (offset, size) of each file's content by its path in the tar, and a description of the damage or None.
    """
    found = dict[str, tuple[int, int]]()
    try:
        length = path.stat().st_size
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isreg() and not member.sparse and member.offset_data + member.size <= length:
                    name = PurePosixPath(member.name.removeprefix("./"))
                    found[str(name)] = member.offset_data, member.size
                archive.members = []  # type: ignore[attr-defined]  # frees memory: a tar can hold millions
            file.seek(archive.offset)  # type: ignore[attr-defined]
            whole = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except Exception as error:  # hostile bytes raise any exception
        return found, f"it cannot be read as a tar ({error}), download it again"
    return found, None if whole else "it is truncated, download it again"


def _rows(lines: csv.DictReader) -> Iterator[Row]:
    """The rows of all lines; reading continues after a line that is not valid."""
    while True:
        try:
            yield _row(next(lines), lines.line_num)
        except StopIteration:
            return
        except csv.Error as error:
            yield _bad(f"line {lines.line_num + 1}", str(error))


def _row(line: dict[str | Any, Any], number: int) -> Row:
    values = [line[name] for name in COLUMNS]
    name = " ".join((line["sample_id"] or "").split()) or f"line {number}"
    if None in values or None in line:
        return _bad(name, f"line {number} has {'fewer' if None in values else 'more'} values than columns")
    if any("\ufffd" in value for value in values):
        return _bad(name, f"line {number} is not UTF-8")
    try:
        length, fps = int(float(line["pt_length"])), float(line["fps"])
    except (ValueError, OverflowError):
        return _bad(name, f"in line {number} pt_length or fps is not a number")
    return Row(name, line["split"], line["text"], line["wav_path"], line["motion_pt_path"], length, fps)


def _bad(name: str, why: str) -> Row:
    return Row(name, "", "", "", "", 0, 0.0, f"bad row: {why}")
