"""Train a motion autoencoder on nothing but pairs of frames of one clip, as LIA and LIA-X were.

    python -m recipes.train_motion_ae_selfsupervised [--config puppet]  train; continues from the run folder
    torchrun --nproc-per-node 2 -m -- recipes.train_motion_ae_selfsupervised    the same, shared
    python -m recipes.train_motion_ae_selfsupervised --vgg vgg19.pth    with VGG19 as the perceptual distance
    python -m recipes.export motion_ae_selfsupervised RUN FOLDER        write the averaged weights

The encoder reads a motion code off the target, the decoder must draw the target from the source by that code.
What the code means is found out on the way. Unlike `recipes.train_motion_ae`, nothing that only a synthetic
corpus knows is used, but for boxes about mouth and eyes, which a face detector gives as well.

Objective (LIA, section 3.4; LIA-X): absolute error, a perceptual distance, a non-saturating adversarial loss
against a discriminator with a lazy R1 penalty, and sparsity of the codes. Both sides learn in one step, each
from the other as it was before: one module, one optimiser, one checkpoint. The coarser levels learn first.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.discriminator import Discriminator, DiscriminatorConfig
from motion_ae.losses import box_weights, not_believed, r1, sparsity, weighted_l1
from motion_ae.model import MotionAE
from motion_ae.perceptual import FilterDistance, VGGDistance
from recipes import ranks
from recipes.ahead import ahead
from recipes.arguments import arguments, started
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim, Run
from recipes.data.frame_bank import FrameBank, Pairs, drawn_pairs, first_pairs
from recipes.launch import Engine, fast_arithmetic, generator, on
from recipes.record import fingerprint, record, recorded_model
from recipes.train_motion_ae import picture, save_sheet, squared_error


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Weights of a perceptual distance, and of the adversarial loss beside it; the absolute error's is 1."""

    perceptual: float
    adversarial: float


@dataclass(frozen=True, kw_only=True)
class SelfSupervisedRun(Run):
    """A self-supervised training of a motion autoencoder.

    Args:
        model: the network; frames of another width are scaled to its own.
        discriminator: its rival.
        rows: pairs a step over all ranks.
        coarse: share of all steps without the finest level, at half the resolution.
        mouth, eyes: how much more their pixels count.
        vgg: weights where VGG's distance is used (LIA's).
        filters: weights where the fixed filters' is, of the same proportion for a distance twenty to a
            hundred times smaller.
        sparsity, sparsity_warmup: weight of the codes' size, and in what share of all steps it rises.
        r1, r1_every: weight of the R1 penalty, and steps between two of them.
        jitter: of brightness, contrast and saturation.
        people: most that are rendered (3 MB each).
        heldout: pairs of unseen people to validate on.
    """

    model: MotionAEConfig
    discriminator: DiscriminatorConfig
    rows: int = 8
    coarse: float = 1 / 3
    mouth: float = 8.0
    eyes: float = 3.0
    vgg: Likeness = Likeness(perceptual=10.0, adversarial=1.0)
    filters: Likeness = Likeness(perceptual=4.0, adversarial=0.1)
    sparsity: float = 1e-3
    sparsity_warmup: float = 1 / 6
    r1: float = 10.0
    r1_every: int = 16
    jitter: float = 0.15
    people: int = 2048
    heldout: int = 24


# Adam divides by the gradients' size: to clip two rivals by the norm of both would only let each disturb the
# other. A step that is not finite is still skipped.
UNCLIPPED = math.inf


def puppet() -> SelfSupervisedRun:
    """The published form at 128 pixels, for a CPU."""
    return SelfSupervisedRun(
        model=MotionAEConfig.small(),
        discriminator=DiscriminatorConfig.puppet(),
        steps=12_000,
        optim=Optim(lr=2e-3, betas=(0.0, 0.99), warmup=50, floor=0.02, clip=UNCLIPPED),
    )


def release() -> SelfSupervisedRun:
    """LIA-X's network at its released size, 512 pixels, to which the corpus's 256 are enlarged.

    Published: the sizes, of StyleGAN2's discriminator as well; LIA's rate, steps and batch of 64 pairs, and
    that perceptual, adversarial and sparsity losses are used (give VGG's weights). Ours: the weights of
    mouth, eyes and sparsity, R1 beside the adversary (StyleGAN2's), jitter, stages, warm-up and fall.
    """
    return SelfSupervisedRun(
        model=MotionAEConfig.base(),
        discriminator=DiscriminatorConfig.base(),
        steps=800_000,
        optim=Optim(lr=2e-3, betas=(0.0, 0.99), warmup=1000, floor=0.02, clip=UNCLIPPED),
        rows=64,
        validate_every=2000,
        save_seconds=1200.0,
    )


def tiny() -> SelfSupervisedRun:
    """For tests: seconds."""
    few = replace(puppet(), steps=4, rows=4, coarse=0.5, r1_every=2, people=8, heldout=4)
    sized = replace(few, model=MotionAEConfig.tiny_published(), discriminator=DiscriminatorConfig.tiny())
    return replace(sized, log_every=1, validate_every=2)


PRESETS = {preset.__name__: preset for preset in (puppet, release, tiny)}


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, H, W) of two moments; where the target's mouth and eyes are, 0 or 1 (B, 1, H, W)."""

    source: Tensor
    target: Tensor
    mouth: Tensor
    eyes: Tensor


def to_batch(pairs: Pairs) -> Batch:
    """Pictures and boxes; the rest of what the corpus knows stays unused."""
    boxes, size = pairs.target_boxes, pairs.target.shape[1]
    mouth, eyes = box_weights(boxes[:, :1], size, 1.0), box_weights(boxes[:, 1:], size, 1.0)
    return Batch(picture(pairs.source), picture(pairs.target), mouth, eyes)


def draw(bank: FrameBank, run: SelfSupervisedRun, step: int) -> Batch:
    """This rank's pairs of one step, flipped and tinted."""
    draws = generator(run.seed, step)
    return augment(to_batch(drawn_pairs(bank, step, run.rows, draws)), run, draws)


def augment(batch: Batch, run: SelfSupervisedRun, draws: torch.Generator) -> Batch:
    """Half of the pairs mirrored; brightness, contrast and saturation shaken, for both frames alike."""
    own = ranks.own(run.rows)
    mirrored = (torch.rand(run.rows, 1, 1, 1, generator=draws) < 0.5)[own]
    shaken = run.jitter * (2 * torch.rand(3, run.rows, 1, 1, 1, generator=draws) - 1)
    brightness, contrast, saturation = shaken[:, own]

    def mirror(x: Tensor) -> Tensor:
        return torch.where(mirrored, x.flip(-1), x)

    def tint(x: Tensor) -> Tensor:
        grey = x.mean(1, keepdim=True)
        return ((grey + (x - grey) * (1 + saturation)) * (1 + contrast) + brightness).clamp(-1, 1)

    source, target = tint(mirror(batch.source)), tint(mirror(batch.target))
    return Batch(source, target, mirror(batch.mouth), mirror(batch.eyes))


def shrink(x: Tensor, size: int) -> Tensor:
    """(B, C, H, H) -> (B, C, size, size), averaged."""
    return F.interpolate(x, size=size, mode="area")


def reenact(model: MotionAE, batch: Batch, coarse: bool) -> tuple[Tensor, Tensor]:
    """The targets as drawn from the sources (B, 3, h, h), without the finest level if `coarse`; the motion
    codes (2 B, M) of sources and targets."""
    count, size = len(batch.source), model.config.resolution
    pictures = shrink(torch.cat([batch.source, batch.target]), size)
    identity, features = model.encoder(pictures)
    motion = model.read(pictures, identity, features)
    style = model.style(motion[count:], identity[:count], motion[:count])
    used = features[:-1] if coarse else features
    drawn = model.decoder.canvases(style, tuple(feature[:count] for feature in used))[-1].rgb
    assert drawn is not None
    return drawn.float(), motion


def train(
    folder: Path,
    run: SelfSupervisedRun,
    distance: VGGDistance | FilterDistance,
    bank: FrameBank,
    heldout: Batch,
    minutes: float = float("inf"),
    device: torch.device | str = "cpu",
) -> Engine:
    """Train up to `run.steps`, or until the run has taken `minutes`; rank 0 measures `heldout` pairs."""
    torch.manual_seed(run.seed)
    model, discriminator = MotionAE(run.model).to(device), Discriminator(run.discriminator).to(device)
    modules, distance = nn.ModuleDict({"model": model, "discriminator": discriminator}), distance.to(device)
    optim, likeness = run.optim, run.vgg if isinstance(distance, VGGDistance) else run.filters
    optimiser = torch.optim.Adam(modules.parameters(), lr=optim.lr, betas=optim.betas, fused=True)
    schedule = optim.factor(run.steps)
    engine = Engine(modules, optimiser, folder, schedule, optim.clip, optim.ema, averaged="model")
    engine.load()
    # Frames to train on are rendered on the way: the held-out ones tell which corpus it is.
    record(
        folder,
        "motion_ae_selfsupervised",
        run,
        fingerprint((heldout.source.cpu().numpy(), heldout.target.cpu().numpy())),
    )
    steps = range(engine.step_count, run.steps)
    with ahead(partial(draw, bank, run), steps, device) as batches:
        for step in engine.steps(run.steps, minutes, run.save_seconds):
            batch, coarse = on(device, next(batches)), step < round(run.coarse * run.steps)
            with fast_arithmetic(device):
                drawn, motion = reenact(model, batch, coarse)
                weights = 1 + run.mouth * batch.mouth + run.eyes * batch.eyes
                target, weights = (shrink(x, drawn.shape[-1]) for x in (batch.target, weights))
                judged = not_believed(discriminator(target)) + not_believed(-discriminator(drawn.detach()))
            engine.backward(judged)
            rival = {"judged": judged}
            if step % run.r1_every == 0:
                real = target.detach().requires_grad_(True)
                rival["r1"] = r1(discriminator(real), real)
                engine.backward(run.r1 / 2 * run.r1_every * rival["r1"])

            discriminator.requires_grad_(False)  # it does not learn to be deceived
            risen = min(1.0, step / max(1, round(run.sparsity_warmup * run.steps)))
            with fast_arithmetic(device):
                parts = {
                    "l1": weighted_l1(drawn, target, weights, ranks.mean),
                    "perceptual": likeness.perceptual * distance(drawn, target),
                    "adversarial": likeness.adversarial * not_believed(discriminator(drawn)),
                    "sparsity": run.sparsity * risen * sparsity(motion),
                }
            engine.backward(torch.stack(list(parts.values())).sum())
            discriminator.requires_grad_(True)

            engine.step(batch, **parts, **rival)
            if engine.step_count % run.log_every == 0:
                engine.log(**engine.means(), **engine.meter(run.rows))
            if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
                assert isinstance(engine.ema_module, MotionAE)
                sheet = folder / f"sheet-{engine.step_count:06d}.png"
                engine.log(**look(engine.ema_module, on(device, heldout), coarse, sheet))
    return engine


@torch.no_grad()
def look(model: MotionAE, batch: Batch, coarse: bool, sheet: Path) -> dict[str, float]:
    """PSNR (one from the summed error) of the whole picture and the mouth box, and of copying the source, at
    the frames' own resolution, to which drawn pictures are enlarged."""
    rows = [Batch(*parts) for parts in zip(*(x.split(4) for x in vars(batch).values()), strict=True)]
    small = torch.cat([reenact(model, row, coarse)[0] for row in rows]).clamp(-1, 1)
    drawn = F.interpolate(small, batch.target.shape[-2:], mode="bilinear")
    save_sheet(torch.cat([batch.source[:12], batch.target[:12], drawn[:12]], dim=-1), sheet)
    whole = torch.ones_like(batch.mouth)
    sums = {
        "psnr": squared_error(drawn, batch.target, whole),
        "psnr_copy": squared_error(batch.source, batch.target, whole),
        "mouth": squared_error(drawn, batch.target, batch.mouth),
        "mouth_copy": squared_error(batch.source, batch.target, batch.mouth),
    }
    return {name: 10 * math.log10(count / error) for name, (error, count) in sums.items()}


def averaged(folder: Path) -> MotionAE:
    """The averaged network of a run, for use."""
    model = MotionAE(recorded_model(folder, MotionAEConfig, MotionAEConfig.small()))
    model.load_state_dict(averaged_weights(folder, "model"))
    return model.eval().requires_grad_(False)


def perceptual_distance(vgg: Path | None) -> VGGDistance | FilterDistance:
    """VGG19's, from a file of torchvision's weights, or the one that needs none.

    Raises:
        ValueError: the file holds no weights, or others.
    """
    if vgg is None:
        return FilterDistance()
    try:
        safe = vgg.suffix == ".safetensors"
        weights = load_file(vgg) if safe else torch.load(vgg, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{vgg} holds no weights: give torchvision's of vgg19, .pth or .safetensors"
        ) from error
    return VGGDistance(weights)


def main() -> None:
    """Train."""
    parser = arguments("motion_ae_selfsupervised", __doc__, PRESETS)
    parser.add_argument("--frames", type=Path, default=Path("runs/frames"), help="folder of rendered frames")
    parser.add_argument(
        "--vgg", type=Path, metavar="FILE", help="torchvision's vgg19 weights, if you have them"
    )
    with started(parser) as (options, run, device):
        ranks.check_share(run.rows, run.discriminator.group)
        distance = perceptual_distance(options.vgg)
        with ranks.in_turn():
            heldout = to_batch(first_pairs(FrameBank(options.frames, "heldout", people=256), run.heldout))
            bank = FrameBank(options.frames, "train", run.people)
        train(options.run, run, distance, bank, heldout, options.minutes, device)


if __name__ == "__main__":
    main()
