"""The manifest of a batch: one row a clip, in JSON lines or CSV. Imports no PyTorch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from talker.errors import UserError
from talker.media.files import VIDEO_FILES, check_input
from talker.text.decoding import decoded

MODES = ("auto", "voice", "relip")
LENGTHS = ("fit", "extend", "trim")
FACES = re.compile(r"largest|first|index:\d{1,3}|track:(?:0?\.\d+|0|1),(?:0?\.\d+|0|1)")
DUCK = "duck"
SELF = "self"
SUBTITLES = (".vtt", ".srt", ".ass", ".ssa")
MOST_BYTES = 256 * 2**20
LONGEST_ID = 120  # bytes; names of outputs add a suffix
RESERVED = ("report", "work")
YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: a video and what to do with it. Paths are relative to the root of the batch.

    Attributes:
        id: name of the outputs; unique.
        video: the video file.
        mode: "voice" generates speech for the lips, "relip" also replaces the lips; "auto": relip if there is
            `audio` or `portrait`, else voice.
        text: the words, spoken in the whole part from `start` to `end`.
        subtitles: file with the words and their times, instead of `text`.
        audio: recording that the face speaks (relip), instead of a voice.
        voice: shipped name, file, or "self": the voice of the video's own sound. Empty: the first shipped
            one.
        voices: (speaker of the subtitles, voice).
        portrait: picture whose face replaces that of the video (relip). Empty: the video's own frames.
        language: of the words.
        start, end: the part of the video in seconds; None: its end.
        seed: seed of the noise.
        consent: whether the people whose voice or face is used agree.
        face: "largest", "first" (from the left), "index:N" (Nth from the left, from 0), or "track:X,Y"
            (closest to a point, in shares of width and height).
        length: what to do with speech that does not fit (relip), see docs/dubbing.md.
        background: "duck" keeps the old sound, softer during speech; a file is mixed with the speech.
        keep_sound: whether the old sound becomes a second track.
        loudness: integrated loudness in LUFS; None: that of the old sound, or -23.
        steps, guidance, temperature, sway: sampling settings; None: those of the model.
    """

    id: str
    video: str
    mode: str = "auto"
    text: str = ""
    subtitles: str = ""
    audio: str = ""
    voice: str = ""
    voices: tuple[tuple[str, str], ...] = ()
    portrait: str = ""
    language: str = "en"
    start: float = 0.0
    end: float | None = None
    seed: int = 0
    consent: bool = False
    face: str = "largest"
    length: str = "fit"
    background: str = ""
    keep_sound: bool = False
    loudness: float | None = None
    steps: int | None = None
    guidance: float | None = None
    temperature: float | None = None
    sway: float | None = None


NAMES = tuple(one.name for one in fields(Row))
CHOICES = {"mode": MODES, "length": LENGTHS}
# Range of each number; the values of the sampling settings are those that `talker say` accepts.
RANGES: dict[str, tuple[float, float]] = {
    "start": (0, 1e6),
    "end": (0, 1e6),
    "seed": (0, 2**63 - 1),
    "loudness": (-70, -5),
    "steps": (1, 1000),
    "guidance": (0, 20),
    "temperature": (0, 2),
    "sway": (-1, 1.75),
}
WHOLE = ("seed", "steps")
FLAGS = ("consent", "keep_sound")


@dataclass(frozen=True)
class Entry:
    """A row of the manifest as it was read.

    Attributes:
        id: of the row; "line-N" if it has none.
        row: None if the row is invalid.
        problem: why the row is invalid; empty if it is valid.
    """

    id: str
    row: Row | None = None
    problem: str = field(default="")


def read_manifest(path: Path, defaults: Mapping[str, str] | None = None) -> list[Entry]:
    """Read all rows of a manifest.

    Args:
        path: a .csv file with a header, or a file with one JSON object per line.
        defaults: values, as text, of fields that a row does not have.

    Raises:
        UserError: the file cannot be read as a manifest, is empty, or two rows have the same id.
    """
    path = check_input(path)
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MB: split the manifest")
    try:
        text, _ = decoded(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a manifest ({error}): save it as UTF-8 text") from error
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(text)
    entries = [_entry(line, values, defaults or {}) for line, values in rows]
    if not entries:
        raise UserError(f"{path} has no row: write one with talker batch-dub MANIFEST --init FOLDER")
    seen: dict[str, str] = {}
    for entry in entries:
        # Some file systems ignore capitals, and some compose accents.
        same = unicodedata.normalize("NFC", entry.id).casefold()
        if same in seen:
            raise UserError(f"{path} has two rows with the id {entry.id!r}: ids must differ in their letters")
        seen[same] = entry.id
    return entries


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                yield number, f"line {number} is no JSON object ({error})"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="", strict=True)
    try:
        if unknown := [name for name in reader.fieldnames or () if name not in NAMES]:
            raise UserError(f"{path} has the unknown column {unknown[0]!r}: columns are {', '.join(NAMES)}")
        for values in reader:
            if "" in values:
                yield reader.line_num, f"line {reader.line_num} has more cells than the header"
            else:
                yield reader.line_num, {name: cell for name, cell in values.items() if cell}
    except csv.Error as error:
        raise UserError(f"{path} is no CSV file (line {reader.line_num}: {error}): save it again") from error


def _entry(line: int, values: Any, defaults: Mapping[str, str]) -> Entry:
    if not isinstance(values, dict):
        problem = values if isinstance(values, str) else f"line {line} is no JSON object"
        return Entry(f"line-{line}", None, str(problem))
    values = {**defaults, **{name: value for name, value in values.items() if value is not None}}
    own = values.get("id") or Path(str(values.get("video", ""))).stem
    try:
        _check_id(own)
    except UserError as error:
        return Entry(f"line-{line}", None, str(error))
    try:
        return Entry(own, Row(**{"id": own} | {name: _value(name, value) for name, value in values.items()}))
    except UserError as error:
        return Entry(own, None, str(error))
    except TypeError:
        return Entry(own, None, "the row has no video: give the path of the video file")


def _check_id(own: object) -> None:
    if not isinstance(own, str) or not own:
        raise UserError("the row has neither id nor video: give both")
    bad = any(character in '/\\:*?"<>|' or not character.isprintable() for character in own)
    long = len(own.encode("utf-8", "surrogatepass")) > LONGEST_ID
    if bad or long or own[0] in " ." or own[-1] in " ." or own.casefold() in RESERVED:
        raise UserError(
            f"{own[:60]!r} cannot be an id: use up to {LONGEST_ID} letters, digits, spaces, - and _, but not "
            + " or ".join(RESERVED)
        )


def _value(name: str, value: Any) -> Any:
    """The value of a field, from JSON or from text. Raises UserError."""
    if name not in NAMES:
        raise UserError(f"{name!r} is no field: fields are {', '.join(NAMES)}")
    if name == "voices":
        return _voices(value)
    if name in FLAGS:
        flag = value if isinstance(value, bool) else YES_NO.get(str(value).strip().lower())
        if flag is None:
            raise UserError(f"{name} is {value!r}: write yes or no")
        return flag
    if name in RANGES:
        return _number(name, value)
    if not isinstance(value, str):
        raise UserError(f"{name} is {value!r}: write it as text")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f"{name} holds a character that is no text: write it again")
    value = value.strip()
    if name in CHOICES and value not in CHOICES[name]:
        raise UserError(f"{name} is {value!r}: choose one of {', '.join(CHOICES[name])}")
    if name == "face" and not FACES.fullmatch(value):
        raise UserError(f"face is {value!r}: choose largest, first, index:N, or track:X,Y with X, Y in 0..1")
    return value


def _number(name: str, value: Any) -> float | int:
    low, high = RANGES[name]
    kind = int if name in WHOLE else float
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float) and value != int(value)):
            raise ValueError
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{name} is {value!r}: write a number") from None
    if not (math.isfinite(number) and low <= number <= high):
        raise UserError(f"{name} is {value!r}: it must be between {low:g} and {high:g}")
    return number


def _voices(value: Any) -> tuple[tuple[str, str], ...]:
    """Speakers and voices, from a JSON object or from text such as "Anna=ada; Ben=frank"."""
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(";") if part.strip()]
        if not all(middle and voice.strip() for _, middle, voice in parts):
            raise UserError(f"voices is {value!r}: write SPEAKER=VOICE; SPEAKER=VOICE")
        value = {speaker.strip(): voice.strip() for speaker, _, voice in parts}
    if not isinstance(value, dict) or not all(isinstance(voice, str) and voice for voice in value.values()):
        raise UserError('voices must be an object such as {"Anna": "ada"}')
    return tuple(sorted(value.items()))


def inside(root: Path, name: str) -> Path:
    """The file `name` of a manifest, with all symbolic links resolved.

    Raises:
        UserError: it is not below `root` after links are resolved, or is no existing file.
    """
    try:
        real, top = Path(os.path.realpath(root / name)), Path(os.path.realpath(root))
    except (OSError, ValueError) as error:
        raise UserError(f"{name} cannot be opened ({error}): correct the path") from error
    if not real.is_relative_to(top):
        raise UserError(f"{name} is outside of the root folder: move it there, or give another --root")
    try:
        check_input(real)
    except UserError as error:
        raise UserError(str(error).replace(str(real), name)) from None
    return real


def write_manifest(path: Path, folder: Path) -> int:
    """Write a manifest for the videos of a folder and the files beside them; returns the number of rows.

    A video gets the subtitles of the same name, or the text of a .txt file.

    Raises:
        UserError: `path` exists already, or the folder has no video.
    """
    if os.path.lexists(path):
        raise UserError(f"{path} exists already: choose another name for the manifest")
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the folder of the videos to --init")
    base = path.absolute().parent
    videos = sorted(one for one in folder.rglob("*") if one.suffix.lower() in VIDEO_FILES and one.is_file())
    if not videos:
        raise UserError(f"there is no video in {folder}: names of videos end in {', '.join(VIDEO_FILES)}")
    lines, used = [], set[str]()
    for video in videos:
        own = "-".join(video.relative_to(folder).with_suffix("").parts)[:80]
        name, number = own, 1
        while name.casefold() in used:
            number += 1
            name = f"{own}-{number}"
        used.add(name.casefold())
        row = {"id": name, "video": os.path.relpath(video, base)}
        for suffix in (*SUBTITLES, ".txt"):
            words = video.with_suffix(suffix)
            if words.is_file():
                if suffix == ".txt":
                    row["text"] = " ".join(decoded(words.read_bytes())[0].split())
                else:
                    row["subtitles"] = os.path.relpath(words, base)
                break
        lines.append(json.dumps(row, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)
