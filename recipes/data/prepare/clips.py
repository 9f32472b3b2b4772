"""First stage: cut clips of one steadily framed face, with its sound, from a raw video."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
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
from recipes.data.prepare.analysis import Analysis, Rejected, analyse, choose_spans, sound
from recipes.data.prepare.detect import retinaface
from recipes.data.prepare.parallel import DISK_FULL
from recipes.data.prepare.sources import Source
from recipes.data.transcript import Cue
from recipes.data.transcript_files import Transcript, read_transcript
from talker.clips.windows import LONGEST_SECONDS
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.errors import UserError
from talker.media.face import crop_square
from talker.media.face_track import DETECTION_INTERVAL, FaceTrack
from talker.media.files import cannot_read, error_reason
from talker.media.loudness import LoudnessNormalizer
from talker.media.provenance import kept_tags
from talker.media.readers import VideoReader, blocks

RECORD = "record.json"
UNFINISHED = ".unfinished-"
EXHAUSTED = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # the machine's fault, not the video's
VIDEO_QUALITY = {"crf": "12", "preset": "veryfast", "bf": "0"}  # close to lossless
BT601 = 6  # FFmpeg's number of these coefficients of YUV
SHARPNESS_SIDE = 128  # pixels; in larger pictures, compression artefacts count as edges
LONGEST_FRAMES = int(LONGEST_SECONDS * FRAME_RATE)
# Sharp pictures have 0.03 or more; blurred with a radius of 1/64 of the side, a picture has 0.005.
LEAST_SHARPNESS = 0.01


@dataclass(frozen=True)
class Clip:
    """Frames first..last - 1 of a video, with its transcript in seconds of the clip."""

    first: int
    last: int
    cues: tuple[Cue, ...]


@dataclass(frozen=True)
class Record:
    """The result of the first stage for one video, stored as JSON beside its clips.

    Attributes:
        name, stamp: of the `Source`.
        clips: those that are kept.
        lost: number of spans or cues that are left out, by reason.
        notes: a line about each loss.
    """

    name: str
    stamp: list[int]
    clips: list[Clip]
    lost: dict[str, int]
    notes: list[str]

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read the record in the folder of a finished video. Raises ValueError if it is damaged."""
        try:
            held = json.loads((folder / RECORD).read_text())
            clips = [
                Clip(one["first"], one["last"], tuple(Cue(**cue) for cue in one["cues"]))
                for one in held["clips"]
            ]
            return cls(held["name"], held["stamp"], clips, held["lost"], held["notes"])
        except (FileNotFoundError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{folder / RECORD} is damaged: {error}") from error

    def write(self, folder: Path) -> None:
        """Write the record into the folder of a video."""
        (folder / RECORD).write_text(json.dumps(asdict(self)))


def make_clips(source: Source, folder: Path, resolution: int, detector: tuple[Path, str] | None) -> None:
    """Cut a video into `folder`: 000.mkv, 001.mkv, ... and a record, which also lists the video's faults.

    The folder is created under a temporary name and renamed when it is complete.

    Args:
        source: the video.
        folder: where the clips go; must not exist.
        resolution: side of the clips' pictures in pixels.
        detector: weights of RetinaFace and the device for it; None: the built-in detector.

    Raises:
        ValueError, OSError: the machine ran out of memory, files or disk space.
    """
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    _record(source, unfinished, resolution, detector).write(unfinished)
    try:
        unfinished.rename(folder)
    except OSError:
        if not (folder / RECORD).exists():
            raise
        shutil.rmtree(unfinished)  # a process of a killed run has finished it meanwhile


def discard(folder: Path) -> None:
    """Remove a folder of clips; if interrupted, `folder` is either complete or gone."""
    doomed = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    with contextlib.suppress(FileNotFoundError):  # a process of a killed run may have moved it
        folder.rename(doomed)
    shutil.rmtree(doomed)


def _record(source: Source, folder: Path, resolution: int, detector: tuple[Path, str] | None) -> Record:
    stamp = source.stamp

    def rejected(reason: str, *detail: str) -> Record:
        return Record(source.name, stamp, [], {reason: 1}, [": ".join((reason, *detail))])

    try:
        transcript = read_transcript(source.path)
    except UserError as error:
        return rejected("bad transcript", str(error))
    try:
        analysis = analyse(source.path, retinaface(*detector) if detector else None)
        return _cut(source, stamp, folder, analysis, transcript, resolution)
    except Rejected as error:
        return rejected(*error.args)
    except (ValueError, av.FFmpegError, OSError) as error:  # includes UserError and invalid paths
        if getattr(error.__cause__ or error, "errno", None) in (*DISK_FULL, *EXHAUSTED):
            raise
        if isinstance(error, av.FFmpegError):
            error = cannot_read(source.path, "video", error)
        return rejected("unreadable", error_reason(error).replace(f"{source.path} ", "").splitlines()[0])


def _cut(
    source: Source,
    stamp: list[int],
    folder: Path,
    analysis: Analysis,
    transcript: Transcript,
    resolution: int,
) -> Record:
    """Second pass over a video: write the spans that the analysis allows."""
    found, dropped = choose_spans(analysis, transcript.cues)
    lost = Counter(transcript.lost) + Counter(dropped)
    notes = [*transcript.notes, *(f"{why} ({count})" for why, count in dropped.items())]
    notes += [analysis.damage] if analysis.damage else []
    kept: list[Clip] = []
    tags = kept_tags(source.path)
    samples = map(LoudnessNormalizer(analysis.survey.level), blocks(sound(source.path, analysis.shift), HOP))
    frames = VideoReader(source.path, turn=analysis.track.turn)
    stream, read = zip(frames, samples, strict=False), 0
    for span in found:
        first = max(read, int(span.start * FRAME_RATE))
        last = min(analysis.frames, math.ceil(span.end * FRAME_RATE), first + LONGEST_FRAMES)
        fault = analysis.fault(first, last, resolution)
        if fault is None:
            path = folder / f"{len(kept):03d}.mkv"
            # Cutting at whole frames can move the clip's ends into its first and last word.
            cues = [cue.shifted(-first / FRAME_RATE).within((last - first) / FRAME_RATE) for cue in span.cues]
            clip = Clip(first, last, tuple(cues))
            for _ in itertools.islice(stream, first - read):
                pass
            fault, read = _write(path, clip, stream, analysis.track, resolution, tags), last
            if fault is None:
                kept.append(clip)
                continue
            path.unlink()
        lost[fault] += 1
        notes.append(f"{first / FRAME_RATE:.1f} to {last / FRAME_RATE:.1f} s: {fault}")
    return Record(source.name, stamp, kept, dict(lost), notes)


def _write(
    path: Path,
    clip: Clip,
    stream: Iterator[tuple[np.ndarray, Tensor]],
    track: FaceTrack,
    resolution: int,
    tags: dict[str, str],
) -> str | None:
    """Write a clip from the next frames and blocks (HOP,) of samples; returns the clip's fault, or None."""
    sharpness, samples = [], []
    with ClipWriter(path, resolution, tags) as writer:
        for number in range(clip.first, clip.last):
            frame, block = next(stream)
            pixels = np.asarray(crop_square(Image.fromarray(frame), track.square(number), resolution))
            writer.write(pixels, block)
            samples.append(block)
            if number % DETECTION_INTERVAL == 0:
                sharpness.append(sharpness_of(pixels))
    if silent(torch.cat(samples)):
        return "silent"
    return "blur" if np.median(sharpness) < LEAST_SHARPNESS else None


def sharpness_of(pixels: np.ndarray) -> float:
    """Sharpness of a picture (S, S, 3): variance of its Laplacian at 128 pixels a side, over its variance."""
    small = Image.fromarray(pixels).convert("L").resize((SHARPNESS_SIDE,) * 2, Image.Resampling.BOX)
    grey = np.asarray(small, np.float32)
    edges = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(edges.var() / max(float(grey.var()), 1.0))


class ClipWriter:
    """Context manager that writes a clip: square frames (S, S, 3) at 25 per second, HOP samples each."""

    def __init__(self, path: Path, size: int, tags: dict[str, str] | None = None) -> None:
        """Create the file at `path` for pictures of side `size`, with the metadata `tags`."""
        self.frames = 0
        exact = {"fflags": "+bitexact"}  # without a random identifier in the file
        self._container = av.open(f"file:{path}", "w", format="matroska", options=exact)
        self._container.metadata.update(tags or {})
        self._video = self._container.add_stream("libx264", rate=FRAME_RATE, options=VIDEO_QUALITY)
        self._video.width = self._video.height = size
        self._video.pix_fmt = "yuv444p"  # full resolution of the colour of the lips
        self._video.codec_context.colorspace = BT601  # what PyAV converts to, at any size
        self._audio = self._container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")

    def __enter__(self) -> Self:
        return self

    def write(self, pixels: np.ndarray, samples: Tensor) -> None:
        """Write the next frame and its samples (n <= HOP,), padded with silence."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = self.frames, Fraction(1, FRAME_RATE)
        self._container.mux(self._video.encode(frame))
        pcm = np.zeros((1, HOP), np.int16)
        pcm[0, : len(samples)] = (samples * 32767).round().numpy()
        block = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        block.sample_rate, block.pts = SAMPLE_RATE, self.frames * HOP
        block.time_base = Fraction(1, SAMPLE_RATE)
        self._container.mux(self._audio.encode(block))
        self.frames += 1

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self._container.mux([*self._video.encode(None), *self._audio.encode(None)])
        self._container.close()
