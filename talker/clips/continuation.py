"""Generates the parts of a clip (sentences or windows), each as a continuation of the previous part."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from heads.streams import NAMES, NO_STREAMS, Streams
from talker.clips.record import Generate, Record
from talker.generation.request import Request

# Number of last patches of a sentence that are the prefix of the next one, so that voice and head motion are
# continuous. They must not contain words, because the text of the next sentence does not include them. A
# single patch is the silence at the end of a sentence; training clips begin with such silence.
CARRIED_PATCHES = 1
SEAM_FRAMES = 12  # frames in which a gap of motion decays


class Continuation:
    """Generates the parts of a take.

    Attributes:
        tail: raw latents (T, C) per stream of the last frames; None before the first part.
        reasons: finish reason of each part.
    """

    def __init__(
        self, record: Record, generate: Generate, carried: int = CARRIED_PATCHES, free_steps: float = 0.0
    ) -> None:
        """`carried`: number of patches in `tail`; `free_steps`: see `Seam`."""
        self._record, self._generate = record, generate
        self._size = record.patch_frames
        self._carried = carried * self._size
        self._seam = Seam(free_steps)
        self.tail: Streams | None = None
        self.reasons: list[str] = []

    def part(self, request: Request, known: Streams = NO_STREAMS) -> Iterator[Streams]:
        """Generate the next part, and yield its raw latents patch by patch.

        Args:
            request: the request of the part.
            known: given frames (T, C) of the request.

        Raises:
            ValueError: the number of frames of the generator is not a multiple of the patch size.
        """
        patches = self._generate(request)
        self._record.begin(patches)
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
        self._record.end()
        self.reasons.append(patches.finish_reason or "interrupted")
        if made:
            self.add(patches.tail(self._carried), known)

    def idle(self, patch: Streams, begins: bool) -> Streams:
        """Continue with a patch that is not generated; returns it as it is shown.

        `begins`: whether the patch before it was generated, or is shown already, see `follow`.
        """
        motion = self._seam(patch["motion"], begins, silent=True)
        patch = dataclasses.replace(patch, motion=motion)
        self.add(patch)
        return patch

    def follow(self, motion: Tensor) -> None:
        """Begin after a frame of raw motion (M,) that was shown before the take."""
        self._seam.last = motion

    @property
    def state(self) -> tuple[Streams | None, int, tuple[int, int]]:
        """The state that generating a part changes. Set it to an earlier value to generate the part again."""
        return self.tail, len(self.reasons), self._record.marks

    @state.setter
    def state(self, state: tuple[Streams | None, int, tuple[int, int]]) -> None:
        self.tail, reasons, marks = state
        del self.reasons[reasons:]
        self._record.forget(marks)

    def _split(self, results: Iterable[Streams]) -> Iterator[Streams]:
        """Split results into patches. A model that generates a clip as a whole yields all patches at once."""
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
    """Makes the motion of successive parts continuous: the gap at a border decays within SEAM_FRAMES.

    If words continue across a border, the lips must keep moving. So a part of the gap is kept: at most `free`
    times the usual step, which is the root mean square of the steps so far, per channel.

    Attributes:
        last: raw motion (M,) of the last frame; None before the first one.
    """

    def __init__(self, free: float = 0.0) -> None:
        """See the class."""
        self.free = free
        self.last: Tensor | None = None
        self._gap: Tensor | None = None
        self._frames = 0
        self._squares = torch.zeros(())
        self._steps = 0

    def __call__(self, motion: Tensor, begins: bool, silent: bool = False) -> Tensor:
        """Correct the raw motion (n, M) of the next patch.

        `begins`: whether it is the first of its part; `silent`: whether no words continue in this part.
        """
        if begins and self.last is not None:
            gap, usual = self.last - motion[0], (self._squares / max(self._steps, 1)).sqrt()
            free = 0.0 if silent else self.free
            self._gap, self._frames = gap.sign() * (gap.abs() - free * usual).clamp(min=0), 0
        if self._gap is not None:
            frame = torch.arange(len(motion), device=motion.device) + self._frames
            motion = motion + (1 - frame / SEAM_FRAMES).clamp(min=0)[:, None] * self._gap
            self._frames += len(motion)
        walked = motion if self.last is None or begins else torch.cat([self.last[None], motion])
        self._squares = self._squares + walked.diff(dim=0).square().sum(0)
        self._steps += len(walked) - 1
        self.last = motion[-1]
        return motion


def part_seed(seed: int, index: int) -> int:
    """Seed of a sentence or window. The first one has the seed of the clip."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:7], "big")
