"""Speech for a given face (V2A): a video of somebody speaking gets a voice; the mirror of `animate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from heads.solver import Sampling
from heads.streams import Streams
from talker.clips.animate import fitting
from talker.clips.clip import (
    CARRIED_PATCHES,
    NO_FRAMES,
    Chunk,
    Clip,
    Voice,
    Writer,
    part_seed,
    stacked,
    with_threads,
)
from talker.clips.windows import Window, aligned
from talker.clock import SAMPLE_RATE
from talker.generation.autoregressive import Request
from talker.media.face_track import FaceTrack
from talker.media.remux import DubWriter
from talker.stages import Stages, still_wanted

if TYPE_CHECKING:
    from talker.pipeline import Talker

# Nobody speaks faster than this; a usual pace is 0.08.
FASTEST_SECONDS_PER_TOKEN = 0.045
STILL = 0.35  # movement below this share of the usual one counts as a pause
ENCODED_TOGETHER = 4
QUEUED = 4


@dataclass
class Dubbing(Clip):
    """A video, and the voice that speaks it."""

    talker: Talker
    source: Path
    track: FaceTrack
    text: list[list[int]]
    voice: Voice
    seed: int
    sampling: Sampling
    preparation_seconds: float = 0.0

    @classmethod
    def of(
        cls,
        talker: Talker,
        video: str | Path,
        text: str,
        voice: Voice,
        crop: str,
        seed: int,
        sampling: Sampling,
    ) -> Dubbing:
        """See `Talker.dub`."""
        sentences, path = talker.sentences(text), Path(video)
        return cls(talker, path, FaceTrack.of(path, crop), sentences, voice, seed, sampling)

    @property
    def samples(self) -> int:
        """How many samples of speech there will be: as long as the video."""
        return round(self.track.seconds * SAMPLE_RATE)

    @property
    def expected_seconds(self) -> float:  # type: ignore[override]
        """How long it will be."""
        return float(self.track.seconds)

    @torch.inference_mode()
    def motion(self) -> Tensor:
        """What the face does: normalised motion codes (T, M), T at 25 a second."""
        talker, codes, waiting = self.talker, list[Tensor](), list[Tensor]()
        for picture in self.track.pictures(self.source, talker.motion_ae.config.resolution):
            still_wanted()
            waiting.append(picture)
            if len(waiting) == ENCODED_TOGETHER:
                codes.append(talker.motion_ae.encode(torch.cat(waiting).to(talker.device)))
                waiting = []
        if waiting:
            codes.append(talker.motion_ae.encode(torch.cat(waiting).to(talker.device)))
        normal = talker.model.stats.normalise(Streams(motion=torch.cat(codes))).motion
        assert normal is not None
        return normal

    @torch.inference_mode()
    def make(self) -> Iterator[Streams]:
        """Raw audio latents (P, C) of each patch.

        `finish_reason` then is "stop", or "overflow" where the text could not be finished in time: no text of
        that length can be, or the model was seen not to have read it all.
        """
        talker, size = self.talker, self.talker.patch_frames
        self.patches, self.finish_reason, self.starts = 0, "interrupted", []
        motion = self.motion()
        needed = FASTEST_SECONDS_PER_TOKEN * sum(map(len, self.text))
        overflows = needed > self.track.seconds
        tail: list[Streams] = []
        for index, window in enumerate(aligned(self.text, moves(motion), size)):
            self.starts.append(self.patches)
            given = motion[self.patches * size : (self.patches + window.patches) * size]
            for patch in self._window(index, window, given, tail):
                tail = [*tail, patch][-CARRIED_PATCHES:]
                self.patches += 1
                yield talker.model.stats.denormalise(Streams(audio=patch["audio"]))
            overflows |= self.generation is not None and self.generation.finish_reason == "overflow"
        self.finish_reason = "overflow" if overflows else "stop"

    def _window(self, index: int, window: Window, given: Tensor, tail: list[Streams]) -> Iterator[Streams]:
        """Both streams of each patch, normalised; a window without words is silent."""
        talker, size = self.talker, self.talker.patch_frames
        padded = torch.nn.functional.pad(given, (0, 0, 0, -len(given) % size)).unflatten(0, (-1, size))
        text = fitting(talker, window.text, len(padded) + CARRIED_PATCHES)
        if not text:
            quiet = torch.zeros(1, padded.shape[0] * size * talker.audio_vae.hop, device=talker.device)
            silence = Streams(audio=talker.audio_vae.encode(quiet)[0].unflatten(0, (-1, size)))
            audio = talker.model.stats.normalise(silence)["audio"]
            yield from (Streams(audio=a, motion=m) for a, m in zip(audio, padded, strict=True))
            return
        request = Request(
            text_ids=text,
            task="v2a",
            speaker=self.voice.embedding[0],
            first_motion=tail[0]["motion"][0] if tail else given[0],
            seed=part_seed(self.seed, index),
            sampling=self.sampling,
            prefix=stacked(tail) if tail else None,
            given=Streams(motion=given),
            max_patches=len(padded),
        )
        for made, motion in zip(self.generated(request), padded, strict=True):
            yield Streams(audio=made["audio"], motion=motion)

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks in order, one a patch, of sound alone; `samples` in all."""
        left = self.samples
        with Stages() as stages:
            latents, sounds = stages.channel(QUEUED), stages.channel(QUEUED)
            stages.feed(lambda: with_threads(self.talker.threads, self.made()), latents)
            stages.feed(lambda: with_threads(1, self.talker.decoded(latents)), sounds)
            for pcm in sounds:
                pcm = pcm[:left]
                yield Chunk((self.samples - left) / SAMPLE_RATE, pcm, NO_FRAMES)
                left -= len(pcm)
        if left:  # a frame's stamp may be rounded down by up to a tenth of a frame
            yield Chunk((self.samples - left) / SAMPLE_RATE, np.zeros(left, np.float32), NO_FRAMES)

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """The video's own packets with the speech."""
        return DubWriter(path, self.source, self.track.start)


def moves(motion: Tensor) -> np.ndarray:
    """(T,) bool: in which frames the face moves as it does in speech; motion (T, M) normalised.

    Windows end where it is still: between sentences a mouth rests.
    """
    change = torch.diff(motion, dim=0, prepend=motion[:1]).square().mean(1).sqrt()
    smooth = torch.nn.functional.avg_pool1d(change[None, None], 5, 1, 2, count_include_pad=False)[0, 0]
    return (smooth > STILL * smooth.median()).cpu().numpy()
