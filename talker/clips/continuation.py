"""Sentences or windows in a row, each of which continues from the end of the one before."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from heads.streams import NAMES, NO_STREAMS, Streams
from talker.clips.clip import Generate, Take
from talker.generation.request import Request

# Patches of one sentence that precede the next one, so that voice and head go on from there. They are the
# silence at the end of a sentence, which the model knows as the silence at the beginning of every clip. Their
# words are not in the next sentence's text, so they must not hold any.
CARRIED_PATCHES = 1
SEAM_FRAMES = 12


class Continuation:
    """The parts of a take.

    Attributes:
        tail: raw latents (T, C) per stream of the last frames; None before the first part.
        reasons: the finish reason of each part.
    """

    def __init__(
        self, take: Take, generate: Generate, carried: int = CARRIED_PATCHES, free_steps: float = 0.0
    ) -> None:
        """`carried`: patches that are kept as `tail`; `free_steps`: see `Seam`."""
        assert take.clip is not None
        self._take, self._generate = take, generate
        self._size = take.clip.system.patch_frames
        self._carried = carried * self._size
        self._seam = Seam(free_steps)
        self.tail: Streams | None = None
        self.reasons: list[str] = []

    def part(self, request: Request, known: Streams = NO_STREAMS) -> Iterator[Streams]:
        """Raw latents of each patch of the next part. `known`: the request's given frames (T, C).

        Raises:
            ValueError: the generator yielded frames that are not whole patches.
        """
        patches = self._generate(request)
        self._take.begins(patches)
        made = 0
        try:
            for patch in self._split(patches):
                if patch.motion is not None:
                    real = len(known["audio"]) - made if "audio" in known else self._size
                    motion = self._seam(patch.motion[:real], begins=made == 0)
                    patch = dataclasses.replace(patch, motion=motion)
                made += self._size
                yield patch
        finally:
            patches.close()
        self._take.ends()
        self.reasons.append(patches.finish_reason or "interrupted")
        if made:
            self.add(patches.tail(self._carried), known)

    @property
    def state(self) -> tuple[Streams | None, int, tuple[int, int]]:
        """What an attempt at a part changes; set it to make the part again."""
        return self.tail, len(self.reasons), self._take.marks

    @state.setter
    def state(self, state: tuple[Streams | None, int, tuple[int, int]]) -> None:
        self.tail, reasons, marks = state
        del self.reasons[reasons:]
        self._take.forget(marks)

    def _split(self, results: Iterable[Streams]) -> Iterator[Streams]:
        """Single patches; a model that generates a clip as a whole yields all of them at once."""
        for frames in results:
            for name, x in frames.items():
                if len(x) % self._size:
                    raise ValueError(
                        f"the generator yielded {len(x)} frames of {name}: pad them to whole patches of "
                        f"{self._size} frames"
                    )
            yield from frames.split(self._size)

    def add(self, *streams: Streams) -> None:
        """Append frames (T, C) to the tail."""
        new = {name: x for each in streams for name, x in each.items()}
        old = self.tail or NO_STREAMS
        joined = {
            name: torch.cat([old[name], new[name]]) if name in old else new[name]
            for name in NAMES
            if name in new
        }
        self.tail = Streams(**joined).map(lambda x: x[-self._carried :])


class Seam:
    """Joins the motion of one part to that of the part before: their gap decays within half a second.

    Where words continue across a border, lips must move on too: `free` steps of the usual size, in each value
    the root mean square so far, are left as they are, and only the rest of a gap decays.
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
    """The seed of a sentence or window: the first has the clip's own."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:7], "big")
