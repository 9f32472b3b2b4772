"""Train the phoneme recogniser of `evaluation.speech` on corpus audio, and on nothing else.

    python -m recipes.train_recogniser [--run runs/recogniser] [--steps 1600] [--clips 4000]
    python -m recipes.export recogniser runs/recogniser FOLDER

It never hears what a codec or a talker made, so that its errors on those are theirs. CTC loss (Graves et al.,
2006).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.mel import SAMPLE_RATE
from evaluation.speech import (
    Errors,
    Recogniser,
    RecogniserConfig,
    normalise_phonemes,
    phoneme_errors,
)
from recipes import ranks
from recipes.data.puppet.sentences import Split, sentence
from recipes.data.puppet.speech import speak
from recipes.data.puppet.voices import HELDOUT_VOICES, TRAIN_VOICES, voice
from recipes.data.shards import shards
from recipes.launch import Engine, generator, warmup_cosine
from recipes.record import fingerprint, record, recorded
from talker.checkpoint import atomic

SHARD = 250
Spoken = tuple[NDArray[np.float32], list[str]]
"""One clip: PCM (samples,) in [-1, 1] and its normalised phonemes."""


@dataclass(frozen=True)
class Sounds:
    """Clips held as one int16 signal; clip i is pcm[starts[i]:starts[i + 1]] with phonemes labels[i]."""

    pcm: NDArray[np.int16]
    starts: NDArray[np.int64]
    labels: list[list[str]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Samples of each clip."""
        return np.diff(self.starts)

    def clip(self, index: int) -> Tensor:
        """(samples,) float32."""
        part = self.pcm[self.starts[index] : self.starts[index + 1]]
        return torch.from_numpy(part.astype(np.float32)) / 32768


def corpus_speech(split: Split, index: int) -> Spoken:
    """Sentence `index` of the corpus, each in the next of the split's voices."""
    voices = TRAIN_VOICES if split == "train" else HELDOUT_VOICES
    speech = speak(sentence(split, index), voice(voices[index % len(voices)]))
    return speech.pcm, normalise_phonemes(p.symbol for p in speech.phonemes)


def prepare(
    run: Path, split: Split, count: int, clip: Callable[[Split, int], Spoken] = corpus_speech
) -> Sounds:
    """Speak clips 0..count-1 of a split once, into shards under `run`; a cut run goes on at its shard."""

    def make(numbers: range) -> dict[str, NDArray[Any]]:
        spoken = [clip(split, i) for i in numbers]
        return {
            "pcm": np.concatenate([(p * 32767).round().astype(np.int16) for p, _ in spoken]),
            "lengths": np.array([len(p) for p, _ in spoken]),
            "labels": np.array([" ".join(labels) for _, labels in spoken]),
        }

    held = shards(run / split, count, SHARD, make)
    starts = np.concatenate([[0], np.cumsum(held["lengths"])])
    return Sounds(held["pcm"], starts, [str(labels).split() for labels in held["labels"]])


@dataclass(frozen=True)
class Batch:
    """pcm (B, samples), samples (B,), targets (sum of sizes,) class numbers, sizes (B,)."""

    pcm: Tensor
    samples: Tensor
    targets: Tensor
    sizes: Tensor


def draw(sounds: Sounds, symbols: tuple[str, ...], seconds: float, seed: int, step: int) -> Batch:
    """The clips of one step: of similar length, about `seconds` in all, after some silence, louder or
    softer, a little noisy.

    A function of (seed, step) alone.
    """
    g = generator(seed, step)
    order = np.argsort(sounds.lengths, kind="stable")
    anchor = int(torch.randint(len(order), (1,), generator=g))
    count = max(1, int(seconds * SAMPLE_RATE / sounds.lengths[order[anchor]]))
    near = order[max(0, anchor - 3 * count) : anchor + 3 * count + 1]
    chosen = [int(near[i]) for i in torch.randperm(len(near), generator=g)[:count]]
    silence = torch.randint(0, SAMPLE_RATE // 2, (len(chosen),), generator=g).tolist()
    clips = [nn.functional.pad(sounds.clip(i), (quiet, 0)) for i, quiet in zip(chosen, silence, strict=True)]
    pcm = nn.utils.rnn.pad_sequence(clips, batch_first=True)
    gain = 10 ** ((torch.rand(len(clips), 1, generator=g) * 20 - 12) / 20)
    noise = 10 ** (-(torch.rand(len(clips), 1, generator=g) * 35 + 45) / 20)
    pcm = pcm * gain + torch.randn(pcm.shape, generator=g) * noise
    number = {symbol: i + 1 for i, symbol in enumerate(symbols)}
    targets = [number[s] for i in chosen for s in sounds.labels[i]]
    return Batch(
        pcm,
        torch.tensor([len(c) for c in clips]),
        torch.tensor(targets, dtype=torch.long),
        torch.tensor([len(sounds.labels[i]) for i in chosen]),
    )


def loss_of(model: Recogniser, batch: Batch) -> Tensor:
    """CTC's negative log-likelihood per phoneme of the batch."""
    scores = model(batch.pcm, batch.samples)
    lengths = model.lengths(batch.samples)
    nats = nn.functional.ctc_loss(
        scores.transpose(0, 1), batch.targets, lengths, batch.sizes, reduction="sum", zero_infinity=True
    )
    return nats / batch.sizes.sum().clamp_min(1)


def error_rate(model: Recogniser, sounds: Sounds, count: int) -> float:
    """PER over the first `count` clips."""
    pairs = (
        (model.transcribe(sounds.clip(i)), sounds.labels[i]) for i in range(min(count, len(sounds.labels)))
    )
    return sum((phoneme_errors(said, meant) for said, meant in pairs), Errors()).rate


def symbols_of(run: Path, sounds: Sounds | None = None) -> tuple[str, ...]:
    """The phonemes that a run tells apart, in order: those of `sounds` when it begins, later those it kept.

    Raises:
        ValueError: neither is there.
    """
    path = run / "symbols.json"
    if not path.exists():
        if sounds is None:
            raise ValueError(f"{path} is missing: train first, with the same --run")
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(sorted({s for labels in sounds.labels for s in labels})))
    return tuple(json.loads(path.read_text()))


def engine_for(config: RecogniserConfig, run: Path, steps: int) -> Engine:
    """The model and its optimiser, new or as the run folder holds them."""
    torch.manual_seed(0)
    model = Recogniser(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    engine = Engine(model, optimiser, run, schedule=warmup_cosine(100, steps), ema=0.998)
    engine.load()
    return engine


def train(engine: Engine, sounds: Sounds, unseen: Sounds | None, steps: int, seconds: float) -> None:
    """Go on to `steps`."""
    model, averaged = engine.module, engine.ema_module
    assert isinstance(model, Recogniser)
    assert isinstance(averaged, Recogniser)
    record(engine.run, "recogniser", model.config, fingerprint([sounds.pcm]))
    for step in engine.steps(steps):
        batch = draw(sounds, model.config.symbols, seconds, seed=0, step=step)
        loss = loss_of(model, batch)
        engine.backward(loss)
        norm = engine.step()
        if engine.step_count % 50 == 0:
            engine.log(loss=loss.item(), norm=norm, **engine.meter(len(batch.sizes)))
        if unseen is not None and engine.step_count % 400 == 0:
            engine.log(per_unseen=error_rate(averaged, unseen, 60))


def averaged(run: Path) -> Recogniser:
    """The averaged network of a run, for use."""
    otherwise = RecogniserConfig.puppet(symbols_of(run)) if (run / "symbols.json").exists() else None
    model = Recogniser(recorded(run, RecogniserConfig, otherwise))
    model.load_state_dict(torch.load(run / "state.pt", weights_only=True, map_location="cpu")["ema"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/recogniser"))
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    ranks.alone("train_recogniser")
    torch.set_num_threads(options.threads)
    sounds, unseen = prepare(options.run, "train", options.clips), prepare(options.run, "heldout", SHARD)
    config = RecogniserConfig.puppet(symbols_of(options.run, sounds))
    train(engine_for(config, options.run, options.steps), sounds, unseen, options.steps, seconds=32.0)


if __name__ == "__main__":
    main()
