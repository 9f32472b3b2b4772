"""Captions of a live stream: words from the alignment of the model, or whole sentences."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from talker.clips.clip import Take
from talker.clips.record import Patches
from talker.clock import HOP, SAMPLE_RATE
from talker.media.fragments import LEAD


def milliseconds(frames: int) -> int:
    """Time in the stream at which a frame of the clip begins. The sound begins after LEAD samples."""
    return round(1000 * (frames * HOP + LEAD) / SAMPLE_RATE)


@dataclass(frozen=True)
class Caption:
    """A word or sentence, with its start and end in the stream in milliseconds."""

    text: str
    start_ms: int
    end_ms: int


class Captions:
    """Collects the captions of a take. A caption is known when the word or sentence has ended."""

    def __init__(self, take: Take, first: int = 0) -> None:
        """`take`: the take whose sentences are captioned; `first`: index of its first frame in the stream."""
        self._take, self._first = take, first
        self._sentences: deque[tuple[str, Patches]] = deque()
        self._number = 0  # of the first of these sentences in the take
        self._words = 0  # captions of that sentence that are known

    def begin(self, text: str, patches: Patches) -> None:
        """Add a sentence, which `patches` generates."""
        self._sentences.append((text, patches))

    def new(self, frames: int) -> list[Caption]:
        """Captions that became known since the last call. `frames`: frames of the stream so far."""
        found: list[Caption] = []
        while self._sentences:
            text, patches = self._sentences[0]
            first, last = self._span(patches, frames - self._first)
            if first is None:
                break
            words = [(word, first + frame) for word, frame in patches.words]
            if not words and last is not None and text:
                words = [(text, first)]
            ends = [*(frame for _, frame in words[1:]), last]
            known = [
                Caption(word, milliseconds(self._first + start), milliseconds(self._first + end))
                for (word, start), end in zip(words, ends, strict=False)
                if end is not None
            ]
            found += known[self._words :]
            self._words = len(known)
            if last is None:
                break
            self._sentences.popleft()
            self._number, self._words = self._number + 1, 0
        return found

    def _span(self, patches: Patches, frames: int) -> tuple[int | None, int | None]:
        """First frame of the first sentence, and the frame at which it ends; None: not known yet."""
        record, number = self._take.record, self._number
        if number == len(record.starts):
            return None, None
        start = record.starts[number] * record.patch_frames
        if number == len(record.ends) and patches.finish_reason is None:
            return start, None
        end = (record.patches if number == len(record.ends) else record.ends[number]) * record.patch_frames
        return start, end if end <= frames else None
