"""The published data set as it is laid out: metadata/train.csv beside tar shards of sounds and motion codes.

Nothing in it is trusted: names are only looked up, sizes are checked against the file, and tensors are read
without executing anything.
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
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.errors import UserError
from talker.media.audio import read_audio
from talker.media.sound import FRAME

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
NEARLY = 2  # frames by which sound, motion and the table may differ
SHORTEST = 12  # frames
MOTION_VALUES = 40  # a frame
MISSING, DAMAGED = "missing file", "damaged tar"


@dataclass(frozen=True)
class Row:
    """One line of the table; `fault` says why it is none, as "reason: detail"."""

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
        """Whether it is of another split than the training set."""
        return self.split.strip().lower() != "train"


class Released:
    """Rows of the table by number, with their sounds and motion codes.

    Attributes:
        rows: every line of the table, in its order.
    """

    def __init__(self, root: Path) -> None:
        """`root` holds metadata/train.csv.

        Raises:
            UserError: there is no such table, or it lacks columns. A bad line is a row with a fault.
        """
        self.root = root
        path = root / METADATA
        try:
            with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
                reader = csv.DictReader(file)
                missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
                if missing:
                    raise UserError(f"{path} has no column {', '.join(missing)}: it is another data set's")
                self.rows = list(_rows(reader))
        except (OSError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as a table: {error}") from error

    @cached_property
    def has_heldout(self) -> bool:
        """Whether the table keeps rows apart from training."""
        return any(row.heldout for row in self.rows if not row.fault)

    @property
    def damaged(self) -> list[str]:
        """What is wrong with tar shards, one line each; what is whole of them is read nevertheless."""
        return self._shards[1]

    def read(self, row: int) -> tuple[Tensor, Tensor] | str:
        """Sound (N,) at 24 kHz and motion codes (T, 40) of a row, both long enough for T frames; or why they
        are of no use, as "reason" or "reason: detail"."""
        said = self.rows[row]
        if said.fault:
            return said.fault
        if not said.text.strip():
            return "no transcript"
        if said.fps != FRAME_RATE:
            return f"other frame rate: {said.fps:g}"
        longest = LONGEST_SECONDS * FRAME_RATE
        if said.length > longest:
            return f"too long: {said.length} frames"  # the table has no times to cut it at
        for name in (said.wav_path, said.motion_path):
            if self._place(name) is None:
                return f"{MISSING}: {name}"
        try:
            pcm, motion = self.pcm(row), self.motion(row)
        except ValueError as error:  # UserError among them
            return f"unreadable: {error}"
        heard = len(pcm) * FRAME_RATE / SAMPLE_RATE
        if max(abs(heard - len(motion)), abs(said.length - len(motion))) > NEARLY:
            return f"lengths disagree: table {said.length}, motion {len(motion)}, sound {heard:.1f} frames"
        if len(motion) < SHORTEST:
            return "too short"
        if len(motion) > longest:
            return f"too long: {len(motion)} frames"
        if motion.shape[1] != MOTION_VALUES:
            return f"other motion codes: {motion.shape[1]} values a frame"
        fault = values_fault("motion", motion.numpy()) or ("silent" if silent(pcm) else None)
        return fault or (pcm, motion[: len(pcm) // FRAME])

    def pcm(self, row: int) -> Tensor:
        """(N,) the sound at 24 kHz.

        Raises:
            UserError: it is missing or no sound.
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
        """(T, M) float32 motion codes.

        Raises:
            UserError: they are missing, or something else.
        """
        name = self.rows[row].motion_path
        data = self._bytes(name)
        try:
            held = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        except Exception as error:  # hostile bytes raise anything
            raise UserError(f"{name} holds no tensor ({type(error).__name__})") from error
        plain = isinstance(held, Tensor) and held.layout == torch.strided and held.device.type == "cpu"
        # A few bytes may claim to be any number of values.
        if not plain or held.ndim != 2 or not held.is_floating_point() or held.numel() > MOST_BYTES:
            raise UserError(f"{name} holds no motion of shape (frames, values)")
        return held.detach().float()

    @cached_property
    def _shards(self) -> tuple[dict[str, tuple[Path, int, int]], list[str]]:
        """Where each regular file in each tar shard lies, by its path and, where unique, by its name; and
        what is wrong with the shards."""
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

    def _place(self, name: str) -> tuple[Path, int, int] | None:
        """File, offset and size of what the table names, from the folder or from a shard; None if missing."""
        pure, (members, _) = PurePosixPath(name), self._shards
        path = self.root / pure
        inside = not pure.is_absolute() and ".." not in pure.parts
        with contextlib.suppress(OSError):  # a name that no file can have, though a shard's member can
            if inside and path.is_file() and path.resolve().is_relative_to(self.root.resolve()):
                return path, 0, path.stat().st_size
        return members.get(str(pure)) or members.get(pure.name)

    def _bytes(self, name: str) -> bytes:
        """Its content."""
        place = self._place(name)
        if place is None:
            raise UserError(f"{name} is missing from the data set's folder and shards")
        file, offset, size = place
        if size > MOST_BYTES:
            raise UserError(f"{name} claims {size} bytes")
        try:
            with file.open("rb") as opened:
                opened.seek(offset)
                return opened.read(size)
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror})") from error


def tar_members(path: Path) -> tuple[dict[str, tuple[int, int]], str | None]:
    """(offset, size) of the content of each regular file in an uncompressed tar, as far as it is whole, and
    what is wrong with it, if anything is."""
    found = dict[str, tuple[int, int]]()
    try:
        length = path.stat().st_size
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isreg() and not member.sparse and member.offset_data + member.size <= length:
                    name = PurePosixPath(member.name.removeprefix("./"))
                    found[str(name)] = member.offset_data, member.size
                archive.members = []  # type: ignore[attr-defined]  # it would remember millions
            file.seek(archive.offset)  # type: ignore[attr-defined]
            whole = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except Exception as error:  # hostile bytes raise anything
        return found, f"it cannot be read as a tar ({error}), download it again"
    return found, None if whole else "it has no end, download it again"


def _rows(lines: csv.DictReader) -> Iterator[Row]:
    """Every line; a bad one does not end the table."""
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
        return _bad(name, f"in line {number} pt_length and fps are no numbers")
    return Row(name, line["split"], line["text"], line["wav_path"], line["motion_pt_path"], length, fps)


def _bad(name: str, why: str) -> Row:
    return Row(name, "", "", "", "", 0, 0.0, f"bad row: {why}")
