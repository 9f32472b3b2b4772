"""The networks of one checkpoint: generator, audio autoencoder, motion autoencoder and speaker encoder."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE, DecoderState, EncoderState
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE, SourceFeatures
from talker.checkpoint import CheckpointError, load_component, read_config
from talker.clock import HOP, SAMPLE_RATE
from talker.errors import UserError
from talker.generation.autoregressive import AutoregressiveGenerator
from talker.generation.generator import Generator
from talker.media.pixels import to_uint8
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.text.tokenizer import PhonemeTokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ENCODED_TOGETHER = 4  # images per call of the motion encoder


def _autoregressive(folder: Path, device: str, dtype: torch.dtype) -> AutoregressiveGenerator:
    model, tokenizer = load_component(TalkerModel, TalkerConfig, folder, device, dtype), PhonemeTokenizer()
    if (vocab := model.config.backbone.vocab) != tokenizer.vocab_size:
        raise CheckpointError(
            f"{folder} has embeddings of {vocab} token ids, and the phoneme tokenizer of this version has "
            f"{tokenizer.vocab_size}: use weights that were trained with this version"
        )
    return AutoregressiveGenerator(model, tokenizer)


# Architecture in config.json of the generator's folder -> function that loads it.
GENERATORS: dict[str, Callable[[Path, str, torch.dtype], Generator]] = {"autoregressive": _autoregressive}


class System:
    """The networks of one checkpoint. It holds no state of a request and serves any number of threads."""

    def __init__(
        self, generator: Generator, audio_vae: AudioVAE, motion_ae: MotionAE, speaker: SpeakerEncoder
    ) -> None:
        """Raises ValueError if the sizes of the parts, or their rates and `talker.clock`, do not match."""
        self.generator, self.audio_vae, self.motion_ae, self.speaker = (
            generator,
            audio_vae,
            motion_ae,
            speaker,
        )
        parameter = next(motion_ae.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.threads = torch.get_num_threads()
        self.patch_frames = generator.chunk_frames
        self.resolution: int = motion_ae.config.resolution
        _check(
            "audio",
            (audio_vae.sample_rate, audio_vae.hop),
            (SAMPLE_RATE, HOP),
            "samples a second and a frame",
        )
        widths = {"audio": audio_vae.latent_dim, "motion": motion_ae.config.motion_dim}
        for name, width in widths.items():
            _check(name, width, generator.widths[name], "latent channels")
        _check("speaker", speaker.config.embedding, generator.speaker_dim, "values of an embedding")

    def __repr__(self) -> str:
        return f"<System: {self.summary}>"

    @property
    def summary(self) -> str:
        """Device, data type, size of the frames and tasks in a few words."""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.device}, {dtype}, {self.resolution} pixels, {', '.join(self.generator.tasks)}"

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: str = "float32") -> System:
        """Load a native checkpoint: a folder with talker/, audio_vae/, motion_ae/ and speaker/.

        Raises:
            UserError: a part is missing or does not match the others, or the device or dtype does not exist.
        """
        if dtype not in DTYPES:
            raise UserError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
        kind = DTYPES[dtype]

        def part(component: type, config: type, name: str) -> Any:
            return load_component(component, config, folder / name, device, kind)

        try:
            torch.empty(0, device=device)
            architecture = str(read_config(folder / "talker").get("architecture", "autoregressive"))
            if architecture not in GENERATORS:
                raise UserError(
                    f"{folder}/talker/config.json names architecture {architecture!r}; this version supports "
                    f"{', '.join(GENERATORS)}: install a newer version"
                )
            system = cls(
                GENERATORS[architecture](folder / "talker", device, kind),
                part(AudioVAE, AudioVAEConfig, "audio_vae"),
                part(MotionAE, MotionAEConfig, "motion_ae"),
                part(SpeakerEncoder, SpeakerEncoderConfig, "speaker"),
            )
        except CheckpointError as error:
            raise UserError(str(error)) from error
        except ValueError as error:
            raise error if isinstance(error, UserError) else UserError(f"{folder}: {error}") from error
        except RuntimeError as error:
            raise UserError(
                f"device {device!r} cannot be used ({str(error).splitlines()[0]}): use the device cpu"
            ) from error
        system.generator.tokenizer.encode("Hello.")  # loads the lexicon before the first request
        return system

    # -- sound ---------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def embed_voice(self, pcm: Tensor) -> Tensor:
        """Speaker embedding (G,), float32 on the CPU, of mono samples (n,) at 24 kHz.

        Raises:
            ValueError: the recording is too short.
        """
        return self.speaker.embed(pcm[None].to(self.device))[0].float().cpu()

    @torch.inference_mode()
    def encode(self, pcm: Tensor) -> Tensor:
        """Raw audio latents (T, C), float32 on the CPU, of all whole frames of samples (n,) at 24 kHz."""
        return self.audio_vae.encode(pcm[None].to(self.device))[0].float().cpu()

    @torch.inference_mode()
    def encode_stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Raw audio latents (T, C) of blocks of samples (n,), yielded as soon as they can be computed."""
        state = EncoderState()
        for block in itertools.chain(blocks, [None]):
            pcm = torch.zeros(0) if block is None else block
            latents = self.audio_vae.encode(pcm[None].to(self.device), state, last=block is None)
            yield latents[0].float().cpu()

    @functools.cached_property
    def silence(self) -> Tensor:
        """Raw audio latent (C,) of a frame of digital silence."""
        return self.audio_vae.silence().cpu()

    def audible(self, latents: Tensor) -> Tensor:
        """Which frames (T,) bool of raw audio latents (T, C) are not close to the latent of silence.

        All of them if the generator has no rule for silence.
        """
        rule = self.generator.defaults.guard
        if rule is None:
            return torch.ones(len(latents), dtype=torch.bool)
        apart = (latents - self.silence) / self.generator.scale["audio"]
        return apart.square().mean(1) > rule.near_quiet**2

    @torch.inference_mode()
    def decode(self, patches: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Samples (960 n,) float32 of each patch of raw audio latents (n, C).

        Only the last patch may be shorter than `patch_frames`. The decoder yields a patch after its lookahead
        has been decoded.
        """
        vae, state, size = self.audio_vae, DecoderState(), self.patch_frames * HOP
        end = torch.zeros(0, vae.latent_dim, device=self.device)
        waiting = torch.zeros(0, device=self.device)
        for latents in itertools.chain((patch.to(self.device) for patch in patches), [end]):
            pcm = vae.decode(latents[None], state, last=latents is end)
            waiting = torch.cat([waiting, pcm[0].float()])
            while len(waiting) >= size:
                patch, waiting = waiting.tensor_split([size])
                yield patch.clamp(-1, 1).cpu().numpy()

    # -- images --------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def source(self, image: Tensor) -> SourceFeatures:
        """Features of a portrait (1, 3, H, W) in [-1, 1] for the renderer."""
        return self.motion_ae.encode_source(image.to(self.device))

    @torch.inference_mode()
    def read_motion(self, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
        """Raw motion codes (n, M), float32 on the CPU, of images (1, 3, H, W) in [-1, 1].

        Encodes ENCODED_TOGETHER images at once and yields their codes.
        """
        pictures = iter(pictures)
        while batch := list(itertools.islice(pictures, ENCODED_TOGETHER)):
            yield self.motion_ae.encode(torch.cat(batch).to(self.device)).float().cpu()

    @torch.inference_mode()
    def render(self, patches: Iterable[Tensor], source: SourceFeatures) -> Iterator[np.ndarray]:
        """Frames (n, H, W, 3) uint8 RGB of each patch of raw motion codes (n, M)."""
        for motion in patches:
            frames = self.motion_ae.decode(motion.to(self.device), source)
            yield to_uint8(frames).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _check(part: str, found: Any, wanted: Any, what: str) -> None:
    if found != wanted:
        raise ValueError(
            f"the {part} part has {found} {what}, the rest of the checkpoint {wanted}: use parts of one model"
        )
