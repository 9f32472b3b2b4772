"""What the talker trains on: corpus clips, encoded once by the trained audio autoencoder and speaker encoder.

    python -m recipes.data.latents [--split heldout] [--clips 12000] [--until speech | latents | speakers]

Three steps, each kept in pieces under `runs/` and resumed after any kill: the clips themselves (speech,
motion, text), audio latents, speaker embeddings; `--until` stops before a network that is still in training.
Motion is the corpus's own vector: the motion autoencoder is trained to speak that language.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from heads.streams import Streams
from puppet.corpus import Clip, Corpus
from puppet.sentences import Split
from recipes.data.prepared import LEAST_STD, PATCH_FRAMES
from recipes.data.reading import tokens_read
from recipes.data.shards import Arrays, shards
from recipes.record import fingerprint
from talker.checkpoint import PUPPET, atomic, load_component
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.text.tokenizer import PhonemeTokenizer

SHARD = 200


@dataclass(frozen=True)
class Latents:
    """Clips as flat arrays; clip i owns frames starts[i]:starts[i + 1], and so on for patches and text.

    audio (frames, 32) and motion (frames, 24) are raw float16; text holds token ids, read the text tokens
    spoken by the end of each patch; voice (clips,) and speaker (clips, S) say who speaks.
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
        """(clips,) number of the file that each clip lies in."""
        return np.arange(len(self)) // SHARD

    def of(self, stream: str, clip: int) -> Tensor:
        """Raw latents (T, C) of one stream of a clip, float32."""
        held = self.audio if stream == "audio" else self.motion
        first, stop = self.frame_starts[clip : clip + 2]
        return torch.from_numpy(held[first:stop].astype(np.float32))

    def ids(self, clip: int) -> list[int]:
        """Token ids of a clip's text; an idle clip has none."""
        return self.text[self.text_starts[clip] : self.text_starts[clip + 1]].tolist()

    def tokens_read(self, clip: int) -> Tensor:
        """(N,) text tokens spoken by the end of each patch."""
        first, stop = self.frame_starts[clip] // PATCH_FRAMES, self.frame_starts[clip + 1] // PATCH_FRAMES
        return torch.from_numpy(self.read[first:stop].astype(np.float32))

    def embedding(self, clip: int) -> Tensor:
        """(S,) speaker embedding measured on a clip."""
        return torch.from_numpy(self.speaker[clip].astype(np.float32))

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each stream."""
        return {"audio": self.audio.shape[1], "motion": self.motion.shape[1]}

    @property
    def fingerprint(self) -> str:
        """Tells these clips from others."""
        return fingerprint(vars(self).values())

    def statistics(self) -> tuple[Streams, Streams]:
        """Mean and deviation (C,) of the raw latents."""
        held = Streams(audio=torch.from_numpy(self.audio), motion=torch.from_numpy(self.motion))
        raw = held.map(Tensor.float)
        return raw.map(lambda x: x.mean(0)), raw.map(lambda x: x.std(0).clamp(min=LEAST_STD))


def _spoken(clip: Clip, tokenizer: PhonemeTokenizer) -> Arrays:
    ids = tokenizer.encode(clip.text) if clip.text else []
    ends = (np.arange(len(clip.motion) // PATCH_FRAMES) + 1) * PATCH_FRAMES / FRAME_RATE
    return {
        "pcm": (clip.pcm * 32767).round().astype(np.int16),
        "motion": clip.motion.astype(np.float16),
        "text": np.array(ids, np.int16),
        "read": tokens_read(ids, clip.phonemes, ends, tokenizer).astype(np.float16),
        "voice": np.array([clip.voice.seed], np.int32),
        "frames": np.array([len(clip.motion)], np.int64),
        "letters": np.array([len(ids)], np.int64),
    }


def speak_clips(folder: Path, split: Split, numbers: range) -> Arrays:
    """The clips `numbers` of a split, from the shard that holds them (made when it is not there)."""
    corpus, tokenizer = Corpus(split), PhonemeTokenizer()

    def make(wanted: range) -> dict[str, NDArray[Any]]:
        parts = [_spoken(corpus.clip(index), tokenizer) for index in wanted]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    own = folder / split / f"{numbers.start:06d}"
    return shards(own, len(numbers), len(numbers), lambda _: make(numbers))


@torch.no_grad()
def encode_clips(spoken: Arrays, vae: AudioVAE) -> Arrays:
    """Audio latents of spoken clips, beside what else the talker needs of them."""
    found = [vae.encode(pcm)[0].half().numpy() for pcm in _sounds(spoken, vae.hop)]
    kept = {name: spoken[name] for name in ("motion", "text", "read", "voice", "frames", "letters")}
    return {"audio": np.concatenate(found), **kept}


@torch.no_grad()
def embed_clips(spoken: Arrays, speaker: SpeakerEncoder) -> Arrays:
    """Speaker embedding of each spoken clip."""
    hop = SAMPLE_RATE // FRAME_RATE
    return {"speaker": np.stack([speaker.embed(pcm)[0].half().numpy() for pcm in _sounds(spoken, hop)])}


def _sounds(spoken: Arrays, hop: int) -> Iterator[Tensor]:
    """The sound of each clip, (1, samples) float32."""
    ends = np.cumsum(spoken["frames"]) * hop
    for first, stop in zip(ends - spoken["frames"] * hop, ends, strict=True):
        yield torch.from_numpy(spoken["pcm"][first:stop].astype(np.float32) / 32767)[None]


def made_by(component: Path, folder: Path) -> Path:
    """`folder`, for what the weights of a component make.

    Raises:
        ValueError: it holds what other weights made.
    """
    weights = hashlib.sha256((component / "model.safetensors").read_bytes()).hexdigest()[:16]
    told = folder / "weights"
    if told.exists() and told.read_text() != weights:
        raise ValueError(f"{folder} was made by other weights than those of {component}: remove it")
    if not told.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(told) as temporary:
            temporary.write_text(weights)
    return folder


def encode(folder: Path, split: Split, clips: int) -> Arrays:
    """Audio latents and all else but the speaker embeddings, prepared as far as they are not there yet."""
    vae = load_component(AudioVAE, AudioVAEConfig, PUPPET / "audio_vae")
    make = lambda numbers: encode_clips(speak_clips(folder / "clips", split, numbers), vae)  # noqa: E731
    return shards(made_by(PUPPET / "audio_vae", folder / "latents" / split), clips, SHARD, make)


def embed(folder: Path, split: Split, clips: int) -> Arrays:
    """Speaker embeddings, prepared as far as they are not there yet."""
    speaker = load_component(SpeakerEncoder, SpeakerEncoderConfig, PUPPET / "speaker")
    make = lambda numbers: embed_clips(speak_clips(folder / "clips", split, numbers), speaker)  # noqa: E731
    return shards(made_by(PUPPET / "speaker", folder / "speakers" / split), clips, SHARD, make)


def latents(folder: Path, split: Split, clips: int) -> Latents:
    """The first `clips` clips of a split, prepared under `folder` as far as they are not there yet."""
    held = encode(folder, split, clips) | embed(folder, split, clips)
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
    """Prepare clips and latents."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--clips", type=int, default=12_000)
    parser.add_argument("--until", choices=("speech", "latents", "speakers"), default="speakers")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.until == "speech":
        for first in range(0, options.clips, SHARD):
            numbers = range(first, min(first + SHARD, options.clips))
            speak_clips(options.runs / "clips", options.split, numbers)
        return
    encode(options.runs, options.split, options.clips)
    if options.until == "speakers":
        embed(options.runs, options.split, options.clips)


if __name__ == "__main__":
    main()
