"""Small prepared data sets of random latents, written by `recipes.data.prepare.pack`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from recipes.configs.talker import tiny
from recipes.data.prepare.pack import pack
from recipes.data.prepare.samples import Sample, write_samples
from recipes.data.transcript import Cue
from talker.clock import FRAME_RATE
from talker.model.config import TalkerConfig

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
