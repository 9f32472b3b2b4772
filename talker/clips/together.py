"""Many clips as rows of one running batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from talker.clips.clip import Clip
from talker.generation.running_batch import RunningBatch
from talker.model.model import TalkerModel
from talker.stages import Cancelled, still_wanted


@dataclass
class _Making:
    """A clip that is being made."""

    clip: Clip
    items: Iterator[Any]
    kept: list[Any] = field(default_factory=list)

    def advance(self) -> bool:
        """Take one more piece; whether there was one. What goes wrong is this clip's alone."""
        clip = self.clip
        try:
            for item in self.items:
                self.kept.append(item)
                return True
            clip.kept = self.kept
        except Cancelled:
            raise
        except Exception as error:
            clip.error = error
            self.leave()
        clip.batch = None
        return False

    def leave(self) -> None:
        """Leave the batch: its row is for others, and the clip may be made anew."""
        if self.clip.generation is not None:
            self.clip.generation.close()
        self.clip.batch = None


def made_together(model: TalkerModel, clips: Iterable[Clip], capacity: int) -> Iterator[Clip]:
    """The clips in their order, with what the model made `kept`, or the `error` that ended them; one that
    ends makes room for the next.

    They take turns, a patch each: the first to ask moves the rows of all, the others find theirs waiting.

    Raises:
        ValueError: there is no batch of such a capacity.
    """
    batch, coming = RunningBatch(model, capacity), iter(clips)
    running: list[_Making] = []
    unfinished: deque[_Making] = deque()
    try:
        while True:
            while len(running) < capacity and (clip := next(coming, None)) is not None:
                clip.batch = batch
                running.append(_Making(clip, clip.make()))
                unfinished.append(running[-1])
            if not running:
                return
            still_wanted()
            running = [making for making in running if making.advance()]
            while unfinished and unfinished[0].clip.batch is None:
                yield unfinished.popleft().clip
    finally:
        for making in running:
            making.leave()
