"""Small prepared data sets of random latents, and tiny codecs with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from recipes.configs.talker import tiny
from recipes.data.prepare.pack import pack
from recipes.data.prepare.samples import Sample, write_samples
from recipes.data.transcript import Cue
from talker.checkpoint import save_component
from talker.clock import FRAME_RATE
from talker.model.config import TalkerConfig
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig

TINY = tiny().model
AUDIO = TINY.widths["audio"]
WORDS = ["it", "was", "a", "cold", "day", "in", "april", "and", "all", "was", "well"]


def sample(
    key: str, seconds: float, seed: int = 0, word_times: bool = True, config: TalkerConfig = TINY
) -> Sample:
    """A clip with three words per second and random latents of the widths that `config` requires."""
    rng = np.random.default_rng(seed)
    frames = round(seconds * FRAME_RATE)
    starts = np.arange(0.1, seconds - 0.3, 1 / 3)
    cues = [Cue(t, t + 0.25, WORDS[k % len(WORDS)]) for k, t in enumerate(starts.tolist())]
    if not word_times:
        cues = [Cue(cues[0].start, cues[-1].end, " ".join(cue.text for cue in cues))]
    return Sample(
        key,
        rng.normal(2, 1, (frames, config.widths["audio"])).astype(np.float16),
        rng.normal(0, 0.3, (frames, config.widths["motion"])).astype(np.float16),
        rng.normal(size=config.global_widths["audio"]).astype(np.float16),
        tuple(cues),
        key.split("-")[0],
    )


def tiny_codecs(folder: Path) -> Path:
    """Write a native checkpoint of tiny codecs and a tiny speaker encoder with random weights."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        save_component(AudioVAE(AudioVAEConfig.tiny()), folder / "audio_vae")
        save_component(MotionAE(MotionAEConfig.tiny()), folder / "motion_ae")
        save_component(SpeakerEncoder(SpeakerEncoderConfig.tiny()), folder / "speaker")
    return folder


def write_prepared(out: Path, videos: Sequence[Sequence[Sample]]) -> Path:
    """Write a data set of videos, each given as its samples; returns its folder."""
    folder = out / "latents"
    folder.mkdir(parents=True, exist_ok=True)
    keys = [f"video{number}" for number in range(len(videos))]
    for key, samples in zip(keys, videos, strict=True):
        write_samples(folder / f"{key}.npz", samples, {}, [])
    pack(folder, keys, torch.full((videos[0][0].audio.shape[1],), -3.0), out)
    return out


def usual(out: Path, videos: int = 12) -> Path:
    """Write a data set of videos with two clips each, 1 to 3 s long; every second video has word times."""
    return write_prepared(
        out,
        [
            [sample(f"video{v}-{c}", 1 + (5 * v + 3 * c) % 9 / 4, 2 * v + c, bool(v % 2)) for c in range(2)]
            for v in range(videos)
        ],
    )
