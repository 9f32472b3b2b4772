"""A face for given speech (A2V): a recording of any length, or sound as it arrives."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from audio_vae.model import EncoderState
from heads.solver import Sampling
from heads.streams import Streams
from talker.clips.clip import (
    CARRIED_PATCHES,
    Chunk,
    Clip,
    Face,
    Seam,
    Writer,
    part_seed,
    stacked,
    with_threads,
)
from talker.clips.windows import Window, aligned, at_pauses
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.errors import UserError
from talker.generation.autoregressive import Generation, Request, generate
from talker.media.mux import check_output
from talker.media.remux import AnimationWriter
from talker.media.sound import Leveller, Survey, blocks, pieces, survey
from talker.stages import Stages

if TYPE_CHECKING:
    from talker.pipeline import Talker

log = logging.getLogger(__name__)

# Without a text the face follows the sound alone, so a window is short and knows the last seconds of both;
# together they are about as long as what the default was trained on.
LIVE_WINDOW, LIVE_CARRIED = 4, 24  # patches
LIVE_STEPS = 2.0  # usual steps that motion may take at the border of two such windows
QUEUED = 4


def lookahead_seconds(talker: Talker) -> float:
    """How much sound after its beginning `animate_stream` wants for a chunk: the window, and what the audio
    encoder hears beyond it.
    """
    patch = talker.patch_frames
    waits = LIVE_WINDOW * patch + -(-talker.audio_vae.heard_after // patch) * patch
    return waits / FRAME_RATE


@dataclass
class Animation(Clip):
    """A recording, and the face that speaks it."""

    talker: Talker
    source: Path
    survey: Survey
    windows: list[Window] | None
    face: Face
    seed: int
    sampling: Sampling
    preparation_seconds: float = 0.0

    @classmethod
    def of(
        cls,
        talker: Talker,
        audio: str | Path,
        face: Face,
        text: str | None,
        transcriber: Callable[[Tensor], str] | None,
        seed: int,
        sampling: Sampling,
    ) -> Animation:
        """See `Talker.animate`."""
        path = Path(audio)
        sentences = None if text is None else talker.sentences(text)
        found = survey(path)
        windows = None
        if not found.speaks.any():
            log.warning("no speech is heard in %s: the face waits", path)
        elif sentences is not None:
            windows = aligned(sentences, found.speaks, talker.patch_frames)
        elif transcriber is not None:
            windows = transcribed(talker, path, found, transcriber)
        return cls(talker, path, found, windows, face, seed, sampling)

    @property
    def expected_seconds(self) -> float:  # type: ignore[override]
        """How long it will be."""
        return self.survey.seconds

    def make(self) -> Iterator[tuple[np.ndarray, Streams]]:
        """Samples of each patch, and its raw motion (n, M)."""
        return self.patches_of(pieces(self.source))

    def patches_of(self, sound: Iterable[Tensor]) -> Iterator[tuple[np.ndarray, Streams]]:
        """`make` of these pieces of sound."""
        self.patches, self.finish_reason, self.starts = 0, "interrupted", []
        talker, leveller = self.talker, Leveller(self.survey.level)
        streams = talker.audio_vae.encodes_streams
        whole = None if streams else at_pauses(self.survey.speaks, talker.patch_frames)
        for pcm, motion in moving(
            talker, sound, leveller, self.windows, self.face, self.seed, self.sampling, whole, self._window
        ):
            self.patches += 1
            yield pcm, motion
        self.finish_reason = "stop"

    def _window(self, request: Request) -> Generation:
        self.starts.append(self.patches)
        return self.generated(request)

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks in order, one a patch, with the recording's own samples (mono, 24 kHz)."""
        return shown(self.talker, self.made(), self.face)

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """An mp4 with the recording's own sound."""
        return AnimationWriter(check_output(path), self.talker.motion_ae.config.resolution, self.source)


def live(
    talker: Talker,
    chunks: Iterable[np.ndarray],
    face: Face,
    level: float | None,
    seed: int,
    sampling: Sampling,
) -> Iterator[Chunk]:
    """See `Talker.animate_stream`."""
    if not talker.audio_vae.encodes_streams:
        raise UserError(
            "these weights hear a recording only as a whole (Whisper, 30 s): save the sound and use animate"
        )
    if level is not None and not 0 <= level <= 1:  # also false for nan
        raise UserError(f"the level must be between 0 and 1, as root mean square, not {level}")
    sound = (_sound(chunk, number) for number, chunk in enumerate(chunks))
    return shown(talker, moving(talker, sound, Leveller(level), None, face, seed, sampling), face)


def _sound(chunk: np.ndarray, number: int) -> Tensor:
    """A piece of arriving sound (n,), found fit to be heard."""
    chunk = np.asarray(chunk)
    if chunk.ndim != 1 or chunk.dtype.kind != "f":
        raise UserError(
            f"chunk {number} of the sound is {chunk.dtype} of shape {chunk.shape}: give mono samples (n,) as "
            "float32 in [-1, 1]"
        )
    if not np.isfinite(chunk).all():
        raise UserError(f"chunk {number} of the sound holds NaN or infinity: give samples in [-1, 1]")
    return torch.from_numpy(np.ascontiguousarray(chunk, np.float32))


@torch.inference_mode()
def moving(
    talker: Talker,
    sound: Iterable[Tensor],
    leveller: Leveller,
    windows: Iterable[Window] | None,
    face: Face,
    seed: int,
    sampling: Sampling,
    whole: Iterable[int] | None = None,
    generated: Callable[[Request], Generation] | None = None,
) -> Iterator[tuple[np.ndarray, Streams]]:
    """Samples of each patch and its motion, window by window.

    Args:
        sound: pieces (n,) at 24 kHz.
        windows: None: short ones without a text.
        whole: patches of each piece that is encoded as a whole; None: encoded as it arrives.
        generated: makes the patches of a request; None: each by itself.
    """
    size = talker.patch_frames * talker.audio_vae.hop
    heard, kept = itertools.tee(blocks(sound, size))
    latents = encoded(talker, map(leveller, heard), whole)
    carried = LIVE_CARRIED if windows is None else CARRIED_PATCHES
    endless = itertools.repeat(Window(LIVE_WINDOW))
    generated = generated or functools.partial(generate, talker.model)
    tail: list[Streams] = []
    seam = Seam(LIVE_STEPS if windows is None else 0.0)
    for index, window in enumerate(endless if windows is None else windows):
        given = list(itertools.islice(latents, window.patches))
        if not given:
            return
        request = Request(
            text_ids=fitting(talker, window.text, len(given) + carried),
            task="a2v",
            speaker=torch.zeros(talker.model.config.global_widths["audio"]),
            first_motion=tail[0]["motion"][0] if tail else talker.first_motion(face),
            seed=part_seed(seed, index),
            sampling=sampling,
            prefix=stacked(tail) if tail else None,
            given=Streams(audio=torch.cat(given)),
            max_patches=len(given),
        )
        for number, (audio, made) in enumerate(zip(given, generated(request), strict=True)):
            tail = [*tail, Streams(audio=audio, motion=made["motion"])][-carried:]
            raw = talker.model.stats.denormalise(Streams(motion=made["motion"][: len(audio)]))["motion"]
            yield next(kept).numpy(), Streams(motion=seam(raw, begins=number == 0))


def encoded(talker: Talker, levelled: Iterable[Tensor], whole: Iterable[int] | None) -> Iterator[Tensor]:
    """Normalised audio latents (P, C) of each patch of samples; the last may have fewer frames."""
    vae, size = talker.audio_vae, talker.patch_frames
    padded = (_to_frames(block, vae.hop).to(talker.device)[None] for block in levelled)
    ready: Iterator[Tensor]
    if whole is not None:
        spans = (list(itertools.islice(padded, patches)) for patches in whole)
        ready = (vae.encode(torch.cat(span, dim=1)) for span in spans if span)
    else:
        ready = _as_it_arrives(talker, padded)
    held = torch.zeros(0, vae.latent_dim, device=talker.device)
    for latents in ready:
        normal = talker.model.stats.normalise(Streams(audio=latents[0])).audio
        assert normal is not None
        held = torch.cat([held, normal])
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if len(held):
        yield held


def transcribed(
    talker: Talker, path: Path, found: Survey, transcriber: Callable[[Tensor], str]
) -> list[Window]:
    """Windows with what a recogniser hears in each 30 s; what it hears as no English is left out."""
    size, frames = talker.patch_frames, found.speaks
    spans, start = at_pauses(frames, size), 0
    sound = blocks(pieces(path), size * talker.audio_vae.hop)
    windows: list[Window] = []
    for patches in spans:
        stop = start + patches * size
        heard = transcriber(torch.cat(list(itertools.islice(sound, patches))))
        try:
            windows += aligned(talker.sentences(heard), frames[start:stop], size)
        except UserError:
            windows.append(Window(patches))
        start = stop
    return windows


def shown(talker: Talker, made: Iterator[tuple[np.ndarray, Streams]], face: Face) -> Iterator[Chunk]:
    """Chunks of samples and motion, rendered while the next are being made."""
    with Stages() as stages:
        sounds, motion, pictures = (stages.channel(QUEUED) for _ in range(3))
        stages.feed(lambda: with_threads(1, made), sounds, motion)
        moved = (streams for _, streams in motion)
        stages.feed(lambda: with_threads(talker.threads - 1, talker.rendered(moved, face)), pictures)
        start = 0
        for (pcm, _), frames in zip(sounds, pictures, strict=True):
            yield Chunk(start / SAMPLE_RATE, pcm, frames)
            start += len(pcm)


def fitting(talker: Talker, text: Sequence[int], patches: int) -> Sequence[int]:
    """As much of a text as fits beside so many patches; more could not be said in that time anyway."""
    config = talker.model.config
    stride = config.layout.plan(0, 0).stride
    return text[: max(0, config.backbone.max_positions - 2 - (patches + 1) * stride)]


def _as_it_arrives(talker: Talker, padded: Iterable[Tensor]) -> Iterator[Tensor]:
    state = EncoderState()
    end = torch.zeros(1, 0, device=talker.device)
    for block in itertools.chain(padded, [end]):
        yield talker.audio_vae.encode(block, state, last=block is end)


def _to_frames(block: Tensor, hop: int) -> Tensor:
    """The block, its last frame filled with silence."""
    return torch.nn.functional.pad(block, (0, -len(block) % hop))
