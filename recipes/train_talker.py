"""Train the talker on latents of the corpus.

    python -m recipes.data.latents                       once: clips and latents
    python -m recipes.train_talker [--config puppet] [--set optim.lr=5e-4] [--run runs/talker] [--threads 2]
    torchrun --nproc-per-node 8 -m -- recipes.train_talker --config release --data prepared --set zero=2
    deepspeed --module recipes.train_talker --config release --data prepared
    python -m recipes.export talker runs/talker FOLDER   write the averaged weights

One model learns four tasks; each sample of a batch draws one of them. The published losses are those of both
heads and of the stop predictor. For a synthetic corpus and a small budget this recipe adds a network that
forecasts the next patch from the hidden state, the known position in the text at every patch, noise on
latents that are fed back, and jitter of the text positions: in training the model sees errors like those it
makes in generation. `recipes/configs/talker.py` sets the amount of each.

Every draw is a function of (seed, step, index of the sample in the step), and every loss is a sum divided by
its count over the whole step. A step is therefore the same however it is divided among ranks and passes.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.train_talker")

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from heads.flow import Draws, draws
from heads.layers import Block
from heads.streams import NAMES, Streams
from recipes import ranks
from recipes.checkpoints import averaged_weights
from recipes.configs.talker import PRESETS, Mix, Noise, TalkerRun
from recipes.data.latents import Latents, latents
from recipes.data.order import batches_from
from recipes.data.prepared import Prepared
from recipes.draws import generator
from recipes.engine import Engine
from recipes.launch import add_renamed, argument_parser, launch
from recipes.plan import step_flops
from recipes.prefetch import prefetch
from recipes.record import read_config, write_record
from recipes.samples import Samples, samples_for
from talker.clock import FRAME_RATE
from talker.model.backbone import Layer
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.model.stats import LatentStats
from talker.model.tasks import Task, task_named
from talker.model.training_batch import Sample, TrainingBatch, collate
from talker.shipped import PUPPET


@dataclass(frozen=True)
class Data:
    """Clips of a data set, and the clips of each voice.

    Attributes:
        held: the data set.
        others: clip indices by voice.
    """

    held: Latents | Prepared
    others: dict[int, list[int]]

    @classmethod
    def of(cls, held: Latents | Prepared) -> Data:
        """Group the clips of `held` by voice."""
        others: dict[int, list[int]] = {}
        for clip, voice in enumerate(held.voice.tolist()):
            others.setdefault(voice, []).append(clip)
        return cls(held, others)

    def from_step(self, step: int, rows: int, seed: int = 0) -> Iterator[list[int]]:
        """Yield the clip indices, `rows` each, of step `step` and all later steps.

        They are a function of (seed, step).
        """
        return batches_from(self.held.frames, self.held.shard, rows, seed, step)


def sample_of(data: Data, clip: int, task: Task, with_text: bool, speaker: int, stats: LatentStats) -> Sample:
    """Return clip `clip` as a sample of `task`, with the voice embedding of clip `speaker`."""
    held = data.held
    known = task.given + task.predicted
    raw = Streams(**{name: held.of(name, clip) for name in known})
    normal = stats.normalise(raw)
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


def draw_sample(
    data: Data, clip: int, run: TalkerRun, mix: Mix, stats: LatentStats, g: torch.Generator
) -> Sample:
    """Return clip `clip` as a sample of a random task, with the voice embedding of any clip of its voice.

    A clip without a text (an idle one) is always an A2V sample.
    """
    shares = torch.tensor([mix.t2av, mix.tts, mix.a2v, mix.v2a], dtype=torch.float32)
    kind = int(torch.multinomial(shares, 1, generator=g))
    silent, other = torch.rand(2, generator=g).tolist()
    name = ("t2av", "tts", "a2v", "v2a")[kind] if data.held.ids(clip) else "a2v"
    with_text = not (name == "a2v" and silent < mix.without_text)
    same = data.others[int(data.held.voice[clip])]
    speaker = same[int(other * len(same))]
    return sample_of(data, clip, task_named(run.model.tasks, name), with_text, speaker, stats)


def encoder_noise(motion: Tensor, strength: float, g: torch.Generator) -> Tensor:
    """Return noise like the error of a motion encoder that reads a video.

    For the whole clip, each motion value is shrunk towards its mean and shifted; white noise is added.

    Args:
        motion: (n, P, M) normalised motion.
        strength: the largest strength; a random one below is drawn.

    Returns:
        (n, P, M) noise to add to `motion`.
    """
    share, values = strength * torch.rand((), generator=g), motion.shape[-1]
    shrunk, shift = torch.rand(values, generator=g), torch.randn(values, generator=g)
    return share * (shift - shrunk * motion + 0.5 * torch.randn(motion.shape, generator=g))


def perturb(
    batch: TrainingBatch, samples: list[Sample], noise: Noise, each: Sequence[torch.Generator]
) -> TrainingBatch:
    """Return `batch` with noise on the latents that are fed back and jitter on the text positions.

    The latents of a given motion get `encoder_noise`.

    Args:
        batch: the clean batch.
        samples: its samples.
        noise: how strong each perturbation is.
        each: one generator for each sample.
    """
    used = batch.encoded["audio"].sum(1).tolist()
    level = [noise.feedback * torch.rand((), generator=g) for g in each]
    fed = {}
    for name, clean in batch.fed.items():
        own = [name in sample.task.predicted for sample in samples]
        drawn = [torch.randn(n, *clean.shape[2:], generator=g) for n, g in zip(used, each, strict=True)]
        moved = [x * share * mine for x, share, mine in zip(drawn, level, own, strict=True)]
        if name == "motion" and noise.motion:
            for row, sample in enumerate(samples):
                if name in sample.task.given:
                    moved[row] = encoder_noise(clean[row, : used[row]], noise.motion, each[row])
        fed[name] = clean + pad_sequence(moved, batch_first=True) * batch.real[name][..., None]
    amount = torch.stack([noise.position * torch.rand((), generator=g) for g in each])
    fresh = pad_sequence(
        [torch.randn(n, generator=g) for n, g in zip(used, each, strict=True)], batch_first=True
    )
    jitter, jitters = torch.zeros(len(samples)), []
    for now in fresh.unbind(1):
        jitter = noise.correlation * jitter + (1 - noise.correlation**2) ** 0.5 * now
        jitters.append(jitter)
    placed = batch.read + amount[:, None] * torch.stack(jitters, 1)
    return dataclasses.replace(batch, fed=Streams(**fed), placed=placed)


def flow_draws(batch: TrainingBatch, repeat: int, each: Sequence[torch.Generator]) -> Draws:
    """Return flow-matching draws for every predicted patch of a batch, `repeat` of each, sample by sample."""
    rows = []
    for row, g in enumerate(each):
        targets = {name: batch.target[name][row][mask[row]] for name, mask in batch.predicted.items()}
        like = Streams(**{name: target.repeat_interleave(repeat, 0) for name, target in targets.items()})
        rows.append(draws(like, g))

    def joined(field: str) -> Streams:
        return Streams(**{name: torch.cat([getattr(row, field)[name] for row in rows]) for name in NAMES})

    return Draws(**{field.name: joined(field.name) for field in dataclasses.fields(Draws)})


def draw(
    data: Data, step: int, clips: list[int], run: TalkerRun, stats: LatentStats
) -> list[tuple[TrainingBatch, Draws]]:
    """Return this rank's share of a step: a batch and its draws for each forward pass."""
    mix = run.mix_at(step)
    passes = run.passes(ranks.size(), data.held.frames[clips].max() / FRAME_RATE)
    found = []
    for piece in range(ranks.rank(), passes * ranks.size(), ranks.size()):
        numbers = range(piece, len(clips), passes * ranks.size())
        each = [generator(run.seed, step, number) for number in numbers]
        samples = [
            draw_sample(data, clips[number], run, mix, stats, g)
            for number, g in zip(numbers, each, strict=True)
        ]
        batch = perturb(collate(samples, run.model), samples, run.noise, each)
        found.append((batch, flow_draws(batch, run.batch.repeat, each)))
    return found


def counts_of(batch: TrainingBatch, repeat: int) -> Tensor:
    """Return the counts (8,) by which the parts of the loss are divided, in the order of `PARTS`.

    The last two are the number of stop labels 0 in samples that end, and the number of such samples.
    """
    patches = [int(batch.predicted[name].sum()) for name in NAMES]
    ended = (batch.stop_label == 1).any(1)
    zeros = int((batch.stop_label == 0)[ended].sum())
    labels, places = int((batch.stop_label >= 0).sum()), int(batch.reads.sum())
    several = [repeat * count for count in patches]
    return torch.tensor([*several, *patches, labels, places, zeros, int(ended.sum())], dtype=torch.float64)


PARTS = ("audio", "motion", "forecast_audio", "forecast_motion", "stop", "reading")


def loss_of(errors: dict[str, Tensor], counts: Tensor, run: TalkerRun) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, a scalar, and its unweighted parts.

    A part is the sum of its errors over predicted patches, stop labels or known text positions, divided by
    its count in `counts`, see `counts_of`.
    """
    count = dict(zip(PARTS, counts[: len(PARTS)].clamp(min=1).tolist(), strict=True))
    parts = {name: value.sum() / count[name] for name, value in errors.items()}
    total = torch.stack([getattr(run.weights, name) * part for name, part in parts.items()]).sum()
    return total, {name: part.detach() for name, part in parts.items()}


def measure(model: TalkerModel, held: Latents | Prepared) -> None:
    """Set the model's latent statistics to those of the training clips."""
    model.stats.set(*held.statistics())


@torch.no_grad()
def validate(model: TalkerModel, data: Data, run: TalkerRun, clips: int = 32) -> dict[str, float]:
    """Return the losses of the first `clips` held-out clips that have a text, by task, with fixed draws."""
    device, stats = model.task_embedding.weight.device, copy.deepcopy(model.stats).cpu()
    found: dict[str, float] = {}
    spoken = [clip for clip in range(len(data.held)) if data.held.ids(clip)][:clips]
    for task in model.config.tasks:
        samples = [sample_of(data, clip, task, True, clip, stats) for clip in spoken]
        batch = collate(samples, model.config)
        drawn = model.draws(batch, generator(1, 0), 2).to(device)
        _, parts = loss_of(model(batch.to(device), drawn), counts_of(batch, 2), run)
        found |= {f"{task.name}_{name}": float(parts[name]) for name in task.predicted}
        if task.name == "t2av":
            found |= {name: float(parts[name]) for name in ("stop", "reading") if name in parts}
    return found


def build(run: TalkerRun, folder: Path, device: torch.device | str = "cpu") -> Engine:
    """Return an engine with a new model, whose initial weights depend on `run.seed` alone.

    Raises:
        ValueError: there are more ranks than rows in a step, or every share of the mix is 0.
    """
    run.passes(ranks.size(), 1.0)  # fails early if there are too many ranks
    if not any(getattr(run.mix, task) for task in ("t2av", "tts", "a2v", "v2a")):
        raise ValueError("every task has share 0: set mix.t2av, mix.tts, mix.a2v or mix.v2a above 0")
    torch.manual_seed(run.seed)
    model = TalkerModel(run.model).to(device)
    model.backbone.recompute = run.recompute
    optim = run.optim
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.decay, fused=True
    )
    trainer = Engine(
        model,
        optimiser,
        folder,
        schedule=optim.factor(run.steps),
        clip=optim.clip,
        ema=optim.ema,
        precision=run.precision,
        zero=run.zero,
    )
    if model.motion_pad_emb.is_cuda and run.zero < 3:  # stage 3 gathers weights inside a block
        compile_blocks(model)
    return trainer


def compile_blocks(model: TalkerModel) -> None:
    """Compile every transformer block for all shapes, if Triton and a C compiler are installed.

    The operations between the matrix products are then fused, which is several times faster.
    """
    if find_spec("triton") is None or not any(map(which, ("gcc", "clang"))):
        return
    for block in model.modules():
        if isinstance(block, Layer | Block):
            block.compile(dynamic=True)


def train(
    trainer: Engine,
    run: TalkerRun,
    data: Data,
    heldout: Data,
    minutes: float = float("inf"),
    samples: Samples | None = None,
) -> None:
    """Train until `run.steps` steps are done or the run has taken `minutes`; continues from the run folder.

    Args:
        trainer: the engine that `build` returns.
        run: the config.
        data, heldout: clips to train on and to validate on.
        minutes: training time of the run, over all resumes.
        samples: generates clips every `run.generate_every` steps, if given.
    """
    model, averaged = trainer.module, trainer.ema_module
    assert isinstance(model, TalkerModel)
    assert isinstance(averaged, TalkerModel)
    device = model.task_embedding.weight.device
    start = trainer.load()
    write_record(trainer.run, "talker", run, data.held.fingerprint)
    if start == 0 and not trainer.begun:  # trained weights expect the units of their own data
        measure(model, data.held)
        averaged.stats.load_state_dict(model.stats.state_dict())
    stats = copy.deepcopy(model.stats).cpu()
    clips = enumerate(data.from_step(start, run.batch.rows, run.seed), start)
    flops = 0.0
    with prefetch(lambda at: draw(data, *at, run, stats), clips, device) as batches_ahead:
        for _ in trainer.steps(run.steps, minutes, run.save_seconds):
            batches = next(batches_ahead)
            own = torch.stack([counts_of(batch, run.batch.repeat) for batch, _ in batches]).sum(0)
            counts = ranks.total(own.to(device))
            *_, zeros, ended = counts.tolist()
            shown: dict[str, Tensor] = {}
            for batch, drawn in batches:
                whole = dataclasses.replace(batch, stop_weight=torch.tensor(zeros / ended if ended else 1.0))
                errors = trainer(whole.to(device), drawn.to(device))
                loss, parts = loss_of(errors, counts / ranks.size(), run)
                trainer.backward(loss)
                shown = {name: part + shown.get(name, 0.0) for name, part in parts.items()}
                flops += step_flops(run.model, batch, run.batch.repeat)
            trainer.step(batches, **shown)
            if trainer.step_count % run.log_every == 0:
                trainer.log(**trainer.means(), **trainer.meter(run.batch.rows, flops))
                flops = 0.0
            if trainer.step_count % run.validate_every == 0 and ranks.rank() == 0:
                trainer.log(**validate(averaged, heldout, run))
            if samples is not None and trainer.step_count % run.generate_every == 0:
                folder = trainer.run / "samples" / f"{trainer.step_count:08d}"
                if measured := samples(run, folder):
                    trainer.log(**measured)


def averaged(folder: Path) -> TalkerModel:
    """Return the averaged model of a run, without the forecast network, which only training uses."""
    run: TalkerRun = read_config(folder, TalkerRun, PRESETS["puppet"]())
    lean = TalkerModel(dataclasses.replace(run.model, forecast=0))
    held = averaged_weights(folder)
    lean.load_state_dict({key: held[key] for key in lean.state_dict()})
    return lean


def check_widths(held: Latents | Prepared, config: TalkerConfig) -> None:
    """Check that clips have the latent and embedding widths of the model.

    Raises:
        ValueError: they have others.
    """
    found = held.widths | {"voice": len(held.embedding(0))}
    wanted = config.widths | {"voice": config.global_widths["audio"]}
    if found != wanted:
        raise ValueError(
            f"the clips have latents of widths {found}, but the model of this config has {wanted}: "
            f"choose another --config, or prepare the data with other --codecs"
        )


def main() -> None:
    """Run the command line."""
    parser = argument_parser("talker", __doc__, PRESETS)
    parser.add_argument("--data", type=Path, help="data set of recipes.data.prepare, instead of the corpus")
    parser.add_argument(
        "--codecs",
        type=Path,
        metavar="FOLDER",
        default=PUPPET,
        help="checkpoint with the data's autoencoders",
    )
    add_renamed(parser, "--weights", "--codecs")
    with launch(parser) as (options, run, device):
        trainer = build(run, options.run, device)
        held: Latents | Prepared
        heldout: Latents | Prepared
        if options.data:
            held, heldout = Prepared(options.data, "train"), Prepared(options.data, "heldout")
            if ranks.rank() == 0 and (dropped := held.dropped + heldout.dropped):
                lost = ", ".join(f"{why} {count}" for why, count in dropped.items())
                print(f"{options.data}: clips or parts of clips that are ignored: {lost}", flush=True)
        else:
            bank = Path(run.bank) if run.bank else None
            with ranks.rank_zero_first():
                heldout = latents(options.run.parent, "heldout", run.heldout, bank=bank)
                check_widths(heldout, run.model)  # before the many training clips are made
                held = latents(options.run.parent, "train", run.clips, bank=bank)
        check_widths(held, run.model)
        assert isinstance(trainer.ema_module, TalkerModel)
        own = heldout if isinstance(heldout, Prepared) else None
        samples = samples_for(trainer.ema_module, run, options.codecs, own)
        train(trainer, run, Data.of(held), Data.of(heldout), options.minutes, samples)


if __name__ == "__main__":
    main()
