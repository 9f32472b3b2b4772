"""Text, a voice and a portrait become sound and frames, patch by patch."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE, DecoderState
from heads.solver import Sampling
from heads.streams import Streams
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from talker.checkpoint import PUPPET, CheckpointError, load_component
from talker.clips.clip import (
    CARRIED_PATCHES,
    NO_FRAMES,
    Chunk,
    Clip,
    Face,
    Seam,
    Voice,
    Writer,
    part_seed,
    with_threads,
)
from talker.clips.cloning import behind, cloned
from talker.clips.together import made_together
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.errors import UserError
from talker.generation.autoregressive import Request, StopRule
from talker.generation.guards import Guard
from talker.generation.running_batch import DEFAULT_CAPACITY
from talker.media.audio import read_voice
from talker.media.face import read_portrait
from talker.media.mux import Mp4Writer, SoundWriter
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.shipped import shipped
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.stages import Stages
from talker.text.tokenizer import PhonemeTokenizer, Tokenizer, split_sentences

if TYPE_CHECKING:
    from talker.clips.animate import Animation
    from talker.clips.dub import Dubbing

# Generation is cut where speech at the slowest pace (a token is a phoneme or a pause) would long be over.
SLOWEST_SECONDS_PER_TOKEN = 0.2
PAUSES_SECONDS = 2.0
SECONDS_PER_TOKEN = 0.08  # usual pace
QUEUED_PATCHES = 4


@dataclass
class Utterance(Clip):
    """Speech of a text, sentence by sentence, with a face or, where `face` is None, alone."""

    talker: Talker
    sentences: list[list[int]]
    voice: Voice
    face: Face | None
    seed: int
    sampling: Sampling
    stop: StopRule
    preparation_seconds: float = 0.0

    @property
    def most_patches(self) -> int:
        """No more patches than this will come."""
        return sum(self.talker.most_patches(ids, self.voice) for ids in self.sentences)

    @property
    def expected_seconds(self) -> float:  # type: ignore[override]
        """About how long it will be."""
        return round(sum(SECONDS_PER_TOKEN * len(ids) + 0.5 for ids in self.sentences), 1)

    def latents(self) -> Iterator[Streams]:
        """Raw latents of each patch: audio (P, C), and motion (P, M) where there is a face.

        `finish_reason` is "stop" if every sentence ended by itself, else that of the first that did not.
        """
        return self.made()

    @torch.inference_mode()
    def make(self) -> Iterator[Streams]:
        """See `latents`."""
        talker, tail, reasons = self.talker, list[Streams](), list[str | None]()
        seam = Seam()
        self.patches, self.finish_reason, self.starts = 0, "interrupted", []
        for index, ids in enumerate(self.sentences):
            generation = self.generated(self._request(index, ids, tail))
            self.starts.append(self.patches)
            tail = []
            for patch in generation:
                raw = talker.model.stats.denormalise(patch)
                if raw.motion is not None:
                    raw = replace(raw, motion=seam(raw.motion, begins=not tail))
                tail = [*tail, patch][-CARRIED_PATCHES:]
                self.patches += 1
                yield raw
            reasons.append(generation.finish_reason)
        self.finish_reason = next((why for why in reasons if why and why != "stop"), "stop")

    def _request(self, index: int, ids: list[int], tail: list[Streams]) -> Request:
        """A sentence after the voice's own prefix and the last patches of the sentence before."""
        talker, voice = self.talker, self.voice
        # What is the beginning of the first sentence precedes no other.
        prefix = voice.prefix if voice.said or index == 0 else None
        return Request(
            text_ids=[*voice.said, *ids],
            task="tts" if self.face is None else "t2av",
            speaker=voice.embedding[0],
            first_motion=None if self.face is None else talker.first_motion(self.face),
            seed=part_seed(self.seed, index),
            sampling=self.sampling,
            prefix=behind(prefix, tail),
            max_patches=talker.most_patches(ids, voice),
            min_patches=1,
            stop=self.stop,
            guard=talker.guard,
        )

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks in order, one a patch, while the next ones are being made."""
        talker, face = self.talker, self.face
        lag = math.ceil(talker.audio_vae.lookahead / talker.patch_frames)
        with Stages() as stages:
            audio, motion = (stages.channel(QUEUED_PATCHES + lag) for _ in range(2))
            sounds, pictures = (stages.channel(QUEUED_PATCHES + lag) for _ in range(2))
            stages.feed(lambda: with_threads(1, self.made()), audio, *([motion] if face else []))
            stages.feed(lambda: with_threads(1, talker.decoded(audio)), sounds)
            if face is not None:
                stages.feed(lambda: with_threads(talker.threads - 1, talker.rendered(motion, face)), pictures)
            unseen = itertools.repeat(NO_FRAMES)
            start = 0
            for pcm, frames in zip(sounds, unseen if face is None else pictures, strict=face is not None):
                yield Chunk(start / SAMPLE_RATE, pcm, frames)
                start += len(pcm)

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """An mp4, or a sound file where there is no face."""
        if self.face is None:
            return SoundWriter(path)
        return Mp4Writer(path, self.talker.motion_ae.config.resolution)


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
    def voice(
        self, voice: str | Path | None = None, text: str | None = None, prefix_seconds: float | None = None
    ) -> Voice:
        """A voice to speak with: a shipped name, any recording of speech, or None for the first shipped.

        By itself the recording gives no more than the speaker's embedding. With `text`, the words in it, each
        sentence is spoken as the next one after it; with `prefix_seconds` what is said goes on from the first
        seconds of the recording, with whose words it must begin. Neither is heard in the result.

        Raises:
            UserError: no such file or name, no sound, too little of it, or too much to go on from.
        """
        path = shipped("voices", voice)
        pcm = read_voice(path)[None].to(self.device)
        embedding = self.speaker.embed(pcm)
        if text is None and prefix_seconds is None:
            return Voice(path.stem, embedding)
        return cloned(self, Voice(path.stem, embedding), pcm, text, prefix_seconds)

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
        audio_only: bool = False,
        stop: StopRule | None = None,
    ) -> Utterance:
        """Speech and video of `text`, sentence by sentence: `.save(path)` it, or iterate over its chunks.

        `audio_only`: speech alone, by the task that is trained for that; the portrait is not used.
        `stop`: when the stop predictor is believed; None: as these weights want it.

        Raises:
            UserError: there is nothing that can be spoken.
        """
        called = time.perf_counter()
        sentences = self.sentences(text)
        prepared = time.perf_counter() - called
        voice, face = voice or self.voice(), None if audio_only else portrait or self.portrait()
        if voice.said and min(self.most_patches(ids, voice) for ids in sentences) < 1:
            raise UserError("what the voice's recording says is too long a text: give a shorter recording's")
        sampling, stop = sampling or Sampling.puppet(), stop or self.stop
        return Utterance(self, sentences, voice, face, seed, sampling, stop, prepared)

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

    def animate(
        self,
        audio: str | Path,
        portrait: Face | None = None,
        text: str | None = None,
        transcriber: Callable[[Tensor], str] | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Animation:
        """Video of a recording: `.save(path)` it with its own sound, or iterate over its chunks.

        `text` says what is spoken; a `transcriber` (see `talker.transcript`) finds it out; it works without.

        Raises:
            UserError: no such file, no sound in it, or a text that cannot be spoken.
        """
        from talker.clips.animate import Animation

        return Animation.of(
            self, audio, portrait or self.portrait(), text, transcriber, seed, sampling or Sampling.puppet()
        )

    def animate_stream(
        self,
        chunks: Iterable[np.ndarray],
        portrait: Face | None = None,
        level: float | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Iterator[Chunk]:
        """Video of sound of unknown length as it arrives; pieces (n,) float32 mono at 24 kHz, of any n.

        A chunk comes when `talker.animate.lookahead_seconds(t)` of sound after its beginning have come. The
        same bits come however the sound is cut into pieces, and, with the recording's `level`, as from
        `animate` without a text.

        Raises:
            UserError: these weights hear a recording only as a whole; later, at a piece that is no such
                sound (integers, several channels, NaN).
        """
        from talker.clips.animate import live

        return live(self, chunks, portrait or self.portrait(), level, seed, sampling or Sampling.puppet())

    def dub(
        self,
        video: str | Path,
        text: str,
        voice: Voice | None = None,
        crop: str = "face",
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Dubbing:
        """Speech that fits a video of somebody speaking `text`: `.save(path)` it, or iterate over its chunks.

        Raises:
            UserError: no such file, no face in it, or a text that cannot be spoken.
        """
        from talker.clips.dub import Dubbing

        return Dubbing.of(self, video, text, voice or self.voice(), crop, seed, sampling or Sampling.puppet())

    def map(self, clips: Iterable[Clip], capacity: int = DEFAULT_CAPACITY) -> Iterator[Clip]:
        """The same clips, of any tasks, in their order, each as soon as the model has made it, many at a
        time as rows of one batch. Save them or iterate over them as ever.

        A clip has the bits of a map of it alone with this capacity; by itself it differs by rounding. One
        that cannot be made has its `error`, which saving it raises; the others go on.
        """
        with Stages() as stages:
            ready = stages.channel(capacity)
            stages.feed(lambda: with_threads(1, made_together(self.model, clips, capacity)), ready)
            yield from ready

    def sentences(self, text: str) -> list[list[int]]:
        """Token ids of each sentence.

        Raises:
            UserError: there is nothing that can be spoken.
        """
        try:
            sentences = [self.tokenizer.encode(sentence) for sentence in split_sentences(text)]
        except ValueError as error:
            raise UserError(f"the text cannot be spoken: {error}") from error
        sentences = [ids for ids in sentences if ids]
        if not sentences:
            raise UserError("the text is empty: give at least one word")
        return sentences

    def first_motion(self, face: Face) -> Tensor:
        """The portrait's own motion (M,), normalised."""
        motion = self.model.stats.normalise(Streams(motion=face.portrait.motion[0])).motion
        assert motion is not None
        return motion

    @functools.cached_property
    @torch.inference_mode()
    def guard(self) -> Guard:
        """What ends speech that does not end itself: these codecs' idea of silence decides."""
        silence = self.audio_vae.encode(torch.zeros(1, self.audio_vae.sample_rate, device=self.device))[0]
        quiet = self.model.stats.normalise(Streams(audio=silence[len(silence) // 2])).audio
        assert quiet is not None
        return Guard(quiet=quiet)

    def most_patches(self, ids: list[int], voice: Voice | None = None) -> int:
        """The most patches that a sentence of these tokens may take in this voice."""
        config = self.model.config
        seconds = PAUSES_SECONDS + SLOWEST_SECONDS_PER_TOKEN * len(ids)
        said, before = (0, 0) if voice is None else (len(voice.said), voice.prefix_patches)
        plan = config.layout.plan(said + len(ids), 0)
        room = (config.backbone.max_positions - plan.start) // plan.stride - CARRIED_PATCHES - before
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
