"""One clip in work: its inputs, the cues to speak, what has been made, and what went wrong."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from heads.streams import Streams
from talker.batch.cues import Cue
from talker.batch.inputs import Inputs
from talker.batch.manifest import Row
from talker.batch.store import Store
from talker.clips.clip import Take
from talker.clock import FRAME_RATE
from talker.errors import UserError
from talker.media.face import Box
from talker.media.face_track import FaceTrack
from talker.media.files import error_reason
from talker.stages import Cancelled

FRAME_SLACK = 0.1  # share of a frame by which a cue may be rounded outwards


class ClipError(Exception):
    """A clip that cannot be made: the stage and the reason."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage, self.reason = stage, reason


@dataclass(frozen=True)
class Segment:
    """A cue on the frames of the video.

    Attributes:
        cue: words and times.
        first, last: frames at 25 Hz, first..last - 1.
        seed: of its noise.
    """

    cue: Cue
    first: int
    last: int
    seed: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.last - self.first


@dataclass
class Job:
    """The state of a clip.

    Attributes:
        row, inputs: what to do.
        root: folder of the inputs.
        store: its artefacts.
        track: face and timing of the video.
        segments: the cues to speak.
        speech: name of the artefact of each segment.
        waiting: number of segments that are not generated yet.
        warnings: lines for the report.
        timing: seconds per stage.
        failure: why the clip cannot be made; None so far.
        key: digest of everything that the result depends on.
        suffix: extension of the output.
        result: what the report says of a finished clip.
        notify: called with the name of each stage that begins.
        began: when the work on the clip began, by `time.perf_counter`.
    """

    row: Row
    root: Path
    store: Store
    inputs: Inputs | None = None
    track: FaceTrack | None = None
    segments: tuple[Segment, ...] = ()
    speech: list[str] = field(default_factory=list)
    waiting: int = 0
    warnings: list[str] = field(default_factory=list)
    timing: dict[str, float] = field(default_factory=dict)
    failure: ClipError | None = None
    key: str = ""
    suffix: str = ""
    result: dict[str, Any] | None = None
    notify: Callable[[str], object] = lambda stage: None
    began: float = field(default_factory=time.perf_counter)

    @property
    def output(self) -> str:
        """Name of the finished video."""
        return f"{self.row.id}{self.suffix}"

    def warn(self, line: str) -> None:
        """Add a line to the warnings."""
        self.warnings.append(printable(line))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage. Its errors become a `ClipError`."""
        began = time.perf_counter()
        self.notify(name)
        try:
            yield
        except Cancelled:
            raise
        except Exception as error:  # whatever it is, it must not end the other clips
            raise failure_of(error, name, self) from error
        finally:
            self.timing[name] = round(self.timing.get(name, 0.0) + time.perf_counter() - began, 3)


def failure_of(error: Exception, stage: str, job: Job) -> ClipError:
    """The failure that an error in a stage means."""
    return error if isinstance(error, ClipError) else ClipError(stage, one_line(error, job))


def one_line(error: Exception, job: Job) -> str:
    """The message of an error in one line, without the folders of this machine."""
    known = isinstance(error, UserError | OSError | av.FFmpegError)
    text = printable(str(error) if isinstance(error, UserError) or not known else error_reason(error))
    text = text.replace(", or use --crop none", "")  # an option of other commands
    names = {f"{job.root}/": "", f"{job.store.folder}/": "work/", f"{job.store.folder.parent}/": ""}
    for path, name in names.items():
        text = text.replace(path, name)
    return text if known else f"{type(error).__name__}: {text}"


def printable(text: str) -> str:
    """A text in one line, in which characters that a terminal would interpret are written as codes."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def segments_of(inputs: Inputs, track: FaceTrack, warnings: list[str]) -> tuple[Segment, ...]:
    """The cues on the frames of a video.

    Raises:
        UserError: no cue is inside the video.
    """
    row, seconds = inputs.row, float(track.seconds)
    cues = inputs.cues
    if cues is None:
        cues = (Cue(row.start, seconds if row.end is None else min(row.end, seconds), row.text),)
    found = []
    for cue in cues:
        if cue.end > seconds + 1 / FRAME_RATE:
            warnings.append(f"the cue at {cue.start:.2f} s ends after the video ({seconds:.2f} s)")
        first = ceil(cue.start * FRAME_RATE - FRAME_SLACK)
        last = floor(min(cue.end, seconds) * FRAME_RATE + FRAME_SLACK)
        if last > first:
            found.append(Segment(cue, first, last, _seed(row.seed, cue)))
    if not found:
        raise UserError(f"all cues lie after the end of the video ({seconds:.2f} s): correct the times")
    return tuple(found)


def _seed(seed: int, cue: Cue) -> int:
    """Seed of a cue. It does not depend on the other cues: adding a cue changes no other."""
    data = json.dumps([seed, round(1000 * cue.start), cue.text])
    return int.from_bytes(hashlib.sha256(data.encode()).digest()[:7], "big")


def save_track(track: FaceTrack, path: Path) -> None:
    """Write a track as JSON."""
    squares = None if track.squares is None else [asdict(box) for box in track.squares]
    values = {"start": str(track.start), "seconds": str(track.seconds), "squares": squares}
    path.write_text(json.dumps(values | {"turn": track.turn, "seen": track.seen}))


def load_track(path: Path) -> FaceTrack:
    """Read what `save_track` wrote."""
    held = json.loads(path.read_text())
    squares = None if held["squares"] is None else tuple(Box(**box) for box in held["squares"])
    start, seconds = Fraction(held["start"]), Fraction(held["seconds"])
    return FaceTrack(start, seconds, squares, held["turn"], tuple(held["seen"]))


def save_codes(codes: torch.Tensor, path: Path) -> None:
    """Write motion codes (T, M)."""
    with path.open("wb") as file:
        np.save(file, codes.numpy(), allow_pickle=False)


def load_codes(path: Path) -> torch.Tensor:
    """Read what `save_codes` wrote."""
    return torch.from_numpy(np.load(path, allow_pickle=False))


def save_take(take: Take, path: Path) -> None:
    """Write the latents of a generated take, and its record."""
    latents = Streams.cat(list(take.latents()))
    tensors = {name: value.float().contiguous().clone() for name, value in latents.items()}
    record = {"finish_reason": take.finish_reason, "words": take.words, "starts": take.starts}
    save_file(tensors, path, metadata={"record": json.dumps(record)})


def load_take(path: Path) -> tuple[Streams, dict[str, Any]]:
    """Latents and record that `save_take` wrote."""
    with safe_open(path, "pt") as file:
        latents = Streams(**{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        return latents, json.loads(file.metadata()["record"])
