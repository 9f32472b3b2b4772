"""Video of given speech (task A2V): of a recording of any length, or of live sound."""

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

from heads.sampling import Sampling
from heads.streams import Streams
from talker.clips.clip import Clip, Piece, Writer
from talker.clips.continuation import CARRIED_PATCHES, Continuation, part_seed
from talker.clips.idle import POLL_SECONDS, Idle
from talker.clips.record import Generate, Record
from talker.clips.text import fit_text, sentences_of, text_weight
from talker.clips.windows import Window, aligned, at_pauses
from talker.clock import FRAME_RATE, HOP
from talker.errors import UserError
from talker.generation.request import Request
from talker.identity import Portrait
from talker.media.encoders import VideoWriter
from talker.media.loudness import LoudnessNormalizer, LoudnessProfile, NoiseGate, measure_loudness
from talker.media.provenance import generated_tags, origin_of
from talker.media.readers import blocks, stream_audio
from talker.media.remux import AnimationWriter
from talker.media.tracks import Damage, damage_line
from talker.stages import Channel
from talker.system import System

log = logging.getLogger(__name__)

# Without a text the motion depends on the sound only. So windows are short, and the last seconds of both
# streams precede each window. Together they are about as long as the training clips of the default model.
LIVE_WINDOW, LIVE_CARRIED = 4, 24  # patches
PAUSE_SECONDS = 0.5  # without sound, after which a live clip waits
LIVE_STEPS = 2.0  # see `Seam.free`: steps of motion that are allowed at the border of two such windows


def lookahead_seconds(system: System) -> float:
    """Seconds of sound that `Talker.animate_stream` needs after the start of a chunk.

    This is the length of a window plus the lookahead of the audio encoder.
    """
    patch = system.patch_frames
    frames = LIVE_WINDOW * patch + -(-system.audio_vae.encoder_lookahead // patch) * patch
    return frames / FRAME_RATE


@dataclass(frozen=True, repr=False)
class Animation(Clip):
    """A plan of a video of a recording.

    Args:
        system: the networks.
        source: the recording.
        survey: loudness and speech mask of the recording.
        windows: windows with their text; None: short windows without text.
        portrait: the face to render.
        seed: seed of the noise.
        sampling: None: the defaults of the model.
    """

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
        found = measure_loudness(path, damage := Damage())
        if line := damage_line(path, damage):
            log.warning("%s", line)
        windows = None
        if not found.speech_mask.any():
            log.warning("%s holds no speech: the face will not speak", path)
        elif sentences is not None:
            windows = _windows(system, sentences, found.speech_mask)
        elif transcriber is not None:
            windows = _transcribed(system, path, found, transcriber)
        return cls(system, path, found, windows, portrait, seed, sampling)

    @property
    def expected_seconds(self) -> float:
        """Duration of the clip in seconds."""
        return self.survey.seconds

    @property
    def summary(self) -> tuple[str, ...]:
        """See `Clip.summary`."""
        return (f"recording {self.source.name}", *super().summary)

    def make(self, record: Record, generate: Generate) -> Iterator[Piece]:
        """See `Clip.make`. Each piece holds the samples of the recording, mono at 24 kHz."""
        return self.pieces_of(stream_audio(self.source), record, generate)

    def pieces_of(self, sound: Iterable[Tensor], record: Record, generate: Generate) -> Iterator[Piece]:
        """`make` with the recording given as samples (n,) per block."""
        # An encoder that needs whole recordings (Whisper) gets parts of up to 30 s.
        streams = self.system.audio_vae.encodes_streams
        whole = None if streams else at_pauses(self.survey.speech_mask, self.system.patch_frames)
        yield from _animated(
            self, record, generate, sound, LoudnessNormalizer(self.survey.level), self.windows, whole
        )
        record.finish_reason = "stop"

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """Writer of a video with the sound of the recording."""
        tags = generated_tags(origin_of(self.source, "recording"), _picture_tag(self.portrait))
        return AnimationWriter(path, self.system.resolution, self.source, tags)


@dataclass(frozen=True, repr=False)
class LiveAnimation(Clip):
    """A plan of a video of live sound. It can be made only once, because it reads a channel.

    Args:
        system: the networks.
        sound: channel of samples (n,) float32, mono at 24 kHz.
        portrait: the face to render.
        level: level of the speech as root mean square, 0 to 1; None: estimated.
        seed: seed of the noise.
        sampling: None: the defaults of the model.
        idle: what the face does while no sound arrives; None: the clip continues with the next sound.

    Raises:
        UserError: the model encodes only whole recordings, or the level is out of range.
    """

    system: System
    sound: Channel[np.ndarray]
    portrait: Portrait
    level: float | None
    seed: int
    sampling: Sampling | None = None
    idle: Idle | None = None
    generates_audio: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.system.audio_vae.encodes_streams:
            raise UserError(
                "this model encodes recordings only as a whole (Whisper): save the sound and use animate"
            )
        if self.level is not None and not 0 <= self.level <= 1:  # also false for nan
            raise UserError(f"the level is a root mean square between 0 and 1, not {self.level}")

    @property
    def inputs(self) -> tuple[Channel, ...]:
        """The channel of sound. It is cancelled when the iteration ends."""
        return (self.sound,)

    @property
    def expected_seconds(self) -> float:
        """0, because the duration is unknown."""
        return 0.0

    def make(self, record: Record, generate: Generate) -> Iterator[Piece]:
        """See `Clip.make`. Each piece holds the samples that were received."""
        sound = self.sound if self.idle is None else _with_silence(self.sound, self.idle, self.system)
        arriving = (_checked(chunk, number) for number, chunk in enumerate(sound))
        yield from _animated(
            self, record, generate, arriving, LoudnessNormalizer(self.level), None, None, self.idle
        )
        record.finish_reason = "stop"

    @property
    def tags(self) -> dict[str, str]:
        """Metadata that says what was generated."""
        return generated_tags("a live recording", _picture_tag(self.portrait))

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """Writer of a video."""
        return VideoWriter(path, self.system.resolution, self.tags)


def _with_silence(sound: Channel[np.ndarray], idle: Idle, system: System) -> Iterator[np.ndarray]:
    """The sound, with silence where it stops arriving and a patch is due."""
    arriving = iter(sound)
    while True:
        if not sound.wait(PAUSE_SECONDS):
            while not sound.wait(POLL_SECONDS):
                if idle.is_due():
                    yield np.zeros(system.patch_frames * HOP, np.float32)
        if (chunk := next(arriving, None)) is None:
            return
        idle.taken += len(chunk)
        yield chunk


def _picture_tag(portrait: Portrait) -> str:
    return f"generated from the portrait {portrait.name}"


def _checked(chunk: np.ndarray, number: int) -> Tensor:
    """Convert a chunk of live sound to float32 samples (n,).

    Raises:
        UserError: the chunk is not mono, not floating-point, or not finite.
    """
    chunk = np.asarray(chunk)
    if chunk.ndim != 1 or chunk.dtype.kind != "f":
        raise UserError(
            f"chunk {number} of the sound has dtype {chunk.dtype} and shape {chunk.shape}: give mono samples "
            "(n,) as float32 in [-1, 1]"
        )
    if not np.isfinite(chunk).all():
        raise UserError(f"chunk {number} of the sound holds NaN or infinity: give samples in [-1, 1]")
    return torch.from_numpy(np.ascontiguousarray(chunk, np.float32))


def _animated(
    clip: Animation | LiveAnimation,
    record: Record,
    generate: Generate,
    sound: Iterable[Tensor],
    normalizer: LoudnessNormalizer,
    windows: Iterable[Window] | None,
    whole: Iterable[int] | None,
    idle: Idle | None = None,
) -> Iterator[Piece]:
    """Generate motion window by window, and yield it patch by patch with the samples.

    Args:
        clip: the plan.
        record: the record to fill.
        generate: starts a generation.
        sound: blocks of samples (n,) at 24 kHz.
        normalizer: brings the sound to the usual level of speech before it is encoded.
        windows: None: short windows without text.
        whole: number of patches of each part that is encoded as a whole; None: sound is encoded as a stream.
        idle: what the face does in windows of digital silence; None: it is generated, too.
    """
    system = clip.system
    size = system.patch_frames
    to_encode, kept = itertools.tee(blocks(sound, size * HOP))
    latents = _encoded(system, map(NoiseGate(), map(normalizer, to_encode)), whole)
    carried = LIVE_CARRIED if windows is None else CARRIED_PATCHES
    parts = Continuation(record, generate, carried, free_steps=LIVE_STEPS if windows is None else 0.0)
    endless = itertools.repeat(Window(LIVE_WINDOW))
    if idle is not None:
        idle.join(parts)
    waits = False  # whether the last patch was one of the waiting face
    for index, window in enumerate(endless if windows is None else windows):
        patches = list(itertools.islice(latents, window.patches))
        if not patches:
            return
        sounds = [next(kept).numpy() for _ in patches]
        if idle is not None and not any(map(np.any, sounds)):
            for silence, pcm in zip(patches, sounds, strict=True):
                shown = Streams(audio=silence, motion=idle.motion(len(silence)))
                yield Piece(parts.idle(shown, begins=not waits), pcm)
                waits = True
            continue
        waits = False
        given, tail = Streams(audio=torch.cat(patches)), parts.tail
        request = Request(
            text=fit_text(system, window.text, "a2v", len(patches) * size, carried * size),
            task="a2v",
            first_motion=clip.portrait.motion if tail is None else tail["motion"][0],
            prefix=tail,
            given=given,
            seed=part_seed(clip.seed, index),
            sampling=clip.sampling,
        )
        for patch, pcm in zip(parts.part(request, given), sounds, strict=True):
            yield Piece(patch, pcm)


def _encoded(system: System, levelled: Iterable[Tensor], whole: Iterable[int] | None) -> Iterator[Tensor]:
    """Raw audio latents (P, C) of each patch of samples. The last patch may have fewer frames.

    `levelled`: samples of each patch; `whole`: see `_animated`.
    """
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
    found = aligned(sentences, speaks, system.patch_frames, lambda text: text_weight(system, text))
    return tuple(found)


def _transcribed(
    system: System, path: Path, found: LoudnessProfile, transcriber: Callable[[Tensor], str]
) -> tuple[Window, ...]:
    """Windows with the transcript of each part of up to 30 s. Text that cannot be spoken is left out."""
    size, frames = system.patch_frames, found.speech_mask
    start = 0
    sound = blocks(stream_audio(path), size * HOP)
    windows: list[Window] = []
    for patches in at_pauses(frames, size):
        stop = start + patches * size
        transcript = transcriber(torch.cat(list(itertools.islice(sound, patches))))
        try:
            windows += _windows(system, sentences_of(system, transcript, force=True), frames[start:stop])
        except UserError:
            windows.append(Window(patches))
        start = stop
    return tuple(windows)
