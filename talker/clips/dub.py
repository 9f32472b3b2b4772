"""Speech for a given face (V2A): a video of somebody speaking gets a voice; the mirror of `animate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from heads.solver import Sampling
from heads.streams import Streams
from talker.clips.clip import NO_FRAMES, Chunk, Clip, Generate, Piece, Take, Writer
from talker.clips.continuation import CARRIED_PATCHES, Continuation, part_seed
from talker.clips.text import fitting, sentences_of, weight
from talker.clips.windows import aligned
from talker.clock import SAMPLE_RATE
from talker.generation.request import Request
from talker.identity import Voice
from talker.media.face_track import FaceTrack
from talker.media.remux import DubWriter
from talker.stages import raise_if_cancelled
from talker.system import System

STILL = 0.35  # movement below this share of the median counts as a pause


@dataclass(frozen=True)
class Dubbing(Clip):
    """A video, and the voice that speaks it."""

    system: System
    source: Path
    track: FaceTrack
    sentences: tuple[str, ...]
    voice: Voice
    seed: int
    sampling: Sampling | None = None
    portrait: None = field(default=None, init=False)

    @classmethod
    def of(
        cls,
        system: System,
        video: str | Path,
        text: str,
        voice: Voice,
        crop: str = "face",
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Dubbing:
        """See `Talker.dub`."""
        sentences, path = sentences_of(system, text), Path(video)
        return cls(system, path, FaceTrack.from_video(path, crop), sentences, voice, seed, sampling)

    @property
    def samples(self) -> int:
        """Samples of speech: as long as the video."""
        return round(self.track.seconds * SAMPLE_RATE)

    @property
    def expected_seconds(self) -> float:
        """How long it will be."""
        return float(self.track.seconds)

    def motion(self) -> Tensor:
        """What the face does: raw motion codes (T, M), T at 25 a second."""
        codes = []
        for motion in self.system.read_motion(self.track.pictures(self.source, self.system.resolution)):
            raise_if_cancelled()
            codes.append(motion)
        return torch.cat(codes)

    def make(self, take: Take, generate: Generate) -> Iterator[Piece]:
        """See `Clip.make`. The finish reason is "stop", or "overflow" where the text could not be spoken in
        time: no text of that length can be, or the model did not reach its end.
        """
        system, size = self.system, self.system.patch_frames
        motion = self.motion()
        speaks = moves(motion / system.generator.scale["motion"])
        windows = aligned(self.sentences, speaks, size, lambda text: weight(system, text))
        parts = Continuation(take, generate)
        start = 0
        for index, window in enumerate(windows):
            given = motion[start * size : (start + window.patches) * size]
            start += window.patches
            if not window.text:
                yield from self._silent(given, parts)
                continue
            request = self._request(index, window.text, given, parts.tail)
            for patch in parts.part(request, Streams(motion=given)):
                yield Piece(patch)
        needed = sum(system.generator.durations(text).fastest for text in self.sentences)
        overflows = needed > self.track.seconds or "overflow" in parts.reasons
        take.finish_reason = "overflow" if overflows else "stop"

    def _request(self, index: int, text: str, given: Tensor, tail: Streams | None) -> Request:
        system, size = self.system, self.system.patch_frames
        frames = -(-len(given) // size) * size
        return Request(
            text=fitting(system, text, "v2a", frames, CARRIED_PATCHES * size),
            task="v2a",
            speaker=self.voice.embedding,
            first_motion=given[0] if tail is None else tail["motion"][0],
            prefix=tail,
            given=Streams(motion=given),
            silence=system.silence,
            seed=part_seed(self.seed, index),
            sampling=self.sampling,
        )

    def _silent(self, given: Tensor, parts: Continuation) -> Iterator[Piece]:
        """A window without words is silent."""
        size = self.system.patch_frames
        silence = self.system.silence.expand(len(given) + -len(given) % size, -1)
        for patch in silence.split(size):
            yield Piece(Streams(audio=patch))
        parts.add(Streams(audio=silence, motion=given))

    def trimmed(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The chunks, `samples` in all."""
        left = self.samples
        for chunk in chunks:
            pcm = chunk.pcm[:left]
            yield Chunk((self.samples - left) / SAMPLE_RATE, pcm, NO_FRAMES)
            left -= len(pcm)
        if left:  # a frame's timestamp may be rounded down by up to a tenth of a frame
            yield Chunk((self.samples - left) / SAMPLE_RATE, np.zeros(left, np.float32), NO_FRAMES)

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """The video's own packets with the speech."""
        return DubWriter(path, self.source, self.track.start)


def moves(motion: Tensor) -> np.ndarray:
    """(T,) bool: in which frames the face moves as it does in speech; motion (T, M) in usual deviations.

    Windows end where it is still: between sentences a mouth rests.
    """
    change = torch.diff(motion, dim=0, prepend=motion[:1]).square().mean(1).sqrt()
    smooth = torch.nn.functional.avg_pool1d(change[None, None], 5, 1, 2, count_include_pad=False)[0, 0]
    return (smooth > STILL * smooth.median()).cpu().numpy()
