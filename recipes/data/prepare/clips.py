"""First stage: a raw video becomes clips of one steady face with its sound, and a record of it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recipes.data.faults import silent
from recipes.data.prepare.detect import retinaface
from recipes.data.prepare.parallel import DISK_FULL
from recipes.data.prepare.sources import Source
from recipes.data.prepare.watch import Refused, Watched, sound, stretches, watch
from recipes.data.transcript import Cue, read_transcript
from talker.clips.windows import LONGEST_SECONDS
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.errors import UserError
from talker.media.audio import reason
from talker.media.face import cut
from talker.media.face_track import EVERY, FaceTrack
from talker.media.sound import FRAME, Leveller, blocks
from talker.media.video import Reel

RECORD = "record.json"
UNFINISHED = ".unfinished-"
EXHAUSTED = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # the machine, and no fault of the video
VIDEO_QUALITY = {"crf": "12", "preset": "veryfast", "bf": "0"}  # far finer than any network sees
SHARPNESS_SIDE = 128  # compression leaves edges of its own in larger pictures
LONGEST_FRAMES = int(LONGEST_SECONDS * FRAME_RATE)
LEAST_SHARPNESS = 0.01  # a good picture has 0.03 and more; blurred by 1/64 of its side it has 0.005


@dataclass(frozen=True)
class Clip:
    """Frames first..last-1 of a video; cues with times in seconds of the clip."""

    first: int
    last: int
    cues: tuple[Cue, ...]


@dataclass(frozen=True)
class Record:
    """What became of a video: clips that were kept, a count of what was lost by reason, words on it."""

    name: str
    stamp: list[int]
    clips: list[Clip]
    lost: dict[str, int]
    notes: list[str]

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Of a finished video's folder."""
        held = json.loads((folder / RECORD).read_text())
        clips = [Clip(c["first"], c["last"], tuple(Cue(**cue) for cue in c["cues"])) for c in held["clips"]]
        return cls(held["name"], held["stamp"], clips, held["lost"], held["notes"])

    def write(self, folder: Path) -> None:
        """As JSON."""
        (folder / RECORD).write_text(json.dumps(asdict(self)))


def make_clips(source: Source, folder: Path, resolution: int, detector: tuple[Path, str] | None) -> None:
    """Make `folder`: 000.mkv, 001.mkv, ... and the record; whatever is wrong with the video is in there.

    The folder appears when all of it is there.

    Args:
        resolution: side of the face's square in pixels.
        detector: weights of RetinaFace and the device for it; None: the detector of the main job.
    """
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    _record(source, unfinished, resolution, detector).write(unfinished)
    try:
        unfinished.rename(folder)
    except OSError:
        if not (folder / RECORD).exists():
            raise
        shutil.rmtree(unfinished)  # a process that outlived a killed run was faster


def discard(folder: Path) -> None:
    """Remove a folder of clips; whenever that is interrupted, it is whole or gone."""
    doomed = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    with contextlib.suppress(FileNotFoundError):  # a process that outlived a killed run has just finished it
        folder.rename(doomed)
    shutil.rmtree(doomed)


def _record(source: Source, folder: Path, resolution: int, detector: tuple[Path, str] | None) -> Record:
    stamp = source.stamp

    def refused(why: str, *more: str) -> Record:
        return Record(source.name, stamp, [], {why: 1}, [": ".join((why, *more))])

    try:
        cues = read_transcript(source.path)
    except UserError as error:
        return refused("bad transcript", str(error))
    try:
        watched = watch(source.path, retinaface(*detector) if detector else None)
        return _cut(source, stamp, folder, watched, cues, resolution)
    except Refused as error:
        return refused(*error.args)
    except (ValueError, av.FFmpegError, OSError) as error:  # a UserError, or a path that can be none
        if getattr(error.__cause__ or error, "errno", None) in (*DISK_FULL, *EXHAUSTED):
            raise
        return refused("unreadable", reason(error).replace(f"{source.path} ", "").splitlines()[0])


def _cut(
    source: Source, stamp: list[int], folder: Path, watched: Watched, cues: Sequence[Cue], resolution: int
) -> Record:
    """Second pass: write what the first one found worth keeping."""
    found, dropped = stretches(watched, cues)
    lost = Counter(dropped)
    notes = [f"{why} ({count})" for why, count in dropped.items()]
    kept: list[Clip] = []
    samples = map(Leveller(watched.heard.level), blocks(sound(source.path, watched.shift), FRAME))
    stream, read = zip(Reel(source.path), samples, strict=False), 0
    for span in found:
        first = max(read, int(span.start * FRAME_RATE))
        last = min(watched.frames, math.ceil(span.end * FRAME_RATE), first + LONGEST_FRAMES)
        fault = watched.fault(first, last, resolution)
        if fault is None:
            path = folder / f"{len(kept):03d}.mkv"
            # Words may reach over the clip's borders by what cutting at whole frames takes.
            cues = [cue.shifted(-first / FRAME_RATE).within((last - first) / FRAME_RATE) for cue in span.cues]
            clip = Clip(first, last, tuple(cues))
            for _ in itertools.islice(stream, first - read):
                pass
            fault, read = _write(path, clip, stream, watched.track, resolution), last
            if fault is None:
                kept.append(clip)
                continue
            path.unlink()
        lost[fault] += 1
        notes.append(f"{first / FRAME_RATE:.1f} to {last / FRAME_RATE:.1f} s: {fault}")
    return Record(source.name, stamp, kept, dict(lost), notes)


def _write(
    path: Path, clip: Clip, stream: Iterator[tuple[np.ndarray, Tensor]], track: FaceTrack, resolution: int
) -> str | None:
    """A clip from the frames and samples (960,) that come next; returns why it is of no use, if so."""
    sharpness, heard = [], []
    with ClipWriter(path, resolution) as writer:
        for number in range(clip.first, clip.last):
            frame, block = next(stream)
            pixels = np.asarray(cut(Image.fromarray(frame), track.square(number), resolution))
            writer.write(pixels, block)
            heard.append(block)
            if number % EVERY == 0:
                sharpness.append(sharpness_of(pixels))
    if silent(torch.cat(heard)):
        return "silent"
    return "blur" if np.median(sharpness) < LEAST_SHARPNESS else None


def sharpness_of(pixels: np.ndarray) -> float:
    """Variance of a face's Laplacian at 128 pixels a side, as a share of the picture's variance."""
    small = Image.fromarray(pixels).convert("L").resize((SHARPNESS_SIDE,) * 2, Image.Resampling.BOX)
    grey = np.asarray(small, np.float32)
    edges = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(edges.var() / max(float(grey.var()), 1.0))


class ClipWriter:
    """`with` it: a clip of square frames (S, S, 3) at 25 a second with exactly 960 samples each."""

    def __init__(self, path: Path, size: int) -> None:
        self.frames = 0
        # Bit-exact: without an identifier drawn at random.
        exact = {"fflags": "+bitexact"}
        self._container = av.open(f"file:{path}", "w", format="matroska", options=exact)
        self._video = self._container.add_stream("libx264", rate=FRAME_RATE, options=VIDEO_QUALITY)
        self._video.width = self._video.height = size
        self._video.pix_fmt = "yuv444p"  # the lips' red is worth its full resolution
        self._audio = self._container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")

    def __enter__(self) -> Self:
        return self

    def write(self, pixels: np.ndarray, samples: Tensor) -> None:
        """The next frame and its samples (n <= 960,), filled up with silence."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = self.frames, Fraction(1, FRAME_RATE)
        self._container.mux(self._video.encode(frame))
        pcm = np.zeros((1, FRAME), np.int16)
        pcm[0, : len(samples)] = (samples * 32767).round().numpy()
        block = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        block.sample_rate, block.pts = SAMPLE_RATE, self.frames * FRAME
        block.time_base = Fraction(1, SAMPLE_RATE)
        self._container.mux(self._audio.encode(block))
        self.frames += 1

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self._container.mux([*self._video.encode(None), *self._audio.encode(None)])
        self._container.close()
