"""Text, a voice and a portrait become sound and frames, patch by patch."""

from __future__ import annotations

import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE, DecoderState
from heads.solver import Sampling
from heads.streams import Streams
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE, Portrait
from talker.checkpoint import PUPPET, CheckpointError, load_component
from talker.config import FRAME_RATE, SAMPLE_RATE, TalkerConfig
from talker.errors import UserError
from talker.generate import Request, StopRule, generate
from talker.media.audio import read_voice
from talker.media.face import read_portrait
from talker.media.mux import Mp4Writer, check_output
from talker.model import TalkerModel
from talker.shipped import shipped
from talker.speaker import SpeakerEncoder, SpeakerEncoderConfig
from talker.stages import Stages
from talker.text import PhonemeTokenizer, Tokenizer, split_sentences

Item = TypeVar("Item")

# Patches of one sentence that the next one is given as its past, so that voice and head go on from there.
# They are the silence that a sentence ends in and look to the model like the silence that every clip begins
# with; their words are not in the next sentence's text, so they must not hold any.
CARRIED_PATCHES = 1
# Generation is cut where speech at the slowest pace (a token is a phoneme or a pause) would long be over.
SLOWEST_SECONDS_PER_TOKEN = 0.2
PAUSES_SECONDS = 2.0
QUEUED_PATCHES = 4


@dataclass(frozen=True)
class Voice:
    """A speaker embedding (1, S), computed once."""

    name: str
    embedding: Tensor


@dataclass(frozen=True)
class Face:
    """A portrait as the renderer knows it, computed once."""

    name: str
    portrait: Portrait


@dataclass(frozen=True)
class Chunk:
    """One patch of output: pcm (samples,) float32 at 24 kHz, frames (n, H, W, 3) uint8 RGB, equally long."""

    start_seconds: float
    pcm: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class Report:
    """What `save` did. `rtf`: wall time from the call to the closed file, over the length of the clip."""

    output: str
    duration_seconds: float
    patches: int
    finish_reason: str
    rtf: float
    first_chunk_seconds: float
    seed: int


@dataclass
class Utterance:
    """A clip to be: nothing is computed until it is iterated over or saved; each time gives the same bits."""

    talker: Talker
    sentences: list[list[int]]
    voice: Voice
    face: Face
    seed: int
    sampling: Sampling
    preparation_seconds: float = 0.0
    patches: int = field(default=0, init=False)
    finish_reason: str = field(default="", init=False)

    @property
    def most_patches(self) -> int:
        """No more patches than this will come."""
        return sum(self.talker.most_patches(ids) for ids in self.sentences)

    @torch.inference_mode()
    def latents(self) -> Iterator[Streams]:
        """Raw latents of each patch: audio (P, C) and motion (P, M).

        `finish_reason` is "stop" if every sentence ended by itself, "length" if one was cut.
        """
        talker, prefix = self.talker, None
        self.patches, self.finish_reason = 0, "stop"
        for index, ids in enumerate(self.sentences):
            request = Request(
                text_ids=ids,
                task="t2av",
                speaker=self.voice.embedding[0],
                first_motion=talker.model.stats.normalise(
                    Streams(motion=self.face.portrait.motion[0])
                ).motion,
                seed=sentence_seed(self.seed, index),
                sampling=self.sampling,
                prefix=prefix,
                given=None,
                max_patches=talker.most_patches(ids),
                min_patches=1,
                stop=talker.stop,
            )
            generation = generate(talker.model, request)
            tail: list[Streams] = []
            for patch in generation:
                tail = [*tail, patch][-CARRIED_PATCHES:]
                self.patches += 1
                yield talker.model.stats.denormalise(patch)
            if generation.finish_reason == "length":
                self.finish_reason = "length"
            prefix = _stacked(tail) if tail else prefix

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks in order, one a patch, while the next ones are being made."""
        talker = self.talker
        lag = math.ceil(talker.audio_vae.lookahead / talker.patch_frames)
        with Stages() as stages:
            audio, motion = (stages.channel(QUEUED_PATCHES + lag) for _ in range(2))
            sounds, pictures = (stages.channel(QUEUED_PATCHES + lag) for _ in range(2))
            stages.feed(lambda: _with_threads(1, self.latents()), audio, motion)
            stages.feed(lambda: _with_threads(1, talker.decoded(audio)), sounds)
            stages.feed(
                lambda: _with_threads(talker.threads - 1, talker.rendered(motion, self.face)), pictures
            )
            start = 0
            for pcm, frames in zip(sounds, pictures, strict=True):
                yield Chunk(start / FRAME_RATE, pcm, frames)
                start += len(frames)

    def save(self, path: str | Path, progress: Callable[[Chunk], None] | None = None) -> Report:
        """Write an mp4 as the chunks come; `progress` is called after each.

        Raises:
            UserError: the path cannot be written to. Whatever happens, no half-written file stays.
        """
        called, first, frames = time.perf_counter() - self.preparation_seconds, 0.0, 0
        with Mp4Writer(check_output(path), self.talker.motion_ae.config.resolution) as writer:
            for chunk in self:
                first = first or time.perf_counter() - called
                writer.write(chunk.pcm, chunk.frames)
                frames += len(chunk.frames)
                if progress is not None:
                    progress(chunk)
        seconds = frames / FRAME_RATE
        return Report(
            output=str(path),
            duration_seconds=round(seconds, 3),
            patches=self.patches,
            finish_reason=self.finish_reason,
            rtf=round((time.perf_counter() - called) / seconds, 4),
            first_chunk_seconds=round(first, 4),
            seed=self.seed,
        )


class Talker:
    """The whole system: a model between two codecs, and a speaker encoder. Serves any number of calls."""

    def __init__(
        self,
        model: TalkerModel,
        audio_vae: AudioVAE,
        motion_ae: MotionAE,
        speaker: SpeakerEncoder,
        tokenizer: Tokenizer | None = None,
        stop: StopRule | None = None,
    ) -> None:
        self.model, self.audio_vae, self.motion_ae, self.speaker = model, audio_vae, motion_ae, speaker
        self.tokenizer = tokenizer or PhonemeTokenizer()
        self.stop = stop or StopRule.paper()
        self.patch_frames = model.config.patch_frames
        self.device = next(model.parameters()).device
        self.threads = torch.get_num_threads()
        assert audio_vae.hop * FRAME_RATE == audio_vae.sample_rate == SAMPLE_RATE

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None, device: str = "cpu") -> Talker:
        """From a native checkpoint: a folder of talker/, audio_vae/, motion_ae/ and speaker/.

        Without a folder, the default that the package carries: synthetic people only, no download.

        Raises:
            UserError: a component is missing or does not fit.
        """
        root = PUPPET if folder is None else Path(folder)
        try:
            talker = cls(
                load_component(TalkerModel, TalkerConfig, root / "talker", device),
                load_component(AudioVAE, AudioVAEConfig, root / "audio_vae", device),
                load_component(MotionAE, MotionAEConfig, root / "motion_ae", device),
                load_component(SpeakerEncoder, SpeakerEncoderConfig, root / "speaker", device),
            )
        except CheckpointError as error:
            raise UserError(str(error)) from error
        talker.tokenizer.encode("Hello.")  # loads its lexicon, which would delay the first sentence
        return talker

    @torch.inference_mode()
    def voice(self, voice: str | Path | None = None) -> Voice:
        """A voice to speak with: a shipped name, any recording of speech, or None for the first shipped.

        Raises:
            UserError: no such file or name, no sound, or too little of it.
        """
        path = shipped("voices", voice)
        return Voice(path.stem, self.speaker.embed(read_voice(path)[None].to(self.device)))

    @torch.inference_mode()
    def portrait(self, portrait: str | Path | None = None, crop: str = "face") -> Face:
        """A face to speak with: a shipped name, any picture, or None for the first shipped.

        `crop`: "face" finds and frames the face, "none" takes the largest centred square as it is.

        Raises:
            UserError: no such file or name, no picture, or no face in it.
        """
        path = shipped("portraits", portrait)
        image = read_portrait(path, self.motion_ae.config.resolution, crop)
        return Face(path.stem, self.motion_ae.portrait(image.to(self.device)))

    def say(
        self,
        text: str,
        voice: Voice | None = None,
        portrait: Face | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Utterance:
        """Speech and video of `text`, sentence by sentence: `.save(path)` it, or iterate over its chunks.

        Raises:
            UserError: there is nothing that can be spoken.
        """
        called = time.perf_counter()
        try:
            sentences = [self.tokenizer.encode(sentence) for sentence in split_sentences(text)]
        except ValueError as error:
            raise UserError(f"the text cannot be spoken: {error}") from error
        sentences = [ids for ids in sentences if ids]
        if not sentences:
            raise UserError("the text is empty: give at least one word")
        prepared = time.perf_counter() - called
        voice, portrait = voice or self.voice(), portrait or self.portrait()
        return Utterance(self, sentences, voice, portrait, seed, sampling or Sampling.puppet(), prepared)

    def stream(
        self,
        text: str,
        voice: Voice | None = None,
        portrait: Face | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Iterator[Chunk]:
        """The chunks of `say`, the same bits, as they are made."""
        return iter(self.say(text, voice, portrait, seed, sampling))

    def most_patches(self, ids: list[int]) -> int:
        """The most patches that a sentence of these tokens may take."""
        config = self.model.config
        seconds = PAUSES_SECONDS + SLOWEST_SECONDS_PER_TOKEN * len(ids)
        plan = config.layout.plan(len(ids), 0)
        room = (config.backbone.max_positions - plan.start) // plan.stride - CARRIED_PATCHES
        return min(math.ceil(seconds * FRAME_RATE / self.patch_frames), room)

    @torch.inference_mode()
    def decoded(self, patches: Iterable[Streams]) -> Iterator[np.ndarray]:
        """Samples (P * 960,) of each patch; the decoder lags by its look-ahead and catches up at the end."""
        vae, state = self.audio_vae, DecoderState()
        end = torch.zeros(0, vae.latent_dim, device=self.device)
        waiting = torch.zeros(0, device=self.device)
        for latents in itertools.chain((patch["audio"] for patch in patches), [end]):
            pcm = vae.decode(latents[None], state, last=latents is end)
            waiting = torch.cat([waiting, pcm[0].float()])
            while len(waiting) >= self.patch_frames * vae.hop:
                patch, waiting = waiting.tensor_split([self.patch_frames * vae.hop])
                yield patch.clamp(-1, 1).cpu().numpy()

    @torch.inference_mode()
    def rendered(self, patches: Iterable[Streams], face: Face) -> Iterator[np.ndarray]:
        """Frames (P, H, W, 3) uint8 of each patch; a patch is always rendered by itself."""
        for patch in patches:
            frames = self.motion_ae.decode(patch["motion"], face.portrait)
            bytes_ = frames.add_(1).mul_(127.5).round_().to(torch.uint8)
            yield bytes_.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def sentence_seed(seed: int, index: int) -> int:
    """The seed of a later sentence: the first has the request's own."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:7], "big")


def _with_threads(count: int, items: Iterator[Item]) -> Iterator[Item]:
    """The items, made with `count` threads within an operation; to be run in a worker of its own.

    The talker's operations are too small to share, so one core is theirs and rendering gets the rest. Left to
    itself every stage would take all cores, and they would wait for each other inside each operation.
    """
    torch.set_num_threads(max(1, count))
    yield from items


def _stacked(patches: list[Streams]) -> Streams:
    """N patches (P, C) as one prefix (N, P, C)."""
    return Streams(
        **{name: torch.stack([patch[name] for patch in patches]) for name, _ in patches[0].items()}
    )
