"""Speech for a given video of a person (task V2A)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from heads.sampling import Sampling
from heads.streams import Streams
from talker.clips.clip import NO_FRAMES, Chunk, Clip, Piece, Writer
from talker.clips.continuation import CARRIED_PATCHES, Continuation, part_seed
from talker.clips.record import Generate, Record
from talker.clips.text import fit_text, sentences_of, text_weight
from talker.clips.windows import aligned
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.generation.request import Request
from talker.identity import Voice
from talker.media.face_track import FaceTrack
from talker.media.provenance import generated_tags, origin_of
from talker.media.remux import DubWriter, dubbed_name
from talker.stages import raise_if_cancelled
from talker.system import System

STILL = 0.35  # movement below this share of the median counts as a pause


@dataclass(frozen=True, repr=False)
class Dubbing(Clip):
    """A plan of speech for a video.

    Args:
        system: the networks.
        source: the video.
        track: timing of the video, and position of the face.
        sentences: the text.
        voice: the voice to speak with.
        seed: seed of the noise.
        sampling: None: the defaults of the model.
        codes: raw motion codes (T, M) of the face; None: read from the video by every take.
    """

    system: System
    source: Path
    track: FaceTrack
    sentences: tuple[str, ...]
    voice: Voice
    seed: int
    sampling: Sampling | None = None
    codes: Tensor | None = field(default=None, compare=False)
    portrait: None = field(default=None, init=False)
    reads_inputs: ClassVar[bool] = True

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
        force: bool = False,
        progress: Callable[[float], object] = lambda seconds: None,
    ) -> Dubbing:
        """See `Talker.dub`."""
        sentences, path = sentences_of(system, text, force), Path(video)
        track = FaceTrack.from_video(path, crop, progress)
        return cls(system, path, track, sentences, voice, seed, sampling)

    @property
    def samples(self) -> int:
        """Number of samples, which matches the duration of the video."""
        return round(self.track.seconds * SAMPLE_RATE)

    @property
    def expected_seconds(self) -> float:
        """Duration of the video in seconds."""
        return float(self.track.seconds)

    @property
    def extension(self) -> str:
        """See `Clip.extension`."""
        return dubbed_name(self.source).suffix

    @property
    def summary(self) -> tuple[str, ...]:
        """See `Clip.summary`."""
        return (f"video {self.source.name}", f"voice {self.voice.name}")

    def ready(self, progress: Callable[[float], object] = lambda seconds: None) -> Dubbing:
        """See `Clip.ready`."""
        return replace(self, codes=self.motion(progress))

    def motion(self, progress: Callable[[float], object] = lambda seconds: None) -> Tensor:
        """Raw motion codes (T, M) of the face at 25 frames per second. `progress`: see `ready`."""
        if self.codes is not None:
            return self.codes
        codes = []
        for motion in self.system.read_motion(self.track.pictures(self.source, self.system.resolution)):
            raise_if_cancelled()
            codes.append(motion)
            progress(len(motion) / FRAME_RATE)
        return torch.cat(codes)

    def make(self, record: Record, generate: Generate) -> Iterator[Piece]:
        """See `Clip.make`.

        The finish reason is "overflow" if the model did not reach the end of the text, or if the text is too
        long for the video at the fastest speech rate. Otherwise it is "stop".
        """
        system, size = self.system, self.system.patch_frames
        motion = self.motion()
        speaks = detect_movement(motion / system.generator.scale["motion"])
        windows = aligned(self.sentences, speaks, size, lambda text: text_weight(system, text))
        parts = Continuation(record, generate)
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
        record.finish_reason = "overflow" if overflows else "stop"

    def _request(self, index: int, text: str, given: Tensor, tail: Streams | None) -> Request:
        system, size = self.system, self.system.patch_frames
        frames = -(-len(given) // size) * size
        return Request(
            text=fit_text(system, text, "v2a", frames, CARRIED_PATCHES * size),
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
        """Yield silence for a window without words."""
        size = self.system.patch_frames
        silence = self.system.silence.expand(len(given) + -len(given) % size, -1)
        for patch in silence.split(size):
            yield Piece(Streams(audio=patch))
        parts.add(Streams(audio=silence, motion=given))

    def trimmed(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Cut the chunks to `samples` in total, and pad with silence."""
        left = self.samples
        for chunk in chunks:
            pcm = chunk.pcm[:left]
            yield Chunk((self.samples - left) / SAMPLE_RATE, pcm, NO_FRAMES)
            left -= len(pcm)
        if left:  # timestamps may be rounded down by up to a tenth of a frame
            yield Chunk((self.samples - left) / SAMPLE_RATE, np.zeros(left, np.float32), NO_FRAMES)

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """Writer that copies the packets of the video and adds the speech."""
        speech = f"synthesised in the voice {self.voice.name}"
        tags = generated_tags(speech, origin_of(self.source, "video"))
        return DubWriter(path, self.source, self.track.start, tags)


def detect_movement(motion: Tensor) -> np.ndarray:
    """Find the frames in which the face moves as in speech. Windows end where it does not move.

    Args:
        motion: (T, M) motion codes, divided by their standard deviation.

    Returns:
        (T,) bool
    """
    change = torch.diff(motion, dim=0, prepend=motion[:1]).square().mean(1).sqrt()
    smooth = torch.nn.functional.avg_pool1d(change[None, None], 5, 1, 2, count_include_pad=False)[0, 0]
    return (smooth > STILL * smooth.median()).cpu().numpy()
