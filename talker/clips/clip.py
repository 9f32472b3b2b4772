"""Clips and takes: a clip is a plan with all inputs of a request, and a take is one result of a clip."""

from __future__ import annotations

import base64
import contextlib
import html
import itertools
import math
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from heads.streams import Streams
from talker.clips.record import Generate, Record
from talker.clock import SAMPLE_RATE
from talker.identity import Portrait
from talker.stages import Cancelled, Channel, Stages
from talker.system import System

QUEUED_PATCHES = 4
LONGEST_PLAYED_SECONDS = 120  # of a clip that a notebook plays when it is displayed
NO_FRAMES = np.zeros((0, 0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Chunk:
    """One patch of output.

    Attributes:
        start_seconds: time of the first sample in the clip.
        pcm: (samples,) float32 at 24 kHz.
        frames: (n, H, W, 3) uint8 RGB of the same duration; n is 0 if the clip has no video. The frames of
            the last patch of a recording may last longer than its sound.
        motion: raw motion codes (n, M) of the frames; None if the clip has no video.
    """

    start_seconds: float
    pcm: np.ndarray
    frames: np.ndarray
    motion: Tensor | None = None

    def __repr__(self) -> str:
        shapes = f"pcm {self.pcm.shape}, frames {self.frames.shape}"
        return f"<Chunk at {self.start_seconds:.2f} s: {shapes}>"


@dataclass(frozen=True)
class Report:
    """Report of `save`.

    Attributes:
        output: the path of the file.
        duration_seconds: duration of the sound.
        patches: number of patches.
        finish_reason: see `talker.generation.batch.Running`.
        rtf: real-time factor: wall time from the call to the closed file, divided by the duration.
        first_chunk_seconds: wall time from the call to the first chunk.
        seed: seed of the clip.
    """

    output: str
    duration_seconds: float
    patches: int
    finish_reason: str
    rtf: float
    first_chunk_seconds: float
    seed: int

    def __repr__(self) -> str:
        return (
            f"<Report {self.output}: {self.duration_seconds:.1f} s ({self.finish_reason}), "
            f"rtf {self.rtf:.2f}, seed {self.seed}>"
        )


@dataclass(frozen=True)
class Piece:
    """A patch before decoding and rendering.

    Attributes:
        latents: raw latents (n, C) per stream.
        pcm: (samples,) float32 if the sound is given, else None.
    """

    latents: Streams
    pcm: np.ndarray | None = None


class Writer(Protocol):
    """Writes the chunks of a clip to a file."""

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append the sound and the frames of a chunk."""


class Clip(ABC):
    """A plan of a result. Nothing is computed until it is saved or iterated over. Every take is identical.

    Attributes:
        system: the networks.
        seed: seed of the noise.
        portrait: the face to render; None: no video.
        generates_audio: whether the sound is generated. Otherwise, it is given.
        reads_inputs: whether `ready` takes long.
    """

    system: System
    seed: int
    portrait: Portrait | None
    generates_audio: ClassVar[bool] = True
    reads_inputs: ClassVar[bool] = False

    def ready(self, progress: Callable[[float], object] = lambda seconds: None) -> Clip:
        """A clip with the same takes, whose inputs have been read.

        `progress` is called with the seconds of media that were read since the last call.
        """
        return self

    @property
    def inputs(self) -> tuple[Channel, ...]:
        """Channels that `make` reads."""
        return ()

    @property
    @abstractmethod
    def expected_seconds(self) -> float:
        """Estimated duration of the clip in seconds."""

    @abstractmethod
    def make(self, record: Record, generate: Generate) -> Iterator[Piece]:
        """Generate the clip patch by patch, and fill `record`, except its number of patches.

        `generate` starts the generation of a request.
        """

    @abstractmethod
    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """Writer of the file at `path`, as a context manager."""

    def trimmed(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Cut the chunks to the duration of the clip."""
        return chunks

    @property
    def extension(self) -> str:
        """Extension of the file that a notebook plays."""
        return ".mp4"

    def __repr__(self) -> str:
        about = "".join(f", {name}" for name in self.summary)
        return f"<{type(self).__name__}: about {self.expected_seconds:.1f} s{about}, seed {self.seed}>"

    @property
    def summary(self) -> tuple[str, ...]:
        """Inputs of the clip in a few words, for its representation."""
        return () if self.portrait is None else (f"portrait {self.portrait.name}",)

    def _repr_html_(self) -> str:
        """A player of a new take, for notebooks."""
        return self.take()._repr_html_()

    def take(self) -> Take:
        """A new take. It is computed when it is iterated over or saved."""
        return Take(self)

    def __iter__(self) -> Iterator[Chunk]:
        """Iterate over the chunks of a new take."""
        return iter(self.take())

    def save(self, path: str | Path, progress: Callable[[Chunk], None] | None = None) -> Report:
        """Save a new take, see `Take.save`."""
        return self.take().save(path, progress)


class Take:
    """One result of a clip.

    Attributes:
        clip: the plan; None if building it failed in `Talker.map`.
        record: the record of the last iteration.
        error: the error that ended the take in `Talker.map`, or None. Iterating and saving raise it.
    """

    def __init__(self, clip: Clip | None, error: Exception | None = None) -> None:
        """See the attributes."""
        self.clip, self.error = clip, error
        self.record = Record(0 if clip is None else clip.system.patch_frames)
        self._ready: Clip | None = None
        self._kept: list[Piece] | None = None

    @property
    def patches(self) -> int:
        """Number of patches generated so far."""
        return self.record.patches

    @property
    def finish_reason(self) -> str:
        """See `talker.generation.batch.Running`; "interrupted" before the end."""
        return self.record.finish_reason

    @property
    def starts(self) -> list[int]:
        """Index of the first patch of each sentence or window."""
        return self.record.starts

    @property
    def words(self) -> list[tuple[str, int]]:
        """(word, first frame) of the words spoken so far. Empty if the model has no alignment."""
        return self.record.words

    def prepare(self) -> None:
        """Read the inputs of the clip now. `keep` uses them."""
        if self.clip is not None:
            self._ready = self.clip.ready()

    def keep(self, generate: Generate) -> None:
        """Generate all latents now and keep them. Iterating later only decodes and renders."""
        self._kept = list(self._made(generate))
        self._ready = None

    def _made(self, generate: Generate | None = None) -> Iterator[Piece]:
        if self.error is not None:
            raise self.error
        assert self.clip is not None
        if self._kept is not None:
            yield from self._kept
            return
        record = self.record = Record(self.clip.system.patch_frames)
        clip, generate = self._ready or self.clip, generate or self.clip.system.generator.generate
        for piece in in_inference_mode(clip.make(record, generate)):
            record.patches += 1
            yield piece

    def latents(self) -> Iterator[Streams]:
        """Raw latents (n, C) of each patch, for the generated and given streams of the task."""
        return (piece.latents for piece in self._made())

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks in order, one per patch, while the following ones are generated."""
        return self.chunks()

    def chunks(self, generate: Generate | None = None) -> Iterator[Chunk]:
        """Iterate over the take. `generate` starts the generation of a request; None: in its own batch."""
        if self.error is not None:
            raise self.error
        clip = self.clip
        assert clip is not None
        chunks = decode_and_render(
            clip.system, lambda: self._made(generate), clip.portrait, clip.generates_audio, clip.inputs
        )
        return _Chunks(clip.trimmed(chunks), clip.inputs) if clip.inputs else clip.trimmed(chunks)

    def save(self, path: str | Path, progress: Callable[[Chunk], None] | None = None) -> Report:
        """Generate the take and write it to a file. After an error, no incomplete file remains.

        `progress` is called after each chunk.

        Raises:
            UserError: the path cannot be written to.
        """
        if self.error is not None:
            raise self.error
        clip = self.clip
        assert clip is not None
        called, first, samples = time.perf_counter(), 0.0, 0
        with clip.writer(path) as writer:
            for chunk in self:
                first = first or time.perf_counter() - called
                writer.write(chunk.pcm, chunk.frames)
                samples += len(chunk.pcm)
                if progress is not None:
                    progress(chunk)
        seconds = samples / SAMPLE_RATE
        return Report(
            output=str(path),
            duration_seconds=round(seconds, 3),
            patches=self.patches,
            finish_reason=self.finish_reason,
            rtf=round((time.perf_counter() - called) / seconds, 4),
            first_chunk_seconds=round(first, 4),
            seed=clip.seed,
        )

    def __repr__(self) -> str:
        state = f"error {self.error!r}" if self.error is not None else self.finish_reason
        return f"<Take of {self.clip!r}: {self.patches} patches, {state}>"

    def _repr_html_(self) -> str:
        """A player that contains the file, for notebooks. Long clips are described instead."""
        clip = self.clip
        if clip is None or self.error is not None or clip.inputs:
            return f"<code>{html.escape(repr(self))}</code>"
        if clip.expected_seconds > LONGEST_PLAYED_SECONDS:
            return f"<code>{html.escape(repr(self))}</code> is long: call <code>.save(path)</code>"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"clip{clip.extension}"
            self.save(path)
            data = base64.b64encode(path.read_bytes()).decode()
        kind = "audio" if clip.extension == ".wav" else "video"
        source = f"data:{kind}/{clip.extension[1:]};base64,{data}"
        return f'<{kind} controls src="{source}"></{kind}>'


class _Chunks:
    """An iterator over chunks whose `close` also works before the first chunk: it cancels the inputs."""

    def __init__(self, chunks: Iterator[Chunk], inputs: Sequence[Channel]) -> None:
        self._chunks, self._inputs = chunks, inputs

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def close(self) -> None:
        """End the iteration and the channels."""
        for channel in self._inputs:
            channel.cancel()
        if isinstance(self._chunks, Generator):
            with contextlib.suppress(ValueError):  # another thread waits in it, which the channels end
                self._chunks.close()


@torch.inference_mode()
def in_inference_mode(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Iterate over `pieces` in inference mode."""
    yield from pieces


def decode_and_render(
    system: System,
    made: Callable[[], Iterator[Piece]],
    portrait: Portrait | None,
    generates_audio: bool,
    inputs: Sequence[Channel] = (),
) -> Iterator[Chunk]:
    """Generate, decode and render in separate threads, and yield the chunks.

    Args:
        system: the networks.
        made: generates the pieces.
        portrait: the face to render; None: no frames.
        generates_audio: whether to decode the sound from latents. Otherwise, each piece holds its samples.
        inputs: channels that `made` reads. The end of the iteration cancels them, and cancelling one of them
            ends the iteration.
    """
    lag = math.ceil(system.audio_vae.lookahead / system.patch_frames) if generates_audio else 0
    try:
        with Stages() as stages:
            for channel in inputs:
                stages.adopt(channel)
            to_decode, to_render, decoded, rendered = (stages.channel(QUEUED_PATCHES + lag) for _ in range(4))
            outputs = (to_decode,) if portrait is None else (to_decode, to_render)
            stages.feed(made, *outputs)
            if generates_audio:
                stages.feed(lambda: system.decode(piece.latents["audio"] for piece in to_decode), decoded)
            else:
                stages.feed(lambda: (piece.pcm for piece in to_decode), decoded)
            pictures: Iterable[tuple[np.ndarray, Tensor | None]] = itertools.repeat((NO_FRAMES, None))
            if portrait is not None:
                motion, shown = itertools.tee(piece.latents["motion"] for piece in to_render)
                stages.feed(
                    lambda: zip(system.render(motion, portrait.source), shown, strict=True),
                    rendered,
                    torch_threads=system.threads - 1,
                )
                pictures = rendered
            start = 0
            for pcm, (frames, codes) in zip(decoded, pictures, strict=portrait is not None):
                yield Chunk(start / SAMPLE_RATE, pcm, frames, codes)
                start += len(pcm)
    except Cancelled:
        if not any(channel.cancelled for channel in inputs):
            raise
