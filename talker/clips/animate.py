"""A face for given speech (A2V): a recording of any length, or sound as it arrives."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from heads.solver import Sampling
from heads.streams import Streams
from talker.clips.clip import Clip, Generate, Piece, Take, Writer
from talker.clips.continuation import CARRIED_PATCHES, Continuation, part_seed
from talker.clips.text import fitting, sentences_of, weight
from talker.clips.windows import Window, aligned, at_pauses
from talker.clock import FRAME_RATE, HOP
from talker.errors import UserError
from talker.generation.request import Request
from talker.identity import Portrait
from talker.media.encoders import Mp4Writer
from talker.media.files import check_output
from talker.media.loudness import LoudnessNormalizer, LoudnessProfile, measure_loudness
from talker.media.readers import blocks, stream_audio
from talker.media.remux import AnimationWriter
from talker.stages import Channel
from talker.system import System

log = logging.getLogger(__name__)

# Without a text the face follows the sound alone, so a window is short and is preceded by the last seconds of
# both streams; together they are about as long as the clips that the default was trained on.
LIVE_WINDOW, LIVE_CARRIED = 4, 24  # patches
LIVE_STEPS = 2.0  # usual steps that motion may take at the border of two such windows


def lookahead_seconds(system: System) -> float:
    """Sound after the beginning of a chunk that `Talker.animate_stream` needs for it: a window, and the
    look-ahead of the audio encoder.
    """
    patch = system.patch_frames
    frames = LIVE_WINDOW * patch + -(-system.audio_vae.encoder_lookahead // patch) * patch
    return frames / FRAME_RATE


@dataclass(frozen=True)
class Animation(Clip):
    """A recording, and the face that speaks it. `windows`: None for short ones without a text."""

    system: System
    source: Path
    survey: LoudnessProfile
    windows: tuple[Window, ...] | None
    portrait: Portrait
    seed: int
    sampling: Sampling | None = None
    generates_audio: ClassVar[bool] = False

    @classmethod
    def of(
        cls,
        system: System,
        audio: str | Path,
        portrait: Portrait,
        text: str | None = None,
        transcriber: Callable[[Tensor], str] | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Animation:
        """See `Talker.animate`."""
        path = Path(audio)
        sentences = None if text is None else sentences_of(system, text)
        found = measure_loudness(path)
        windows = None
        if not found.speech_mask.any():
            log.warning("%s holds no speech: the face does not speak", path)
        elif sentences is not None:
            windows = _windows(system, sentences, found.speech_mask)
        elif transcriber is not None:
            windows = _transcribed(system, path, found, transcriber)
        return cls(system, path, found, windows, portrait, seed, sampling)

    @property
    def expected_seconds(self) -> float:
        """How long it will be."""
        return self.survey.seconds

    def make(self, take: Take, generate: Generate) -> Iterator[Piece]:
        """See `Clip.make`; each piece has the recording's own samples (mono, 24 kHz)."""
        return self.pieces_of(stream_audio(self.source), take, generate)

    def pieces_of(self, sound: Iterable[Tensor], take: Take, generate: Generate) -> Iterator[Piece]:
        """`make` with these pieces (n,) of the recording."""
        # An encoder that hears a recording only as a whole gets it in pieces of up to 30 s.
        streams = self.system.audio_vae.encodes_streams
        whole = None if streams else at_pauses(self.survey.speech_mask, self.system.patch_frames)
        yield from _moving(
            self, take, generate, sound, LoudnessNormalizer(self.survey.level), self.windows, whole
        )
        take.finish_reason = "stop"

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """An mp4 with the recording's own sound."""
        return AnimationWriter(check_output(path), self.system.resolution, self.source)


@dataclass(frozen=True)
class LiveAnimation(Clip):
    """A face for sound of unknown length that arrives in a channel; it can be made only once."""

    system: System
    sound: Channel[np.ndarray]
    portrait: Portrait
    level: float | None
    seed: int
    sampling: Sampling | None = None
    generates_audio: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.system.audio_vae.encodes_streams:
            raise UserError(
                "these weights encode a recording only as a whole (Whisper): save the sound and use animate"
            )
        if self.level is not None and not 0 <= self.level <= 1:  # also false for nan
            raise UserError(f"the level must be between 0 and 1, as root mean square, not {self.level}")

    @property
    def inputs(self) -> tuple[Channel, ...]:
        """The channel ends with the chunks, and the chunks with it."""
        return (self.sound,)

    @property
    def expected_seconds(self) -> float:
        """Unknown."""
        return 0.0

    def make(self, take: Take, generate: Generate) -> Iterator[Piece]:
        """See `Clip.make`; each piece has the sound's own samples."""
        arriving = (_checked(chunk, number) for number, chunk in enumerate(self.sound))
        yield from _moving(self, take, generate, arriving, LoudnessNormalizer(self.level), None, None)
        take.finish_reason = "stop"

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """An mp4."""
        return Mp4Writer(path, self.system.resolution)


def _checked(chunk: np.ndarray, number: int) -> Tensor:
    """A chunk of arriving sound (n,).

    Raises:
        UserError: it is no such sound.
    """
    chunk = np.asarray(chunk)
    if chunk.ndim != 1 or chunk.dtype.kind != "f":
        raise UserError(
            f"chunk {number} of the sound is {chunk.dtype} of shape {chunk.shape}: give mono samples (n,) as "
            "float32 in [-1, 1]"
        )
    if not np.isfinite(chunk).all():
        raise UserError(f"chunk {number} of the sound holds NaN or infinity: give samples in [-1, 1]")
    return torch.from_numpy(np.ascontiguousarray(chunk, np.float32))


def _moving(
    clip: Animation | LiveAnimation,
    take: Take,
    generate: Generate,
    sound: Iterable[Tensor],
    leveller: LoudnessNormalizer,
    windows: Iterable[Window] | None,
    whole: Iterable[int] | None,
) -> Iterator[Piece]:
    """Samples of each patch and its motion, window by window.

    Args:
        sound: pieces (n,) at 24 kHz.
        windows: None: short ones without a text.
        whole: patches of each piece that is encoded as a whole; None: encoded as it arrives.
    """
    system = clip.system
    size = system.patch_frames
    heard, kept = itertools.tee(blocks(sound, size * HOP))
    latents = _encoded(system, map(leveller, heard), whole)
    carried = LIVE_CARRIED if windows is None else CARRIED_PATCHES
    parts = Continuation(take, generate, carried, free_steps=LIVE_STEPS if windows is None else 0.0)
    endless = itertools.repeat(Window(LIVE_WINDOW))
    for index, window in enumerate(endless if windows is None else windows):
        patches = list(itertools.islice(latents, window.patches))
        if not patches:
            return
        given, tail = Streams(audio=torch.cat(patches)), parts.tail
        request = Request(
            text=fitting(system, window.text, "a2v", len(patches) * size, carried * size),
            task="a2v",
            first_motion=clip.portrait.motion if tail is None else tail["motion"][0],
            prefix=tail,
            given=given,
            seed=part_seed(clip.seed, index),
            sampling=clip.sampling,
        )
        for patch in parts.part(request, given):
            yield Piece(patch, next(kept).numpy())


def _encoded(system: System, levelled: Iterable[Tensor], whole: Iterable[int] | None) -> Iterator[Tensor]:
    """Raw audio latents (P, C) of each patch of samples; the last may have fewer frames."""
    size = system.patch_frames
    padded = (torch.nn.functional.pad(block, (0, -len(block) % HOP)) for block in levelled)
    ready: Iterator[Tensor]
    if whole is not None:
        spans = (list(itertools.islice(padded, patches)) for patches in whole)
        ready = (system.encode(torch.cat(span)) for span in spans if span)
    else:
        ready = system.encode_stream(padded)
    held: list[Tensor] = []
    for latents in ready:
        *patches, rest = torch.cat([*held, latents]).split(size)
        if len(rest) == size:
            patches, rest = [*patches, rest], rest[:0]
        yield from patches
        held = [rest]
    if held and len(held[0]):
        yield held[0]


def _windows(system: System, sentences: tuple[str, ...], speaks: np.ndarray) -> tuple[Window, ...]:
    found = aligned(sentences, speaks, system.patch_frames, lambda text: weight(system, text))
    return tuple(found)


def _transcribed(
    system: System, path: Path, found: LoudnessProfile, transcriber: Callable[[Tensor], str]
) -> tuple[Window, ...]:
    """Windows with what a recogniser hears in each 30 s; what cannot be spoken is left out."""
    size, frames = system.patch_frames, found.speech_mask
    start = 0
    sound = blocks(stream_audio(path), size * HOP)
    windows: list[Window] = []
    for patches in at_pauses(frames, size):
        stop = start + patches * size
        heard = transcriber(torch.cat(list(itertools.islice(sound, patches))))
        try:
            windows += _windows(system, sentences_of(system, heard), frames[start:stop])
        except UserError:
            windows.append(Window(patches))
        start = stop
    return tuple(windows)
