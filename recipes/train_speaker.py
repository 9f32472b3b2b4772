"""Train the filter-bank speaker encoder to tell the corpus's voices apart.

    python -m recipes.train_speaker [--run runs/speaker] [--steps 800] [--threads 1]
    python -m recipes.train_speaker --export

Additive angular margin softmax over the training voices (arXiv 1801.07698, as for ECAPA-TDNN); what counts is
how well it separates voices that it never heard, printed as the equal error rate.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from recipes.data.puppet.sentences import sentence
from recipes.data.puppet.speech import speak
from recipes.data.puppet.voices import HELDOUT_VOICES, TRAIN_VOICES, voice
from recipes.data.shards import shards
from recipes.launch import Engine, generator, warmup_cosine
from talker.checkpoint import PUPPET, save_component
from talker.speaker import PCM_RATE, SpeakerEncoder, SpeakerEncoderConfig

SHARD = 256
LONGEST = 5 * PCM_RATE
VOICES = {"train": TRAIN_VOICES, "heldout": HELDOUT_VOICES}


@dataclass(frozen=True)
class Sounds:
    """Utterances as one int16 signal; number i is pcm[starts[i]:starts[i + 1]], spoken by voice labels[i]."""

    pcm: NDArray[np.int16]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]

    def crop(self, index: int, samples: int, where: float) -> Tensor:
        """(samples,) float32 of utterance `index`, at `where` (0 to 1) of the room; short ones repeat."""
        whole = self.pcm[self.starts[index] : self.starts[index + 1]]
        whole = np.tile(whole, math.ceil(samples / len(whole)))
        first = int(where * (len(whole) - samples))
        return torch.from_numpy(whole[first : first + samples].astype(np.float32)) / 32768


def prepare(run: Path, split: str, each: int) -> Sounds:
    """`each` sentences of every voice of a split, spoken once into shards under `run`."""
    voices = VOICES[split]

    def make(numbers: range) -> dict[str, NDArray[Any]]:
        spoken = [speak(sentence(split, i), voice(voices[i % len(voices)])).pcm[:LONGEST] for i in numbers]
        return {
            "pcm": np.concatenate([(pcm * 32767).round().astype(np.int16) for pcm in spoken]),
            "lengths": np.array([len(pcm) for pcm in spoken]),
            "labels": np.array([i % len(voices) for i in numbers]),
        }

    held = shards(run / split, each * len(voices), SHARD, make)
    return Sounds(held["pcm"], np.concatenate([[0], np.cumsum(held["lengths"])]), held["labels"])


def draw(sounds: Sounds, rows: int, seconds: float, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """pcm (rows, samples) with a little noise, and voices (rows,). A function of (seed, step) alone."""
    g = generator(seed, step)
    chosen = torch.randint(len(sounds.labels), (rows,), generator=g)
    where = torch.rand(rows, generator=g)
    samples = int(seconds * PCM_RATE)
    pcm = torch.stack([sounds.crop(int(i), samples, float(w)) for i, w in zip(chosen, where, strict=True)])
    noise = 10 ** (-(torch.rand(rows, 1, generator=g) * 35 + 25) / 20)
    pcm = pcm + torch.randn(pcm.shape, generator=g) * noise * pcm.std(-1, keepdim=True)
    return pcm, torch.from_numpy(sounds.labels)[chosen]


class Classifier(nn.Module):
    """The encoder and, for training alone, one direction a voice."""

    def __init__(self, config: SpeakerEncoderConfig, voices: int) -> None:
        super().__init__()
        self.encoder = SpeakerEncoder(config)
        self.directions = nn.Parameter(torch.randn(voices, config.embedding) * config.embedding**-0.5)

    def forward(self, pcm: Tensor, labels: Tensor, margin: float, scale: float = 30.0) -> Tensor:
        """Cross entropy (a scalar) of voices `labels` (B,) given pcm (B, samples).

        The true voice's angle is made larger by `margin` (radians) before the comparison.
        """
        cosine = F.normalize(self.encoder(pcm), dim=-1) @ F.normalize(self.directions, dim=-1).T
        sine = (1 - cosine.square()).clamp(min=1e-6).sqrt()
        widened = cosine * math.cos(margin) - sine * math.sin(margin)
        true = F.one_hot(labels, len(self.directions)).bool()
        return F.cross_entropy(scale * torch.where(true, widened, cosine), labels)


def equal_error_rate(same: Tensor, different: Tensor) -> float:
    """Where as many pairs of one voice score below a threshold as pairs of two voices above it."""
    thresholds = torch.cat([same, different]).sort().values
    missed = torch.searchsorted(same.sort().values, thresholds) / len(same)
    alarms = 1 - torch.searchsorted(different.sort().values, thresholds) / len(different)
    best = (missed - alarms).abs().argmin()
    return float((missed[best] + alarms[best]) / 2)


@torch.no_grad()
def separation(encoder: SpeakerEncoder, sounds: Sounds, seconds: float = 3.0) -> float:
    """Equal error rate over all pairs of the utterances of `sounds`."""
    samples = int(seconds * PCM_RATE)
    crops = [sounds.crop(i, samples, 0.0) for i in range(len(sounds.labels))]
    found = F.normalize(torch.cat([encoder.embed(crop[None]) for crop in crops]), dim=-1)
    labels = torch.from_numpy(sounds.labels)
    one, other = torch.triu_indices(len(labels), len(labels), offset=1)
    cosine = (found[one] * found[other]).sum(-1)
    equal = labels[one] == labels[other]
    return equal_error_rate(cosine[equal], cosine[~equal])


def engine_for(config: SpeakerEncoderConfig, voices: int, run: Path, steps: int) -> Engine:
    """The classifier and its optimiser, new or as the run folder holds them."""
    torch.manual_seed(0)
    model = Classifier(config, voices)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    engine = Engine(model, optimiser, run, schedule=warmup_cosine(100, steps), ema=0.99)
    engine.load()
    return engine


def averaged(engine: Engine) -> SpeakerEncoder:
    """The encoder with averaged weights."""
    assert isinstance(engine.ema_module, Classifier)
    return engine.ema_module.encoder


def train(engine: Engine, sounds: Sounds, unseen: Sounds | None, steps: int, rows: int) -> None:
    """Go on to `steps`; a checkpoint every two minutes. The margin grows over the first quarter."""
    saved = time.monotonic()
    while engine.step_count < steps:
        margin = 0.2 * min(1.0, 4 * engine.step_count / steps)
        pcm, labels = draw(sounds, rows, seconds=2.0, seed=0, step=engine.step_count)
        loss = engine.module(pcm, labels, margin)
        engine.backward(loss)
        norm = engine.step()
        if engine.step_count % 50 == 0:
            engine.log(loss=loss.item(), norm=norm)
        if unseen is not None and (engine.step_count % 300 == 0 or engine.step_count == steps):
            engine.log(eer_unseen=separation(averaged(engine), unseen))
        if time.monotonic() - saved > 120 or engine.step_count == steps:
            engine.save()
            saved = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/speaker"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", action="store_true", help="write the averaged weights into the package")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    engine = engine_for(SpeakerEncoderConfig.puppet(), len(TRAIN_VOICES), options.run, options.steps)
    if options.export:
        save_component(averaged(engine), PUPPET / "speaker")
        return
    sounds, unseen = prepare(options.run, "train", 4), prepare(options.run, "heldout", 3)
    train(engine, sounds, unseen, options.steps, rows=32)


if __name__ == "__main__":
    main()
