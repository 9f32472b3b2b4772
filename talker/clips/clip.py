"""What every task makes: a clip of chunks, one a patch, that can be iterated over or saved."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from heads.streams import Streams
from motion_ae.model import Portrait
from talker.clock import SAMPLE_RATE
from talker.generation.autoregressive import Generation
from talker.generation.request import Request
from talker.generation.running_batch import RunningBatch

if TYPE_CHECKING:
    from talker.pipeline import Talker

Item = TypeVar("Item")

# Patches of one sentence that the next one is given as its past, so that voice and head go on from there.
# They are the silence that a sentence ends in and look to the model like the silence that every clip begins
# with; their words are not in the next sentence's text, so they must not hold any.
CARRIED_PATCHES = 1
SEAM_FRAMES = 12
NO_FRAMES = np.zeros((0, 0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Voice:
    """Somebody's way to speak, computed once.

    Args:
        name: for people.
        embedding: (1, S) of the speaker.
        prefix: (N, P, C) normalised audio that precedes what is said, to be gone on from; never heard.
        said: token ids of the words in `prefix`, where it is another sentence. Without them the prefix is
            the beginning of what is to be said.
    """

    name: str
    embedding: Tensor
    prefix: Tensor | None = None
    said: tuple[int, ...] = ()

    @property
    def prefix_patches(self) -> int:
        """How many patches precede."""
        return 0 if self.prefix is None else len(self.prefix)


@dataclass(frozen=True)
class Face:
    """A portrait as the renderer knows it, computed once."""

    name: str
    portrait: Portrait


@dataclass(frozen=True)
class Chunk:
    """One patch of output: pcm (samples,) float32 at 24 kHz, frames (n, H, W, 3) uint8 RGB, equally long.

    There are no frames where only speech is made, and the frames of the last patch of given sound may stand a
    little longer than it.
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


class Writer(Protocol):
    """What a clip is saved with."""

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append the sound and the frames of a chunk."""


class Clip:
    """Something to be made: nothing is computed until it is iterated over or saved; each time the same bits.

    `finish_reason`, `patches` and `starts`, the patches at which its sentences or windows began, tell of the
    last time. `error` is what went wrong in a `Talker.map`; iterating raises it. `batch`, `generation` and
    `kept` are `Talker.map`'s.
    """

    seed: int
    preparation_seconds: float
    expected_seconds: float
    talker: Talker
    patches: int = 0
    finish_reason: str = ""
    starts: list[int]
    error: Exception | None = None
    generation: Generation | None = None
    batch: RunningBatch | None = None
    kept: list[Any] | None = None

    def make(self) -> Iterator[Any]:
        """What the model makes, piece by piece, before decoding and rendering."""
        raise NotImplementedError

    def made(self) -> Iterator[Any]:
        """The same, made now or kept from `Talker.map`, whose error is raised here."""
        if self.error is not None:
            raise self.error
        return self.make() if self.kept is None else iter(self.kept)

    def generated(self, request: Request) -> Generation:
        """The patches of a request, in the batch that the clip is made in, else by itself."""
        self.generation = Generation(self.batch or RunningBatch(self.talker.model), request)
        return self.generation

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks in order, one a patch, while the next ones are being made."""
        raise NotImplementedError

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """What takes the chunks to a file."""
        raise NotImplementedError

    def save(self, path: str | Path, progress: Callable[[Chunk], None] | None = None) -> Report:
        """Write a file as the chunks come; `progress` is called after each.

        Raises:
            UserError: the path cannot be written to. Whatever happens, no half-written file stays.
        """
        called, first, samples = time.perf_counter() - self.preparation_seconds, 0.0, 0
        with self.writer(path) as writer:
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
            seed=self.seed,
        )


class Seam:
    """Motion goes on from where it was when a later sentence or window begins, though that was drawn as if
    from elsewhere: the gap between them dies away within half a second.

    Where words go on across a border, lips must too: `free` steps of the usual size, in each value the root
    mean square so far, are left as they are, and only the rest of a gap dies away.
    """

    def __init__(self, free: float = 0.0) -> None:
        self.free = free
        self._last: Tensor | None = None
        self._gap: Tensor | None = None
        self._frames = 0
        self._squares = torch.zeros(())
        self._steps = 0

    def __call__(self, motion: Tensor, begins: bool) -> Tensor:
        """The motion (n, M) of the next patch, raw; `begins`: the first of its part."""
        if begins and self._last is not None:
            gap, usual = self._last - motion[0], (self._squares / max(self._steps, 1)).sqrt()
            self._gap, self._frames = gap.sign() * (gap.abs() - self.free * usual).clamp(min=0), 0
        if self._gap is not None:
            at = torch.arange(len(motion), device=motion.device) + self._frames
            motion = motion + (1 - at / SEAM_FRAMES).clamp(min=0)[:, None] * self._gap
            self._frames += len(motion)
        walked = motion if self._last is None or begins else torch.cat([self._last[None], motion])
        self._squares = self._squares + walked.diff(dim=0).square().sum(0)
        self._steps += len(walked) - 1
        self._last = motion[-1]
        return motion


def part_seed(seed: int, index: int) -> int:
    """The seed of a later sentence or window: the first has the request's own."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:7], "big")


def with_threads(count: int, items: Iterator[Item]) -> Iterator[Item]:
    """The items, made with `count` threads within an operation; to be run in a worker of its own.

    The talker's operations are too small to share, so one core is theirs and rendering gets the rest. Left to
    itself every stage would take all cores, and they would wait for each other inside each operation.
    """
    torch.set_num_threads(max(1, count))
    yield from items


def stacked(patches: list[Streams]) -> Streams:
    """N patches (P, C) as one prefix (N, P, C)."""
    return Streams(
        **{name: torch.stack([patch[name] for patch in patches]) for name, _ in patches[0].items()}
    )
