"""The corpus as the talker's recipe reads it: latents and embeddings, encoded once by the trained networks.

    python -m recipes.data.latents [--split heldout] [--clips 12000] [--until speech | latents | speakers]
                                   [--speech runs/speech | --bench]

Three stages, each stored in files under the folder of --runs and resumed after any interruption: the clips
(speech from the bank, motion, text), the audio latents, the speaker embeddings. --until stops after a stage,
for instance because the speaker encoder is still in training. The motion latents are the corpus's own motion
vectors: the motion autoencoder is trained to use the same values.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talker.signals import announce, command, exit_on_signals

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.data.latents")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from heads.streams import Streams
from puppet.corpus import Clip, corpus
from puppet.sentences import Split
from puppet.speech_bank import FOLDER as BANK
from recipes.data.clips import LEAST_STD, PATCH_FRAMES
from recipes.data.reading import tokens_read
from recipes.data.shards import Arrays, claim, shards
from recipes.record import fingerprint
from talker.checkpoint import load_component
from talker.clock import FRAME_RATE, HOP
from talker.progress import track
from talker.shipped import PUPPET
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.text.tokenizer import PhonemeTokenizer

SHARD = 200  # clips per file
INT16_SCALE = 32767  # the int16 value of a sample of 1.0


@dataclass(frozen=True)
class Latents:
    """Corpus clips as flat arrays; implements `recipes.data.clips.Clips`.

    Attributes:
        audio: (frames, 32) raw latents of all clips, one after the other.
        motion: (frames, 24) motion vectors.
        text: (tokens,) token ids.
        read: (patches,) number of text tokens of the clip spoken by the end of each patch.
        voice: (clips,) number of each clip's voice.
        speaker: (clips, S) speaker embeddings.
        frame_starts: (clips + 1,) clip i has the frames frame_starts[i]..frame_starts[i + 1] - 1.
        text_starts: (clips + 1,) the same for its tokens.
    """

    audio: NDArray[np.float16]
    motion: NDArray[np.float16]
    text: NDArray[np.int16]
    read: NDArray[np.float16]
    voice: NDArray[np.int32]
    speaker: NDArray[np.float16]
    frame_starts: NDArray[np.int64]
    text_starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.voice)

    @property
    def frames(self) -> NDArray[np.int64]:
        """(clips,) length of each clip in frames."""
        return np.diff(self.frame_starts)

    @property
    def shard(self) -> NDArray[np.int64]:
        """(clips,) number of the file that stores each clip."""
        return np.arange(len(self)) // SHARD

    def of(self, stream: str, clip: int) -> Tensor:
        """Raw latents (T, C) float32 of one stream ("audio" or "motion") of a clip."""
        held = self.audio if stream == "audio" else self.motion
        first, stop = self.frame_starts[clip : clip + 2]
        return torch.from_numpy(held[first:stop].astype(np.float32))

    def ids(self, clip: int) -> list[int]:
        """Token ids of a clip's text; empty for an idle clip."""
        return self.text[self.text_starts[clip] : self.text_starts[clip + 1]].tolist()

    def tokens_read(self, clip: int) -> Tensor:
        """(N,) number of text tokens (fractional) spoken by the end of each patch."""
        first, stop = self.frame_starts[clip] // PATCH_FRAMES, self.frame_starts[clip + 1] // PATCH_FRAMES
        return torch.from_numpy(self.read[first:stop].astype(np.float32))

    def embedding(self, clip: int) -> Tensor:
        """(S,) float32 speaker embedding of a clip's sound."""
        return torch.from_numpy(self.speaker[clip].astype(np.float32))

    @property
    def widths(self) -> dict[str, int]:
        """Number of channels of each stream's latents, by the stream's name."""
        return {"audio": self.audio.shape[1], "motion": self.motion.shape[1]}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the content of all arrays."""
        return fingerprint(vars(self).values())

    def statistics(self) -> tuple[Streams, Streams]:
        """Mean and standard deviation (C,) of each stream's raw latents; the latter at least LEAST_STD."""
        held = Streams(audio=torch.from_numpy(self.audio), motion=torch.from_numpy(self.motion))
        raw = held.map(Tensor.float)
        return raw.map(lambda x: x.mean(0)), raw.map(lambda x: x.std(0).clamp(min=LEAST_STD))


def _arrays_of(clip: Clip, tokenizer: PhonemeTokenizer) -> Arrays:
    """A corpus clip without its encoded sound: int16 samples, motion, text, and the lengths of both."""
    ids = tokenizer.encode(clip.text) if clip.text else []
    ends = (np.arange(len(clip.motion) // PATCH_FRAMES) + 1) * PATCH_FRAMES / FRAME_RATE
    return {
        "pcm": (clip.pcm * INT16_SCALE).round().astype(np.int16),
        "motion": clip.motion.astype(np.float16),
        "text": np.array(ids, np.int16),
        "read": tokens_read(ids, clip.phonemes, ends, tokenizer).astype(np.float16),
        "voice": np.array([clip.voice.seed], np.int32),
        "frames": np.array([len(clip.motion)], np.int64),
        "letters": np.array([len(ids)], np.int64),
    }


def speak_clips(folder: Path, split: Split, numbers: range, bank: Path | None = BANK) -> Arrays:
    """Load the clips `numbers` of a corpus split from `folder`; if missing, make and store them.

    Raises:
        FileNotFoundError: a clip is missing, and so is the bank.
        ValueError: `folder` holds clips of another bank, or the bank is outdated.
    """
    spoken, tokenizer = corpus(split, bank), PhonemeTokenizer()
    claim(folder / split, "speech", spoken.speech)

    def make(wanted: range) -> dict[str, NDArray[Any]]:
        clips = track(wanted, f"{split} clips {wanted.start} to {wanted.stop - 1}", len(wanted))
        parts = [_arrays_of(spoken.clip(index), tokenizer) for index in clips]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    own = folder / split / f"{numbers.start:06d}"
    return shards(own, len(numbers), len(numbers), lambda _: make(numbers))


@torch.no_grad()
def encode_clips(spoken: Arrays, vae: AudioVAE) -> Arrays:
    """Audio latents of the clips that `speak_clips` returned, with their motion, text and voices."""
    found = [vae.encode(pcm)[0].half().numpy() for pcm in _sounds(spoken)]
    kept = {name: spoken[name] for name in ("motion", "text", "read", "voice", "frames", "letters")}
    return {"audio": np.concatenate(found), **kept}


@torch.no_grad()
def embed_clips(spoken: Arrays, speaker: SpeakerEncoder) -> Arrays:
    """Speaker embeddings (clips, S) of the clips that `speak_clips` returned."""
    return {"speaker": np.stack([speaker.embed(pcm)[0].half().numpy() for pcm in _sounds(spoken)])}


def _sounds(spoken: Arrays) -> Iterator[Tensor]:
    """The samples of each clip, (1, HOP T) float32 in [-1, 1]."""
    ends = np.cumsum(spoken["frames"]) * HOP
    for first, stop in zip(ends - spoken["frames"] * HOP, ends, strict=True):
        yield torch.from_numpy(spoken["pcm"][first:stop].astype(np.float32) / INT16_SCALE)[None]


def cache_folder(component: Path, folder: Path) -> Path:
    """Create `folder` for what the weights of a component compute, and store the weights' digest in it.

    Args:
        component: folder of the component, with its model.safetensors.
        folder: where the results are stored.

    Returns:
        `folder`.

    Raises:
        ValueError: `folder` holds the results of other weights.
    """
    digest = hashlib.sha256((component / "model.safetensors").read_bytes()).hexdigest()[:16]
    claim(folder, "weights", digest)
    return folder


def encode(folder: Path, split: Split, clips: int, codecs: Path = PUPPET, bank: Path | None = BANK) -> Arrays:
    """Everything but the speaker embeddings of the first `clips` clips; see `latents`."""
    vae = load_component(AudioVAE, AudioVAEConfig, codecs / "audio_vae")
    make = lambda numbers: encode_clips(speak_clips(folder / "clips", split, numbers, bank), vae)  # noqa: E731
    return shards(cache_folder(codecs / "audio_vae", folder / "latents" / split), clips, SHARD, make)


def embed(folder: Path, split: Split, clips: int, codecs: Path = PUPPET, bank: Path | None = BANK) -> Arrays:
    """Speaker embeddings of the first `clips` clips; see `latents`."""
    speaker = load_component(SpeakerEncoder, SpeakerEncoderConfig, codecs / "speaker")
    make = lambda numbers: embed_clips(speak_clips(folder / "clips", split, numbers, bank), speaker)  # noqa: E731
    return shards(cache_folder(codecs / "speaker", folder / "speakers" / split), clips, SHARD, make)


def latents(
    folder: Path, split: Split, clips: int, codecs: Path = PUPPET, bank: Path | None = BANK
) -> Latents:
    """Load the first `clips` clips of a corpus split; compute and store what is missing.

    Args:
        folder: holds the subfolders clips, latents and speakers; created if missing.
        split: "train" or "heldout".
        clips: number of clips.
        codecs: native checkpoint with the components audio_vae and speaker.
        bank: folder of the bank of speech; None for espeak.

    Raises:
        FileNotFoundError: there is no bank.
        ValueError: `clips` is below 1, `codecs` cannot be loaded, or `folder` was made with other weights or
            another bank.
    """
    held = encode(folder, split, clips, codecs, bank) | embed(folder, split, clips, codecs, bank)
    return Latents(
        audio=held["audio"],
        motion=held["motion"],
        text=held["text"],
        read=held["read"],
        voice=held["voice"],
        speaker=held["speaker"],
        frame_starts=np.concatenate([[0], np.cumsum(held["frames"])]),
        text_starts=np.concatenate([[0], np.cumsum(held["letters"])]),
    )


def main() -> None:
    """Compute and store the stages that --until names."""
    parser = argparse.ArgumentParser(
        "python -m recipes.data.latents",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the results")
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--clips", type=int, default=12_000, help="number of clips, from the first on")
    parser.add_argument(
        "--until", choices=("speech", "latents", "speakers"), default="speakers", help="the last stage to run"
    )
    parser.add_argument("--speech", type=Path, default=BANK, help="bank, from puppet.speech_bank")
    parser.add_argument("--bench", action="store_true", help="espeak's speech instead of a bank's")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bank = None if options.bench else options.speech
    with exit_on_signals(f"finished files in {options.runs} are kept; continue with: {command()}"):
        if options.until == "speech":
            for first in range(0, options.clips, SHARD):
                numbers = range(first, min(first + SHARD, options.clips))
                speak_clips(options.runs / "clips", options.split, numbers, bank)
            return
        encode(options.runs, options.split, options.clips, bank=bank)
        if options.until == "speakers":
            embed(options.runs, options.split, options.clips, bank=bank)


if __name__ == "__main__":
    main()
