"""Train the filter-bank speaker encoder to tell the corpus's voices apart.

    python -m recipes.train_speaker [--run runs/speaker] [--steps 250] [--threads 1]
    python -m recipes.export speaker runs/speaker FOLDER

Every step hears some voices saying two things each; an utterance has to find its partner among all others
(the contrastive loss of arXiv 1807.03748). What counts is how well voices that it never heard are told apart,
printed as the equal error rate. A softmax (no margin) with a direction a voice, close to how the published
encoder was trained, needs far more steps: 120 of them left 11 % equal errors, 120 steps on pairs 1.8 %.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from recipes import ranks
from recipes.data.puppet.sentences import sentence
from recipes.data.puppet.speech import speak
from recipes.data.puppet.voices import HELDOUT_VOICES, TRAIN_VOICES, voice
from recipes.data.shards import shards
from recipes.launch import Engine, generator, warmup_cosine
from recipes.record import fingerprint, record, recorded
from talker.speaker import PCM_RATE, SpeakerEncoder, SpeakerEncoderConfig

SHARD = 256
LONGEST = 5 * PCM_RATE
VOICES = {"train": TRAIN_VOICES, "heldout": HELDOUT_VOICES}
Split = Literal["train", "heldout"]


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


def prepare(run: Path, split: Split, each: int) -> Sounds:
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


def draw(sounds: Sounds, voices: int, seconds: float, seed: int, step: int) -> Tensor:
    """pcm (2 voices, samples), a little noisy: rows 2 v and 2 v + 1 are two utterances of one voice.

    A function of (seed, step) alone.
    """
    g = generator(seed, step)
    samples = int(seconds * PCM_RATE)
    rows = []
    for label in torch.randperm(int(sounds.labels.max()) + 1, generator=g)[:voices]:
        own = np.flatnonzero(sounds.labels == int(label))
        pair = own[torch.randperm(len(own), generator=g)[:2].numpy()]
        rows += [sounds.crop(int(i), samples, float(torch.rand((), generator=g))) for i in pair]
    pcm = torch.stack(rows)
    noise = 10 ** (-(torch.rand(len(pcm), 1, generator=g) * 35 + 25) / 20)
    return pcm + torch.randn(pcm.shape, generator=g) * noise * pcm.std(-1, keepdim=True)


def pair_loss(embeddings: Tensor, scale: float = 20.0) -> Tensor:
    """Cross entropy (a scalar) of finding rows' partners, 2 v and 2 v + 1, in embeddings (2 voices, D)."""
    direction = F.normalize(embeddings, dim=-1)
    itself = torch.eye(len(embeddings), dtype=torch.bool)
    cosine = (direction @ direction.T).masked_fill(itself, -1.0)
    return F.cross_entropy(scale * cosine, torch.arange(len(embeddings)) ^ 1)


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


def engine_for(config: SpeakerEncoderConfig, run: Path, steps: int) -> Engine:
    """The encoder and its optimiser, new or as the run folder holds them."""
    torch.manual_seed(0)
    model = SpeakerEncoder(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    engine = Engine(model, optimiser, run, schedule=warmup_cosine(20, steps), ema=0.98)
    engine.load()
    return engine


def averaged(run: Path) -> SpeakerEncoder:
    """The averaged encoder of a run, for use."""
    model = SpeakerEncoder(recorded(run, SpeakerEncoderConfig, SpeakerEncoderConfig.puppet()))
    model.load_state_dict(torch.load(run / "state.pt", weights_only=True, map_location="cpu")["ema"])
    return model


def train(engine: Engine, sounds: Sounds, unseen: Sounds | None, steps: int, voices: int) -> None:
    """Go on to `steps`."""
    model, averaged = engine.module, engine.ema_module
    assert isinstance(model, SpeakerEncoder)
    assert isinstance(averaged, SpeakerEncoder)
    record(engine.run, "speaker", model.config, fingerprint([sounds.pcm]))
    for step in engine.steps(steps):
        loss = pair_loss(model(draw(sounds, voices, seconds=1.2, seed=0, step=step)))
        engine.backward(loss)
        norm = engine.step()
        if engine.step_count % 50 == 0:
            engine.log(loss=loss.item(), norm=norm, **engine.meter(2 * voices))
        if unseen is not None and (engine.step_count % 200 == 0 or engine.step_count == steps):
            engine.log(eer_unseen=separation(averaged, unseen))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/speaker"))
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    ranks.alone("train_speaker")
    torch.set_num_threads(options.threads)
    engine = engine_for(SpeakerEncoderConfig.puppet(), options.run, options.steps)
    sounds, unseen = prepare(options.run, "train", 4), prepare(options.run, "heldout", 3)
    train(engine, sounds, unseen, options.steps, voices=24)


if __name__ == "__main__":
    main()
