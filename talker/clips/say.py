"""Speech of a text, with video (task T2AV) or without (task TTS)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from heads.sampling import Sampling
from heads.streams import Streams
from talker.clips.clip import Clip, Piece, Writer
from talker.clips.continuation import CARRIED_PATCHES, Continuation, part_seed
from talker.clips.idle import Idle, waiting
from talker.clips.record import Generate, Record
from talker.generation.request import Request
from talker.identity import Portrait, Voice
from talker.media.encoders import SoundWriter, VideoWriter
from talker.media.provenance import generated_tags
from talker.model.defaults import StopRule
from talker.stages import Channel
from talker.system import System

REDRAWS = 8  # further attempts at a sentence that is silent


@dataclass(frozen=True, repr=False)
class Speech(Clip):
    """A plan of speech that is generated sentence by sentence.

    Args:
        system: the networks.
        sentences: the text. The generation of a sentence starts when the previous one has ended.
        voice: the voice to speak with.
        portrait: the face to render; None: no video.
        seed: seed of the noise.
        sampling, stop: None: the defaults of the model.
    """

    system: System
    sentences: Iterable[str]
    voice: Voice
    portrait: Portrait | None
    seed: int
    sampling: Sampling | None = None
    stop: StopRule | None = None

    @property
    def task(self) -> str:
        """Name of the task: "tts" or "t2av"."""
        return "tts" if self.portrait is None else "t2av"

    @property
    def extension(self) -> str:
        """See `Clip.extension`."""
        return ".wav" if self.portrait is None else ".mp4"

    def longest(self, sentence: str) -> int:
        """Greatest number of frames of a sentence; 0 or less if it does not fit."""
        before = self.voice.prefix_frames + CARRIED_PATCHES * self.system.patch_frames
        return self.system.generator.longest(sentence, self.task, before, self.voice.said)

    def make(self, record: Record, generate: Generate) -> Iterator[Piece]:
        """See `Clip.make`.

        The finish reason is "stop" if all sentences ended with "stop". Otherwise it is that of the first
        sentence that did not.
        """
        parts = Continuation(record, generate)
        arriving = iter(self.sentences)
        for index in itertools.count():
            yield from self._waiting(parts)
            if (sentence := next(arriving, None)) is None:
                break
            if self.portrait is None:
                yield from self._audible(parts, index, sentence)
                continue
            for patch in parts.part(self._request(index, sentence, parts.tail)):
                yield Piece(patch)
        record.finish_reason = next((reason for reason in parts.reasons if reason != "stop"), "stop")

    def _waiting(self, parts: Continuation) -> Iterator[Piece]:
        """What is shown until the next sentence is there."""
        return iter(())

    def _audible(self, parts: Continuation, index: int, sentence: str) -> Iterator[Piece]:
        """Generate a sentence without video. If it is silent, generate it again with the task T2AV.

        Models that were trained on few single words may generate silence for them. If all attempts are
        silent, the finish reason of the part is "silence".
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
            silent: list[Piece] | None = []  # pieces before the first audible one; None after it
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
        """The request of a sentence, with the prefix of the voice and the tail of the previous sentence."""
        voice, face = self.voice, self.portrait
        # Without a transcript, the prefix is the start of the first sentence and precedes only this one.
        prefix = voice.prefix if voice.said or index == 0 else None
        return Request(
            text=sentence,
            said=voice.said,
            task=self.task,
            speaker=voice.embedding,
            first_motion=None if face is None else face.motion,
            prefix=_joined_prefix(prefix, tail),
            frames=self.longest(sentence),
            silence=self.system.silence,
            seed=part_seed(self.seed, index),
            sampling=self.sampling,
            stop=self.stop,
        )

    @property
    def tags(self) -> dict[str, str]:
        """Metadata that says what was generated."""
        face = self.portrait
        picture = None if face is None else f"generated from the portrait {face.name}"
        return generated_tags(f"synthesised in the voice {self.voice.name}", picture)

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """Writer of a video, or of a sound file if there is no portrait."""
        if self.portrait is None:
            return SoundWriter(path, self.tags)
        return VideoWriter(path, self.system.resolution, self.tags)


@dataclass(frozen=True, repr=False)
class Utterance(Speech):
    """A plan of speech of a text, see `Speech`."""

    sentences: tuple[str, ...]

    @property
    def expected_seconds(self) -> float:
        """Estimated duration in seconds."""
        return round(sum(self.system.generator.durations(text).usual + 0.5 for text in self.sentences), 1)

    @property
    def summary(self) -> tuple[str, ...]:
        """See `Clip.summary`."""
        count = len(self.sentences)
        return (f"{count} sentence{'s'[: count > 1]}", f"voice {self.voice.name}", *super().summary)


@dataclass(frozen=True, repr=False)
class LiveUtterance(Speech):
    """A plan of speech of sentences that arrive in a channel, see `Speech` and `talker.clips.live_text`.

    It can be made only once.

    Args:
        idle: what the face does while it waits for a sentence; None: the clip continues with the next one.
    """

    sentences: Channel[str]
    idle: Idle | None = None

    def _waiting(self, parts: Continuation) -> Iterator[Piece]:
        return iter(()) if self.idle is None else waiting(self.system, self.idle, parts, self.sentences)

    @property
    def inputs(self) -> tuple[Channel, ...]:
        """The channel of sentences. It is cancelled when the iteration ends."""
        return (self.sentences,)

    @property
    def expected_seconds(self) -> float:
        """0, because the duration is unknown."""
        return 0.0


def _joined_prefix(prefix: torch.Tensor | None, tail: Streams | None) -> Streams | None:
    """The prefix of a request: the audio prefix (T, C) of the voice, followed by the tail."""
    if prefix is None:
        return tail
    if tail is None:
        return Streams(audio=prefix)
    return Streams(audio=torch.cat([prefix, tail["audio"]]), motion=tail.motion)
