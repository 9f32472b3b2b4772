"""The record of a take: how many patches it has, where its sentences and words start, and how it ended."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import Protocol

from heads.streams import Streams
from talker.generation.request import Request


class Patches(Protocol):
    """Iterator over the raw latents of a request: a `Generation`, or a `Ticket` of a scheduler."""

    @property
    def finish_reason(self) -> str | None: ...
    @property
    def words(self) -> list[tuple[str, int]]: ...
    def tail(self, frames: int) -> Streams: ...
    def close(self) -> None: ...
    def __iter__(self) -> Iterator[Streams]: ...
    def __next__(self) -> Streams: ...


Generate = Callable[[Request], Patches]


class Record:
    """The record of one take, which the code that generates the take fills.

    Attributes:
        patch_frames: frames per patch.
        patches: number of patches so far.
        finish_reason: see `talker.generation.batch.Running`; "interrupted" before the end.
        starts: index of the first patch of each sentence or window.
        ends: index after the last patch of each sentence or window that has ended.
    """

    def __init__(self, patch_frames: int) -> None:
        """See the attributes."""
        self.patch_frames = patch_frames
        self.patches, self.finish_reason = 0, "interrupted"
        self.starts: list[int] = []
        self.ends: list[int] = []
        self._words: list[tuple[str, int]] = []
        self._current: tuple[Patches, int] | None = None

    @property
    def words(self) -> list[tuple[str, int]]:
        """(word, first frame) of the words spoken so far. Empty if the model has no alignment."""
        return self._words + ([] if self._current is None else _shifted_words(*self._current))

    def begin(self, patches: Patches) -> None:
        """Record the start of a sentence or window, which `patches` generates."""
        self.starts.append(self.patches)
        self._current = patches, self.patches * self.patch_frames

    def end(self) -> None:
        """Record the end of the current sentence or window."""
        if self._current is not None:
            self._words += _shifted_words(*self._current)
            self._current = None
            self.ends.append(self.patches)

    def speaks(self, patch: int) -> bool:
        """Whether a patch is part of a sentence or window. Between them, a live clip waits for input."""
        number = bisect.bisect_right(self.starts, patch)
        return number > 0 and (number > len(self.ends) or patch < self.ends[number - 1])

    @property
    def marks(self) -> tuple[int, int]:
        """Number of sentences and number of words so far, see `forget`."""
        return len(self.starts), len(self._words)

    def forget(self, marks: tuple[int, int]) -> None:
        """Drop the sentences and words added after `marks`, so that a sentence can be generated again."""
        del self.starts[marks[0] :], self.ends[marks[0] :]
        del self._words[marks[1] :]


def _shifted_words(patches: Patches, frames: int) -> list[tuple[str, int]]:
    return [(word, frame + frames) for word, frame in patches.words]
