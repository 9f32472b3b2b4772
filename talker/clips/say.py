"""Speech of a text with a face (T2AV), or alone (TTS)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from heads.solver import Sampling
from heads.streams import Streams
from talker.clips.clip import Clip, Generate, Piece, Take, Writer
from talker.clips.continuation import CARRIED_PATCHES, Continuation, part_seed
from talker.generation.request import Request
from talker.identity import Portrait, Voice
from talker.media.encoders import Mp4Writer, SoundWriter
from talker.model.defaults import StopRule
from talker.system import System

REDRAWS = 8  # of a sentence that stays silent


@dataclass(frozen=True)
class Utterance(Clip):
    """Speech of a text, sentence by sentence, with a face or, where `portrait` is None, alone."""

    system: System
    sentences: tuple[str, ...]
    voice: Voice
    portrait: Portrait | None
    seed: int
    sampling: Sampling | None = None
    stop: StopRule | None = None

    @property
    def task(self) -> str:
        """What the model is asked for."""
        return "tts" if self.portrait is None else "t2av"

    @property
    def expected_seconds(self) -> float:
        """About how long it will be."""
        return round(sum(self.system.generator.durations(text).usual + 0.5 for text in self.sentences), 1)

    def longest(self, sentence: str) -> int:
        """The most frames that a sentence may take; 0 or less where there is no room for it."""
        before = self.voice.prefix_frames + CARRIED_PATCHES * self.system.patch_frames
        return self.system.generator.longest(sentence, self.task, before, self.voice.said)

    def make(self, take: Take, generate: Generate) -> Iterator[Piece]:
        """See `Clip.make`. The finish reason is "stop" if every sentence ended with it, else that of the
        first that did not.
        """
        parts = Continuation(take, generate)
        for index, sentence in enumerate(self.sentences):
            if self.portrait is None:
                yield from self._audible(parts, index, sentence)
                continue
            for patch in parts.part(self._request(index, sentence, parts.tail)):
                yield Piece(patch)
        take.finish_reason = next((reason for reason in parts.reasons if reason != "stop"), "stop")

    def _audible(self, parts: Continuation, index: int, sentence: str) -> Iterator[Piece]:
        """A sentence without a face. Weights that have seen few single words may answer them with silence;
        then the sentence is drawn again, as speech with a face. If all draws are silent, the finish reason of
        the part is "silence".
        """
        request = self._request(index, sentence, parts.tail)
        draws = [request]
        if "t2av" in self.system.generator.tasks:
            neutral = torch.zeros(self.system.generator.widths["motion"])
            for number in range(REDRAWS):
                seed = part_seed(request.seed, number)
                draws.append(replace(request, task="t2av", first_motion=neutral, seed=seed))
        state = parts.state
        for draw in draws:
            parts.state = state
            silent: list[Piece] | None = []  # what is held back until something is audible
            for patch in parts.part(draw):
                piece = Piece(patch.only(("audio",)))
                if silent is not None and self.system.audible(patch["audio"]).any():
                    yield from silent
                    silent = None
                if silent is None:
                    yield piece
                else:
                    silent.append(piece)
            parts.tail = parts.tail and parts.tail.only(("audio",))
            if silent is None:
                return
        parts.reasons[-1] = "silence"
        yield from silent or []

    def _request(self, index: int, sentence: str, tail: Streams | None) -> Request:
        """A sentence after the voice's own prefix and the last patches of the sentence before."""
        voice, face = self.voice, self.portrait
        # A recording that is the beginning of the first sentence precedes no other.
        prefix = voice.prefix if voice.said or index == 0 else None
        return Request(
            text=sentence,
            said=voice.said,
            task=self.task,
            speaker=voice.embedding,
            first_motion=None if face is None else face.motion,
            prefix=_behind(prefix, tail),
            frames=self.longest(sentence),
            silence=self.system.silence,
            seed=part_seed(self.seed, index),
            sampling=self.sampling,
            stop=self.stop,
        )

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """An mp4, or a sound file where there is no face."""
        return SoundWriter(path) if self.portrait is None else Mp4Writer(path, self.system.resolution)


def _behind(prefix: torch.Tensor | None, tail: Streams | None) -> Streams | None:
    """The prefix of a request: the voice's own (T, C), of sound alone, then the frames that are carried."""
    if prefix is None:
        return tail
    if tail is None:
        return Streams(audio=prefix)
    return Streams(audio=torch.cat([prefix, tail["audio"]]), motion=tail.motion)
