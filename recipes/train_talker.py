"""Train the talker on latents of the corpus.

    python -m recipes.data.latents                       once: clips and latents
    python -m recipes.train_talker [--run runs/talker] [--steps 8000] [--minutes M] [--threads 2]
    python -m recipes.train_talker --export              write the averaged weights

One model, four tasks: every sample of a batch draws its own. Besides the published losses (both heads, the
stop predictor) it uses what a synthetic corpus and a small budget offer: a network that forecasts the next
patch from the hidden state, the known place in the text at every moment, noise on what is fed back, and
shaken places, so that the model has seen its own mistakes before it makes them.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from heads.streams import Streams
from recipes.data.latents import Latents, latents
from recipes.launch import Engine, generator
from talker.checkpoint import PUPPET, save_component
from talker.config import TalkerConfig
from talker.model import TalkerModel
from talker.tasks import Task, task_named
from talker.text import PhonemeTokenizer
from talker.training_batch import Sample, TrainingBatch, collate

ROWS, REPEAT = 16, 1  # clips a step, draws a patch (the release: 2; on a CPU more clips teach more)
RATE, BETAS, DECAY = 1e-3, (0.9, 0.95), 0.01
WARMUP, COOLDOWN = 200, 0.2  # steps; share of the steps in which the rate falls
MIX = {"t2av": 0.45, "tts": 0.20, "a2v": 0.20, "v2a": 0.15}
WITHOUT_TEXT = 0.5  # share of A2V
WEIGHTS = {
    "audio": 1.0,
    "motion": 1.0,
    "forecast_audio": 1.0,
    "forecast_motion": 0.5,
    "stop": 0.2,
    "reading": 0.5,
}
FED_NOISE = 0.3  # most noise on fed-back patches, in deviations
SHAKE, SHAKE_MEMORY = 1.0, 0.7  # most deviation of a slot's place in text tokens, and how much of it stays
LOG_EVERY, SAVE_EVERY, VALIDATE_EVERY = 50, 200, 500
HELDOUT = 200  # clips
POOL = 64  # batches whose clips are sorted by length together


@dataclass(frozen=True)
class Data:
    """Prepared clips, and which clips share a voice."""

    held: Latents
    others: dict[int, list[int]]

    @classmethod
    def of(cls, held: Latents) -> Data:
        """Clips by voice."""
        others: dict[int, list[int]] = {}
        for clip, voice in enumerate(held.voice.tolist()):
            others.setdefault(voice, []).append(clip)
        return cls(held, others)

    def batches(self, seed: int, epoch: int) -> list[list[int]]:
        """Clip numbers of every batch of an epoch: neighbours in length, in random order."""
        g = generator(seed, -1 - epoch)
        order = torch.randperm(len(self.held), generator=g).tolist()
        frames = self.held.frames
        found = []
        for first in range(0, len(order), ROWS * POOL):
            pool = sorted(order[first : first + ROWS * POOL], key=lambda clip: int(frames[clip]))
            found += [pool[i : i + ROWS] for i in range(0, len(pool) - ROWS + 1, ROWS)]
        return [found[i] for i in torch.randperm(len(found), generator=g).tolist()]

    def from_step(self, step: int, seed: int = 0) -> Iterator[list[int]]:
        """Clip numbers of step `step` and all later ones: a function of (seed, step)."""
        each = len(self.batches(seed, 0))
        for epoch in itertools.count(step // each):
            yield from self.batches(seed, epoch)[step % each :]
            step = 0


def sample_of(data: Data, clip: int, task: Task, with_text: bool, speaker: int, model: TalkerModel) -> Sample:
    """One clip as a sample of a task; the voice is heard from clip `speaker`."""
    held = data.held
    known = task.given + task.predicted
    raw = Streams(**{name: held.of(name, clip) for name in known})
    normal = model.stats.normalise(raw)
    ids = held.ids(clip) if with_text else []
    return Sample(
        text=ids,
        task=task,
        latents=normal,
        global_=Streams(
            audio=held.embedding(speaker), motion=normal["motion"][0] if "motion" in known else None
        ),
        read=held.tokens_read(clip) if ids else None,
    )


def draw_samples(data: Data, clips: list[int], model: TalkerModel, g: torch.Generator) -> list[Sample]:
    """Every clip with a task and a voice recording of its own. Idle clips have no text: they are A2V."""
    names, shares = list(MIX), torch.tensor(list(MIX.values()))
    chosen = torch.multinomial(shares, len(clips), replacement=True, generator=g).tolist()
    u = torch.rand(2, len(clips), generator=g).tolist()
    found = []
    for clip, kind, silent, other in zip(clips, chosen, *u, strict=True):
        name = names[kind] if data.held.ids(clip) else "a2v"
        with_text = not (name == "a2v" and silent < WITHOUT_TEXT)
        same = data.others[int(data.held.voice[clip])]
        speaker = same[int(other * len(same))]
        found.append(sample_of(data, clip, task_named(model.config.tasks, name), with_text, speaker, model))
    return found


def shaken(batch: TrainingBatch, samples: list[Sample], g: torch.Generator) -> TrainingBatch:
    """Noise on what the model feeds back to itself, and on where it thinks it is in the text."""
    rows, slots = batch.read.shape
    level = FED_NOISE * torch.rand(rows, 1, 1, 1, generator=g)
    fed = {}
    for name, clean in batch.fed.items():
        own = torch.tensor([name in sample.task.predicted for sample in samples])[:, None, None, None]
        noise = torch.randn(clean.shape, generator=g) * level * own * batch.real[name][..., None]
        fed[name] = clean + noise
    amount = SHAKE * torch.rand(rows, 1, generator=g)
    fresh = torch.randn(rows, slots, generator=g)
    drift = torch.zeros(rows)
    places = []
    for slot in range(slots):
        drift = SHAKE_MEMORY * drift + (1 - SHAKE_MEMORY**2) ** 0.5 * fresh[:, slot]
        places.append(drift)
    placed = batch.read + amount * torch.stack(places, 1)
    return dataclasses.replace(batch, fed=Streams(**fed), placed=placed)


def loss_of(errors: dict[str, Tensor], batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum (a scalar), and its parts: means over predicted patches, labels, known places."""
    counts = {"stop": (batch.stop_label >= 0).sum(), "reading": batch.reads.sum()}
    parts = {
        name: value.sum() / counts.get(name, torch.tensor(value.numel())).clamp(min=1)
        for name, value in errors.items()
    }
    total = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
    return total, {name: part.detach() for name, part in parts.items()}


def measure(model: TalkerModel, held: Latents) -> None:
    """Set the model's latent statistics to those of the training clips."""
    raw = Streams(audio=torch.from_numpy(held.audio).float(), motion=torch.from_numpy(held.motion).float())
    # A motion value that hardly moves is not blown up to full size: it would be mostly float16's rounding.
    model.stats.set(raw.map(lambda x: x.mean(0)), raw.map(lambda x: x.std(0).clamp(min=1e-2)))


@torch.no_grad()
def validate(model: TalkerModel, data: Data, clips: int = 32) -> dict[str, float]:
    """Losses of held-out clips by task, with fixed draws."""
    model.eval()
    found: dict[str, float] = {}
    spoken = [clip for clip in range(len(data.held)) if data.held.ids(clip)][:clips]
    for task in model.config.tasks:
        g = generator(1, 0)
        samples = [sample_of(data, clip, task, True, clip, model) for clip in spoken]
        batch = collate(samples, model.config)
        _, parts = loss_of(model(batch, model.draws(batch, g, 2)), batch)
        found |= {f"{task.name}_{name}": float(parts[name]) for name in task.predicted}
        if task.name == "t2av":
            found |= {name: float(parts[name]) for name in ("stop", "reading") if name in parts}
    model.train()
    return found


def rate_at(steps: int) -> Callable[[int], float]:
    """Learning-rate factor: linear warm-up, then 1, then a linear fall over the last COOLDOWN of `steps`.

    Unlike with a cosine, nothing before the fall depends on `steps`: a run can be prolonged.
    """

    def factor(step: int) -> float:
        left = (steps - step) / (COOLDOWN * steps)
        return max(0.01, min(1.0, (step + 1) / WARMUP, left))

    return factor


def build(config: TalkerConfig, run: Path, steps: int) -> Engine:
    """A fresh model in an engine; the same numbers every time."""
    torch.manual_seed(0)
    model = TalkerModel(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, weight_decay=DECAY)
    return Engine(model, optimiser, run, rate_at(steps), clip=1.0, ema=0.999)


def train(engine: Engine, data: Data, heldout: Data, steps: int, minutes: float = float("inf")) -> None:
    """Up to `steps` steps in all, or until the run has taken `minutes`; continues where the run stands."""
    model, averaged = engine.module, engine.ema_module
    assert isinstance(model, TalkerModel)
    assert isinstance(averaged, TalkerModel)
    start = engine.load()
    if start == 0:
        measure(model, data.held)
        averaged.stats.load_state_dict(model.stats.state_dict())
    sums: dict[str, float] = {}
    for step, clips in zip(range(start, steps), data.from_step(start), strict=False):
        g = generator(0, step)
        samples = draw_samples(data, clips, model, g)
        batch = shaken(collate(samples, model.config), samples, g)
        loss, parts = loss_of(model(batch, model.draws(batch, g, REPEAT)), batch)
        engine.backward(loss)
        parts |= {"grad": torch.tensor(engine.step())}
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value) / LOG_EVERY
        out_of_time = engine.seconds > 60 * minutes
        if engine.step_count % LOG_EVERY == 0:
            engine.log(**sums)
            sums = {}
        if engine.step_count % VALIDATE_EVERY == 0:
            engine.log(**validate(averaged, heldout))
        if engine.step_count % SAVE_EVERY == 0 or out_of_time:
            engine.save()
        if out_of_time:
            return
    engine.save()


def export(engine: Engine, folder: Path) -> None:
    """Write the averaged weights, without what only training needs."""
    engine.load()
    averaged = engine.ema_module
    assert isinstance(averaged, TalkerModel)
    lean = TalkerModel(dataclasses.replace(averaged.config, forecast=0))
    kept = lean.state_dict().keys()
    lean.load_state_dict({key: value for key, value in averaged.state_dict().items() if key in kept})
    save_component(lean, folder)


def main() -> None:
    """Train, or export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/talker"))
    parser.add_argument("--steps", type=int, default=8000, help="the rate falls over the last fifth of them")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop earlier, by the clock")
    parser.add_argument("--clips", type=int, default=12_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", action="store_true", help="write the weights into the package and end")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    engine = build(TalkerConfig.puppet(PhonemeTokenizer().vocab_size), options.run, options.steps)
    if options.export:
        export(engine, PUPPET / "talker")
        return
    data = Data.of(latents(options.run.parent, "train", options.clips))
    heldout = Data.of(latents(options.run.parent, "heldout", HELDOUT))
    train(engine, data, heldout, options.steps, options.minutes)


if __name__ == "__main__":
    main()
