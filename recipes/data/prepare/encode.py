"""Second stage: encode clips as audio latents, motion codes and a speaker embedding; transcribe them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from evaluation.sync import MAX_OFFSET, Sync, compare, lower_face, sync_net
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from recipes.data.faults import words_fault
from recipes.data.prepare.clips import Clip, Record
from recipes.data.prepare.samples import Sample, write_samples
from recipes.data.released import Released
from recipes.data.transcript import Cue
from recipes.data.whisper_json import words_of
from talker.checkpoint import load_component
from talker.clips.transcript import transcribed, whisper_network
from talker.clips.windows import LONGEST_SECONDS
from talker.clock import FRAME_RATE
from talker.errors import UserError
from talker.media.pixels import from_uint8
from talker.media.readers import VideoReader, read_audio
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.text.tokenizer import PhonemeTokenizer

FRAMES_PER_BATCH = 8
LARGEST_OFFSET = 4  # frames between sound and lips; a larger offset means that someone else speaks
LEAST_TO_COMPARE = 3 * 8  # frames


@dataclass(frozen=True)
class Setup:
    """The settings of the encoders.

    Attributes:
        codecs: a native checkpoint with the components audio_vae, motion_ae and speaker.
        device: PyTorch device of the networks.
        whisper: weights of Whisper, which transcribes clips without a transcript; None: these are left out.
        least_sync: least confidence that sound and lips belong together; 0 accepts every clip.
    """

    codecs: Path
    device: str
    whisper: Path | None
    least_sync: float


class Encoders:
    """The frozen networks, and the tokenizer that must be able to encode the transcripts."""

    def __init__(self, setup: Setup) -> None:
        """Load all networks.

        Raises:
            UserError: weights are missing or do not fit, or the device cannot be used.
        """
        self.setup, root, device = setup, setup.codecs, setup.device
        self.tokenizer = PhonemeTokenizer()
        try:
            self.audio_vae = load_component(AudioVAE, AudioVAEConfig, root / "audio_vae", device)
            self.motion_ae = load_component(MotionAE, MotionAEConfig, root / "motion_ae", device)
            self.speaker = load_component(SpeakerEncoder, SpeakerEncoderConfig, root / "speaker", device)
        except ValueError as error:
            raise UserError(str(error)) from error
        except (RuntimeError, AssertionError) as error:  # PyTorch's errors for the device
            why = str(error).splitlines()[0]
            raise UserError(f"--device {device} cannot be used ({why}): try cpu") from error
        self.sync = sync_net() if setup.least_sync > 0 else None
        self.whisper = whisper_network(setup.whisper, device) if setup.whisper else None

    @torch.inference_mode()
    def encode_sound(self, pcm: Tensor) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Encode samples (N,) at 24 kHz as audio latents (N // HOP, C) and a speaker embedding (S,)."""
        row = pcm[None].to(self.setup.device)
        return _half(self.audio_vae.encode(row)[0]), _half(self.speaker.embed(row)[0])

    @torch.inference_mode()
    def quiet(self) -> Tensor:
        """The audio latent (C,) of silence."""
        return self.audio_vae.silence().cpu()

    @torch.inference_mode()
    def encode_frames(self, frames: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.float16], Tensor]:
        """Encode T square frames (S, S, 3) as motion codes (T, M) and lower faces (T, 48, 48)."""
        codes, lips = [], []
        for group in _grouped(frames, FRAMES_PER_BATCH):
            pixels = rearrange(torch.from_numpy(np.stack(group)), "t h w c -> t c h w")
            codes.append(self.motion_ae.encode(from_uint8(pixels).to(self.setup.device)).cpu())
            lips.append(lower_face(from_uint8(pixels, low=0)))
        return _half(torch.cat(codes)), torch.cat(lips)

    @torch.inference_mode()
    def sync_of(self, lips: Tensor, pcm: Tensor) -> Sync | None:
        """Offset between sound and lips; None if the clip is too short or `least_sync` is 0."""
        if self.sync is None or len(lips) < LEAST_TO_COMPARE:
            return None
        return compare(self.sync, self.sync.embed_faces(lips[None])[0], pcm, min(MAX_OFFSET, len(lips) // 3))

    def words(self, pcm: Tensor) -> list[Cue]:
        """Transcribe samples (N,) at 24 kHz: one cue per word; empty without Whisper."""
        if self.whisper is None:
            return []
        torch.manual_seed(0)  # Whisper samples where its confidence is low
        result = transcribed(self.whisper, pcm, word_timestamps=True)
        cues = [Cue(cue.start, cue.end, cue.text.strip()) for cue in words_of(result["segments"])]
        return [cue for cue in cues if cue.text]


def encode_videos(setup: Setup, clips: Path, latents: Path, keys: Sequence[str]) -> None:
    """Encode the clips of each video: `clips/KEY` becomes `latents/KEY.npz`."""
    encoders = Encoders(setup)
    for key in keys:
        record = Record.read(clips / key)
        made = [
            (f"clip {number:03d}", _encoded(encoders, clips / key / f"{number:03d}.mkv", clip, key))
            for number, clip in enumerate(record.clips)
        ]
        _write(latents / f"{key}.npz", made)


def _encoded(encoders: Encoders, path: Path, clip: Clip, voice: str) -> Sample | str:
    """The sample of a clip, or its fault."""
    try:
        return _sample(encoders, path, clip, voice)
    except ValueError as error:  # includes UserError: a damaged clip, invalid times
        return f"cannot be encoded: {error}"


def _sample(encoders: Encoders, path: Path, clip: Clip, voice: str) -> Sample | str:
    frames = clip.last - clip.first
    pcm = read_audio(path, LONGEST_SECONDS + 1)
    cues = clip.cues or tuple(encoders.words(pcm))
    if not cues:
        return "no transcript"
    fault = words_fault(cues, frames, encoders.tokenizer)
    if fault is not None:
        return fault
    motion, lips = encoders.encode_frames(VideoReader(path))
    sync = encoders.sync_of(lips, pcm)
    if sync and (sync.confidence < encoders.setup.least_sync or abs(sync.offset) > LARGEST_OFFSET):
        return f"off-screen speech: offset {sync.offset}, confidence {sync.confidence:.2f}"
    audio, speaker = encoders.encode_sound(pcm)
    if not len(audio) == len(motion) == frames:
        raise ValueError(f"{len(motion)} pictures and {len(audio)} frames of sound instead of {frames}")
    cues = tuple(cue.within(frames / FRAME_RATE) for cue in cues)
    sample = Sample(f"{voice}-{path.stem}", audio, motion, speaker, cues, voice)
    return sample.fault or sample


def encode_released(setup: Setup, root: Path, latents: Path, blocks: Sequence[tuple[str, range]]) -> None:
    """Encode blocks of rows (key, rows) of the published data set as `latents/KEY.npz`.

    The sounds are encoded; the data set's own motion codes are kept.
    """
    encoders, data = Encoders(setup), Released(root)
    for key, rows in blocks:
        made = [(data.rows[row].sample_id, _row(encoders, data, row, f"{key}-{row:07d}")) for row in rows]
        _write(latents / f"{key}.npz", made)


def _row(encoders: Encoders, data: Released, row: int, key: str) -> Sample | str:
    """The sample of a row, or its fault."""
    line, held = data.rows[row], data.read(row)
    if isinstance(held, str):
        return held
    (pcm, motion), frames = held, len(held[1])
    cues = (Cue(0.0, frames / FRAME_RATE, line.text),)
    fault = words_fault(cues, frames, encoders.tokenizer)
    if fault is not None:
        return fault
    audio, speaker = encoders.encode_sound(pcm)
    heldout = line.heldout if data.has_heldout else None
    sample = Sample(key, audio[:frames], _half(motion), speaker, cues, line.sample_id, heldout)
    return sample.fault or sample


def _write(path: Path, made: Sequence[tuple[str, Sample | str]]) -> None:
    """Write the samples, and the faults, of clips given as (name, sample or fault)."""
    samples = [one for _, one in made if isinstance(one, Sample)]
    faults = [(name, fault) for name, fault in made if isinstance(fault, str)]
    lost = Counter(fault.partition(":")[0] for _, fault in faults)
    notes = [" ".join(f"{name}: {fault}".split()) for name, fault in faults]  # without line breaks
    write_samples(path, samples, dict(lost), notes)


def _grouped(frames: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` frames; the last one may be shorter."""
    group: list[Any] = []
    for frame in frames:
        group.append(frame)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _half(x: Tensor) -> NDArray[np.float16]:
    return x.cpu().to(torch.float16).numpy()
