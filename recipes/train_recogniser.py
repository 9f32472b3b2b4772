"""Train the phoneme recogniser of `evaluation.speech` on speech of the corpus alone.

    python -m recipes.train_recogniser [--config puppet] [--set clips=2000] [--run runs/recogniser]
    torchrun --nproc-per-node 2 -m -- recipes.train_recogniser       the same, shared
    python -m recipes.export recogniser runs/recogniser FOLDER       write the averaged weights

It is never trained on the output of a codec or a talker, so errors in such output are not learned as normal.
CTC loss (Graves et al., 2006).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.train_recogniser")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.speech import (
    Errors,
    Recogniser,
    RecogniserConfig,
    normalise_phonemes,
    phoneme_errors,
)
from recipes import ranks
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim, Run
from recipes.data.shards import claim, shards
from recipes.data.speech import Speech, speech
from recipes.device import to_device
from recipes.draws import generator
from recipes.engine import Engine
from recipes.launch import argument_parser, launch
from recipes.record import fingerprint, read_model_config, write_record
from talker.checkpoint import atomic
from talker.clock import SAMPLE_RATE

SHARD = 250


@dataclass(frozen=True, kw_only=True)
class RecogniserRun(Run):
    """A training of the phoneme recogniser.

    Args:
        model: the network; its symbols are replaced by those of the training clips when the run begins.
        seconds: approximate seconds of speech in a step, over all ranks.
        bank: folder of the bank of speech; empty for espeak.
        clips, heldout: clips to train on and to validate on.
        measured: number of held-out clips to transcribe in a validation.
    """

    model: RecogniserConfig
    seconds: float = 32.0
    bank: str = "runs/speech"
    clips: int = 4000
    heldout: int = 250
    measured: int = 60

    def without_zero(self) -> str:
        """Return why this training cannot run under DeepSpeed's ZeRO."""
        return "a process can be without a clip in a step, and DeepSpeed needs a backward pass of each"


def puppet() -> RecogniserRun:
    """The recogniser that the package contains."""
    return RecogniserRun(
        model=RecogniserConfig.puppet(("a",)),
        steps=1600,
        optim=Optim(lr=2e-3, betas=(0.9, 0.98), decay=0.01, warmup=100, ema=0.998),
        validate_every=400,
    )


def tiny() -> RecogniserRun:
    """For tests: a tiny network; seconds."""
    few = replace(puppet(), model=RecogniserConfig.tiny(), steps=4, seconds=2.0, bank="", clips=20)
    return replace(few, heldout=4, log_every=1, validate_every=2)


PRESETS = {preset.__name__: preset for preset in (puppet, tiny)}


@dataclass(frozen=True)
class Sounds:
    """Clips in one int16 signal.

    Attributes:
        pcm: (samples,) all clips.
        starts: (clips + 1,) clip i is pcm[starts[i] : starts[i + 1]].
        labels: phonemes of each clip.
    """

    pcm: NDArray[np.int16]
    starts: NDArray[np.int64]
    labels: list[list[str]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(clips,) number of samples of each clip."""
        return np.diff(self.starts)

    def clip(self, index: int) -> Tensor:
        """Return clip `index`: (samples,) float32 in [-1, 1]."""
        part = self.pcm[self.starts[index] : self.starts[index + 1]]
        return torch.from_numpy(part.astype(np.float32)) / 32768


def prepare(folder: Path, spoken: Speech, count: int) -> Sounds:
    """Return the first `count` utterances, which are stored once in shards in `folder`.

    Raises:
        ValueError: the folder holds other speech, or there are fewer utterances.
    """
    claim(folder, "speech", spoken.name)

    def make(numbers: range) -> dict[str, NDArray[Any]]:
        clips = [spoken.read(i) for i in numbers]
        return {
            "pcm": np.concatenate([(clip.pcm * 32767).round().astype(np.int16) for clip in clips]),
            "lengths": np.array([len(clip.pcm) for clip in clips]),
            "labels": np.array([" ".join(normalise_phonemes(clip.phones)) for clip in clips]),
        }

    held = shards(folder, count, SHARD, make)
    starts = np.concatenate([[0], np.cumsum(held["lengths"])])
    return Sounds(held["pcm"], starts, [str(labels).split() for labels in held["labels"]])


@dataclass(frozen=True)
class Batch:
    """Clips of one step.

    Attributes:
        pcm: (B, samples), padded.
        samples: (B,) length of each clip.
        targets: (sum of sizes,) class numbers of the phonemes of all clips.
        sizes: (B,) number of phonemes of each clip.
    """

    pcm: Tensor
    samples: Tensor
    targets: Tensor
    sizes: Tensor

    def share(self) -> Batch:
        """Return this rank's clips; there may be none."""
        own = ranks.own(len(self.sizes))
        targets = self.targets.split(self.sizes.tolist())
        mine = torch.cat([self.targets[:0], *(targets[i] for i in own)])
        return Batch(self.pcm[own], self.samples[own], mine, self.sizes[own])


def draw(sounds: Sounds, symbols: tuple[str, ...], seconds: float, seed: int, step: int) -> Batch:
    """Return the clips of one step: of similar length, about `seconds` in all.

    Random silence is put before each clip, its gain is changed and noise is added. The result is a function
    of (seed, step) alone.
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


def loss_of(model: Recogniser, batch: Batch, phonemes: int) -> Tensor:
    """Return the CTC loss of a batch, a scalar: negative log-likelihood divided by `phonemes`."""
    scores = model(batch.pcm, batch.samples)
    lengths = model.lengths(batch.samples)
    nats = nn.functional.ctc_loss(
        scores.transpose(0, 1), batch.targets, lengths, batch.sizes, reduction="sum", zero_infinity=True
    )
    return nats / max(1, phonemes)


def error_rate(model: Recogniser, sounds: Sounds, count: int) -> float:
    """Return the phoneme error rate over the first `count` clips."""
    pairs = (
        (model.transcribe(sounds.clip(i)), sounds.labels[i]) for i in range(min(count, len(sounds.labels)))
    )
    return sum((phoneme_errors(found, label) for found, label in pairs), Errors()).rate


def symbols_of(run: Path, sounds: Sounds | None = None) -> tuple[str, ...]:
    """Return the phonemes that a run distinguishes, in the order of its classes.

    The first call for a run takes them from `sounds` and writes them to the run folder.

    Raises:
        ValueError: the run folder has none, and `sounds` is None.
    """
    path = run / "symbols.json"
    if not path.exists():
        if sounds is None:
            raise ValueError(f"{path} is missing: train first, or choose another --run")
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(sorted({s for labels in sounds.labels for s in labels})))
    return tuple(json.loads(path.read_text()))


def train(
    folder: Path,
    run: RecogniserRun,
    sounds: Sounds,
    unseen: Sounds,
    minutes: float = float("inf"),
    device: torch.device | str = "cpu",
) -> Engine:
    """Train until `run.steps` steps are done or the run has taken `minutes`; continues from the run folder.

    Args:
        folder: the run folder.
        run: the config.
        sounds: data to train on.
        unseen: held-out data to validate on.
        minutes: training time of the run, over all resumes.
        device: where to train.
    """
    torch.manual_seed(run.seed)
    model, optim = Recogniser(run.model).to(device), run.optim
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.decay
    )
    engine = Engine(model, optimiser, folder, optim.factor(run.steps), optim.clip, optim.ema)
    engine.load()
    write_record(folder, "recogniser", run, fingerprint([sounds.pcm]))
    for step in engine.steps(run.steps, minutes, run.save_seconds):
        whole = draw(sounds, run.model.symbols, run.seconds, run.seed, step)
        batch, loss = to_device(device, whole.share()), torch.zeros((), device=device)
        if len(batch.sizes):  # a rank has no clip if there are fewer clips than ranks
            loss = ranks.size() * loss_of(model, batch, int(whole.sizes.sum()))
            engine.backward(loss)
        engine.step(batch, loss=loss)
        if engine.step_count % run.log_every == 0:
            engine.log(**engine.means(), **engine.meter(len(whole.sizes)))
        if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
            assert isinstance(engine.ema_module, Recogniser)
            engine.log(per_unseen=error_rate(engine.ema_module, unseen, run.measured))
    return engine


def averaged(folder: Path) -> Recogniser:
    """Return the averaged network of a run."""
    default = RecogniserConfig.puppet(symbols_of(folder)) if (folder / "symbols.json").exists() else None
    model = Recogniser(read_model_config(folder, RecogniserConfig, default))
    model.load_state_dict(averaged_weights(folder))
    return model


def main() -> None:
    """Run the command line."""
    with launch(argument_parser("recogniser", __doc__, PRESETS)) as (options, run, device):
        with ranks.rank_zero_first():
            sounds = prepare(options.run / "train", speech(run.bank, "train"), run.clips)
            unseen = prepare(options.run / "heldout", speech(run.bank, "heldout"), run.heldout)
            symbols = symbols_of(options.run, sounds)
        run = replace(run, model=replace(run.model, symbols=symbols))
        train(options.run, run, sounds, unseen, options.minutes, device)


if __name__ == "__main__":
    main()
