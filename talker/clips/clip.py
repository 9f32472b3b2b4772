"""A clip is a plan: everything that is needed to make speech and pictures. A take is one result of it."""

from __future__ import annotations

import itertools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch

from heads.streams import Streams
from talker.clock import SAMPLE_RATE
from talker.generation.request import Request
from talker.identity import Portrait
from talker.stages import Cancelled, Channel, Stages
from talker.system import System

QUEUED_PATCHES = 4
NO_FRAMES = np.zeros((0, 0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Chunk:
    """One patch of output: pcm (samples,) float32 at 24 kHz, frames (n, H, W, 3) uint8 RGB, equally long.

    There are no frames where only speech is made. The frames of the last patch of a recording may last a
    little longer than its sound.
    """

    start_seconds: float
    pcm: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class Report:
    """What `save` did. `rtf`: wall time from the call to the closed file, over the length of the clip."""

    output: str
    duration_seconds: float
    patches: int
    finish_reason: str
    rtf: float
    first_chunk_seconds: float
    seed: int


@dataclass(frozen=True)
class Piece:
    """A patch before decoding and rendering: raw latents, and the samples where they are given."""

    latents: Streams
    pcm: np.ndarray | None = None


class Writer(Protocol):
    """What a clip is saved with."""

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append the sound and the frames of a chunk."""


class Patches(Protocol):
    """The raw latents of a request, patch by patch: a Generation, or a Ticket of a scheduler."""

    @property
    def finish_reason(self) -> str | None: ...
    @property
    def words(self) -> list[tuple[str, int]]: ...
    def tail(self, frames: int) -> Streams: ...
    def close(self) -> None: ...
    def __iter__(self) -> Iterator[Streams]: ...
    def __next__(self) -> Streams: ...


Generate = Callable[[Request], Patches]


class Clip(ABC):
    """A plan: nothing is computed until it is saved or iterated over; each time with the same bits.

    Attributes:
        system: what it is made with.
        seed: decides the noise.
        portrait: the face that is rendered; None: sound alone.
        generates_audio: whether the sound is generated (else it is given).
        torch_threads: CPU threads for what `make` does; None: all of the system's.
    """

    system: System
    seed: int
    portrait: Portrait | None
    generates_audio: ClassVar[bool] = True
    torch_threads: ClassVar[int | None] = 1

    @property
    def inputs(self) -> tuple[Channel, ...]:
        """Channels that `make` reads."""
        return ()

    @property
    @abstractmethod
    def expected_seconds(self) -> float:
        """About how long the clip will be."""

    @abstractmethod
    def make(self, take: Take, generate: Generate) -> Iterator[Piece]:
        """The work of the model, patch by patch; fills in what `take` reports."""

    @abstractmethod
    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """What writes the chunks to a file."""

    def generate(self, request: Request) -> Patches:
        """The patches of a request alone."""
        return self.system.generator.generate(request)

    def trimmed(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The chunks, cut to the length of the clip."""
        return chunks

    def take(self) -> Take:
        """A new result, computed when it is iterated over or saved."""
        return Take(self)

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks of a new take."""
        return iter(self.take())

    def save(self, path: str | Path, progress: Callable[[Chunk], None] | None = None) -> Report:
        """Save a new take: see `Take.save`."""
        return self.take().save(path, progress)


class Take:
    """One result of a clip.

    Attributes:
        clip: the plan; None where building it failed (see `Talker.map`).
        patches: patches made so far.
        finish_reason: why it ended; "interrupted" until then.
        starts: the patches at which sentences or windows began.
        error: what ended it in a `Talker.map`; iterating and saving raise it.
    """

    def __init__(self, clip: Clip | None, error: Exception | None = None) -> None:
        self.clip, self.error = clip, error
        self.patches, self.finish_reason = 0, "interrupted"
        self.starts: list[int] = []
        self._words: list[tuple[str, int]] = []
        self._current: tuple[Patches, int] | None = None
        self._kept: list[Piece] | None = None

    @property
    def words(self) -> list[tuple[str, int]]:
        """(word, first frame) of the words spoken so far; empty where the weights have no alignment."""
        return self._words + ([] if self._current is None else _later(*self._current))

    @property
    def marks(self) -> tuple[int, int]:
        """How many sentences and words are known; see `forget`."""
        return len(self.starts), len(self._words)

    def forget(self, marks: tuple[int, int]) -> None:
        """Drop what was added since `marks`: a sentence is made again."""
        del self.starts[marks[0] :]
        del self._words[marks[1] :]

    def begins(self, patches: Patches) -> None:
        """A sentence or window begins."""
        self.ends()
        assert self.clip is not None
        self.starts.append(self.patches)
        self._current = patches, self.patches * self.clip.system.patch_frames

    def ends(self) -> None:
        """The sentence or window is complete."""
        if self._current is not None:
            self._words += _later(*self._current)
            self._current = None

    def keep(self, generate: Generate) -> None:
        """Do the model's work now; iterating then decodes and renders what was kept."""
        self._kept = list(self._made(generate))

    def _made(self, generate: Generate | None = None) -> Iterator[Piece]:
        if self.error is not None:
            raise self.error
        assert self.clip is not None
        if self._kept is not None:
            yield from self._kept
            return
        self.patches, self.finish_reason = 0, "interrupted"
        self.starts, self._words, self._current = [], [], None
        for piece in inferred(self.clip.make(self, generate or self.clip.generate)):
            self.patches += 1
            yield piece
        self.ends()

    def latents(self) -> Iterator[Streams]:
        """Raw latents of each patch, (n, C) of each stream that the clip's task makes or is given."""
        return (piece.latents for piece in self._made())

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks in order, one a patch, while the next ones are being made."""
        if self.error is not None:
            raise self.error
        clip = self.clip
        assert clip is not None
        return clip.trimmed(
            shown(
                clip.system, self._made, clip.portrait, clip.generates_audio, clip.inputs, clip.torch_threads
            )
        )

    def save(self, path: str | Path, progress: Callable[[Chunk], None] | None = None) -> Report:
        """Write a file as the chunks come; `progress` is called after each.

        Raises:
            UserError: the path cannot be written to. Whatever happens, no half-written file remains.
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


@torch.inference_mode()
def inferred(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces, computed in inference mode."""
    yield from pieces


def _later(patches: Patches, frames: int) -> list[tuple[str, int]]:
    return [(word, frame + frames) for word, frame in patches.words]


def shown(
    system: System,
    made: Callable[[], Iterator[Piece]],
    portrait: Portrait | None,
    generates_audio: bool,
    inputs: Sequence[Channel] = (),
    torch_threads: int | None = 1,
) -> Iterator[Chunk]:
    """Decode and render pieces while the next ones are being made: the only place where stages are joined.

    Args:
        made: makes the pieces, in a thread of its own.
        portrait: what is rendered; None: no frames.
        generates_audio: whether the sound is decoded from latents (else each piece has its samples).
        inputs: channels that `made` reads; they end with the chunks, and the chunks with them.
        torch_threads: CPU threads for `made`; None: all. Rendering gets the others.
    """
    lag = math.ceil(system.audio_vae.lookahead / system.patch_frames) if generates_audio else 0
    try:
        with Stages() as stages:
            for channel in inputs:
                stages.adopt(channel)
            sounding, moving, sounds, pictures = (stages.channel(QUEUED_PATCHES + lag) for _ in range(4))
            outputs = (sounding,) if portrait is None else (sounding, moving)
            stages.feed(made, *outputs, torch_threads=torch_threads or system.threads)
            if generates_audio:
                stages.feed(lambda: system.decode(piece.latents["audio"] for piece in sounding), sounds)
            else:
                stages.feed(lambda: (piece.pcm for piece in sounding), sounds)
            if portrait is not None:
                motion = (piece.latents["motion"] for piece in moving)
                stages.feed(
                    lambda: system.render(motion, portrait.source), pictures, torch_threads=system.threads - 1
                )
            unseen = itertools.repeat(NO_FRAMES)
            start = 0
            for pcm, frames in zip(
                sounds, unseen if portrait is None else pictures, strict=portrait is not None
            ):
                yield Chunk(start / SAMPLE_RATE, pcm, frames)
                start += len(pcm)
    except Cancelled:
        if not any(channel.cancelled for channel in inputs):
            raise
