"""Train a motion autoencoder on pairs of frames of one clip without labels, as LIA and LIA-X were trained.

    python -m recipes.train_motion_ae_selfsupervised [--config puppet]  train; continues from the run folder
    torchrun --nproc-per-node 2 -m -- recipes.train_motion_ae_selfsupervised    the same, shared
    python -m recipes.train_motion_ae_selfsupervised --vgg vgg19.pth    with VGG19 as the perceptual distance
    python -m recipes.export motion_ae_selfsupervised RUN FOLDER        write the averaged weights

The encoder encodes the target as a motion code, and the decoder reconstructs the target from the source and
the code. The meaning of the code is learned. Unlike `recipes.train_motion_ae`, this recipe uses no ground
truth of the synthetic corpus except the boxes of mouth and eyes, which a face detector can provide for real
videos.

Objective (LIA, section 3.4; LIA-X): absolute error, a perceptual distance, a non-saturating adversarial loss
with a discriminator that has a lazy R1 penalty, and sparsity of the codes. Autoencoder and discriminator are
updated in the same step, each with the gradient at the other's former weights: one module, one optimiser, one
checkpoint. The first steps train without the finest level.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.train_motion_ae_selfsupervised")

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.discriminator import Discriminator, DiscriminatorConfig
from motion_ae.losses import box_weights, non_saturating_loss, r1, sparsity, weighted_l1
from motion_ae.model import MotionAE
from motion_ae.perceptual import FilterDistance, VGGDistance
from recipes import ranks
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim, Run
from recipes.data.frame_bank import FrameBank, Pairs, drawn_pairs, first_pairs
from recipes.device import bfloat16_autocast, to_device
from recipes.draws import generator
from recipes.engine import Engine
from recipes.launch import argument_parser, launch
from recipes.prefetch import prefetch
from recipes.record import fingerprint, read_model_config, write_record
from recipes.train_motion_ae import picture, save_sheet, squared_error


@dataclass(frozen=True, kw_only=True)
class PictureWeights:
    """Weights of a perceptual distance and of the adversarial loss; the absolute error has weight 1."""

    perceptual: float
    adversarial: float


@dataclass(frozen=True, kw_only=True)
class SelfSupervisedRun(Run):
    """A self-supervised training of a motion autoencoder.

    Args:
        model: the network; frames are resized to its resolution.
        discriminator: the discriminator's config.
        rows: pairs in a step, over all ranks.
        coarse: share of all steps, at the beginning, without the finest level, at half the resolution.
        mouth, eyes: additional weight of pixels of the mouth and the eyes; other pixels have weight 1.
        vgg: weights with VGG19's perceptual distance (those of LIA).
        filters: weights with the distance of fixed filters, which is 20 to 100 times smaller.
        sparsity, sparsity_warmup: weight of the size of the codes, and the share of all steps in which it
            rises.
        r1, r1_every: weight of the R1 penalty, and the number of steps between two of them.
        jitter: largest change of brightness, contrast and saturation.
        people: largest number of people that are rendered (3 MB each).
        heldout: pairs of unseen people to validate on.
    """

    model: MotionAEConfig
    discriminator: DiscriminatorConfig
    rows: int = 8
    coarse: float = 1 / 3
    mouth: float = 8.0
    eyes: float = 3.0
    vgg: PictureWeights = PictureWeights(perceptual=10.0, adversarial=1.0)
    filters: PictureWeights = PictureWeights(perceptual=4.0, adversarial=0.1)
    sparsity: float = 1e-3
    sparsity_warmup: float = 1 / 6
    r1: float = 10.0
    r1_every: int = 16
    jitter: float = 0.15
    people: int = 2048
    heldout: int = 24

    def without_zero(self) -> str:
        """Return why this training cannot run under DeepSpeed's ZeRO."""
        return "two networks are trained against each other, each with its own backward pass"


# Adam normalises the size of gradients. Clipping both networks by their common norm would only let one
# disturb the other. Steps with a gradient that is not finite are still skipped.
UNCLIPPED = math.inf


def puppet() -> SelfSupervisedRun:
    """The published architecture at 128 pixels, for a CPU."""
    return SelfSupervisedRun(
        model=MotionAEConfig.small(),
        discriminator=DiscriminatorConfig.puppet(),
        steps=12_000,
        optim=Optim(lr=2e-3, betas=(0.0, 0.99), warmup=50, floor=0.02, clip=UNCLIPPED),
    )


def release() -> SelfSupervisedRun:
    """LIA-X's network at its released size of 512 pixels; the corpus's frames of 256 pixels are enlarged.

    Published: the sizes of the network and of StyleGAN2's discriminator; LIA's learning rate, steps and batch
    of 64 pairs; the perceptual, adversarial and sparsity losses (use --vgg). Ours: the weights of mouth, eyes
    and sparsity, the R1 penalty (StyleGAN2's), jitter, stages and the schedule of the learning rate.
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
    """For tests: tiny networks; seconds."""
    few = replace(puppet(), steps=4, rows=4, coarse=0.5, r1_every=2, people=8, heldout=4)
    sized = replace(few, model=MotionAEConfig.tiny_published(), discriminator=DiscriminatorConfig.tiny())
    return replace(sized, log_every=1, validate_every=2)


PRESETS = {preset.__name__: preset for preset in (puppet, release, tiny)}


@dataclass(frozen=True)
class Batch:
    """Pairs of frames of one clip.

    Attributes:
        source, target: (B, 3, H, W) pictures in [-1, 1].
        mouth, eyes: (B, 1, H, W) 1 in the boxes of the target's mouth and eyes, else 0.
    """

    source: Tensor
    target: Tensor
    mouth: Tensor
    eyes: Tensor


def to_batch(pairs: Pairs) -> Batch:
    """Return the pictures and boxes of pairs as a batch."""
    boxes, size = pairs.target_boxes, pairs.target.shape[1]
    mouth, eyes = box_weights(boxes[:, :1], size, 1.0), box_weights(boxes[:, 1:], size, 1.0)
    return Batch(picture(pairs.source), picture(pairs.target), mouth, eyes)


def draw(bank: FrameBank, run: SelfSupervisedRun, step: int) -> Batch:
    """Return this rank's pairs of one step, augmented."""
    draws = generator(run.seed, step)
    return augment(to_batch(drawn_pairs(bank, step, run.rows, draws)), run, draws)


def augment(batch: Batch, run: SelfSupervisedRun, draws: torch.Generator) -> Batch:
    """Mirror half of the pairs, and change their brightness, contrast and saturation.

    Both frames of a pair are changed alike.
    """
    own = ranks.own(run.rows)
    mirrored = (torch.rand(run.rows, 1, 1, 1, generator=draws) < 0.5)[own]
    changes = run.jitter * (2 * torch.rand(3, run.rows, 1, 1, 1, generator=draws) - 1)
    brightness, contrast, saturation = changes[:, own]

    def mirror(x: Tensor) -> Tensor:
        return torch.where(mirrored, x.flip(-1), x)

    def tint(x: Tensor) -> Tensor:
        grey = x.mean(1, keepdim=True)
        return ((grey + (x - grey) * (1 + saturation)) * (1 + contrast) + brightness).clamp(-1, 1)

    source, target = tint(mirror(batch.source)), tint(mirror(batch.target))
    return Batch(source, target, mirror(batch.mouth), mirror(batch.eyes))


def resize(x: Tensor, size: int) -> Tensor:
    """(B, C, H, H) -> (B, C, size, size), averaged over areas."""
    return F.interpolate(x, size=size, mode="area")


def reenact(model: MotionAE, batch: Batch, coarse: bool) -> tuple[Tensor, Tensor]:
    """Reconstruct the targets from the sources.

    Args:
        model: the autoencoder.
        batch: B pairs.
        coarse: skip the finest level.

    Returns:
        (B, 3, h, h) reconstructed targets; (2 B, M) motion codes of the sources, then of the targets.
    """
    count, size = len(batch.source), model.config.resolution
    pictures = resize(torch.cat([batch.source, batch.target]), size)
    identity, features = model.encoder(pictures)
    motion = model.read(pictures, identity, features)
    style = model.style(motion[count:], identity[:count], motion[:count])
    used = features[:-1] if coarse else features
    decoded = model.decoder.level_outputs(style, tuple(feature[:count] for feature in used))[-1].rgb
    assert decoded is not None
    return decoded.float(), motion


def train(
    folder: Path,
    run: SelfSupervisedRun,
    distance: VGGDistance | FilterDistance,
    bank: FrameBank,
    heldout: Batch,
    minutes: float = float("inf"),
    device: torch.device | str = "cpu",
) -> Engine:
    """Train until `run.steps` steps are done or the run has taken `minutes`; continues from the run folder.

    Args:
        folder: the run folder.
        run: the config.
        distance: the perceptual distance.
        bank: rendered frames to train on.
        heldout: pairs to validate on, with a sheet of pictures.
        minutes: training time of the run, over all resumes.
        device: where to train.
    """
    torch.manual_seed(run.seed)
    model, discriminator = MotionAE(run.model).to(device), Discriminator(run.discriminator).to(device)
    modules, distance = nn.ModuleDict({"model": model, "discriminator": discriminator}), distance.to(device)
    optim, scale = run.optim, run.vgg if isinstance(distance, VGGDistance) else run.filters
    optimiser = torch.optim.Adam(modules.parameters(), lr=optim.lr, betas=optim.betas, fused=True)
    schedule = optim.factor(run.steps)
    engine = Engine(modules, optimiser, folder, schedule, optim.clip, optim.ema, averaged="model")
    engine.load()
    # Training frames are rendered as they are needed; the fingerprint is of the held-out ones.
    write_record(
        folder,
        "motion_ae_selfsupervised",
        run,
        fingerprint((heldout.source.cpu().numpy(), heldout.target.cpu().numpy())),
    )
    steps = range(engine.step_count, run.steps)
    with prefetch(partial(draw, bank, run), steps, device) as batches:
        for step in engine.steps(run.steps, minutes, run.save_seconds):
            batch, coarse = to_device(device, next(batches)), step < round(run.coarse * run.steps)
            with bfloat16_autocast(device):
                decoded, motion = reenact(model, batch, coarse)
                weights = 1 + run.mouth * batch.mouth + run.eyes * batch.eyes
                target, weights = (resize(x, decoded.shape[-1]) for x in (batch.target, weights))
                judged = non_saturating_loss(discriminator(target)) + non_saturating_loss(
                    -discriminator(decoded.detach())
                )
            engine.backward(judged)
            judgement = {"judged": judged}
            if step % run.r1_every == 0:
                real = target.detach().requires_grad_(True)
                judgement["r1"] = r1(discriminator(real), real)
                engine.backward(run.r1 / 2 * run.r1_every * judgement["r1"])

            discriminator.requires_grad_(False)  # the losses below train the autoencoder alone
            ramp = min(1.0, step / max(1, round(run.sparsity_warmup * run.steps)))
            with bfloat16_autocast(device):
                parts = {
                    "l1": weighted_l1(decoded, target, weights, ranks.mean),
                    "perceptual": scale.perceptual * distance(decoded, target),
                    "adversarial": scale.adversarial * non_saturating_loss(discriminator(decoded)),
                    "sparsity": run.sparsity * ramp * sparsity(motion),
                }
            engine.backward(torch.stack(list(parts.values())).sum())
            discriminator.requires_grad_(True)

            engine.step(batch, **parts, **judgement)
            if engine.step_count % run.log_every == 0:
                engine.log(**engine.means(), **engine.meter(run.rows))
            if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
                assert isinstance(engine.ema_module, MotionAE)
                sheet = folder / f"sheet-{engine.step_count:06d}.png"
                engine.log(**validate(engine.ema_module, to_device(device, heldout), coarse, sheet))
    return engine


@torch.no_grad()
def validate(model: MotionAE, batch: Batch, coarse: bool, sheet: Path) -> dict[str, float]:
    """Measure reconstruction on held-out pairs at the frames' resolution, and write a sheet of pictures.

    Returns:
        PSNR in dB, from the error summed over all pairs:
        psnr, mouth: of the whole picture and of the mouth's box;
        psnr_copy, mouth_copy: of the source as a prediction.
    """
    rows = [Batch(*parts) for parts in zip(*(x.split(4) for x in vars(batch).values()), strict=True)]
    small = torch.cat([reenact(model, row, coarse)[0] for row in rows]).clamp(-1, 1)
    decoded = F.interpolate(small, batch.target.shape[-2:], mode="bilinear")
    save_sheet(torch.cat([batch.source[:12], batch.target[:12], decoded[:12]], dim=-1), sheet)
    whole = torch.ones_like(batch.mouth)
    sums = {
        "psnr": squared_error(decoded, batch.target, whole),
        "psnr_copy": squared_error(batch.source, batch.target, whole),
        "mouth": squared_error(decoded, batch.target, batch.mouth),
        "mouth_copy": squared_error(batch.source, batch.target, batch.mouth),
    }
    return {name: 10 * math.log10(count / error) for name, (error, count) in sums.items()}


def averaged(folder: Path) -> MotionAE:
    """Return the averaged network of a run."""
    model = MotionAE(read_model_config(folder, MotionAEConfig, MotionAEConfig.small()))
    model.load_state_dict(averaged_weights(folder, "model"))
    return model.eval().requires_grad_(False)


def perceptual_distance(vgg: Path | None) -> VGGDistance | FilterDistance:
    """Return VGG19's perceptual distance, with weights from a file of torchvision, or that of fixed filters.

    Raises:
        ValueError: the file has no weights, or not those of VGG19.
    """
    if vgg is None:
        return FilterDistance()
    try:
        safe = vgg.suffix == ".safetensors"
        weights = load_file(vgg) if safe else torch.load(vgg, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"--vgg {vgg} cannot be read: use torchvision's weights of vgg19, as .pth or .safetensors"
        ) from error
    return VGGDistance(weights)


def main() -> None:
    """Run the command line."""
    parser = argument_parser("motion_ae_selfsupervised", __doc__, PRESETS)
    parser.add_argument("--frames", type=Path, default=Path("runs/frames"), help="folder of rendered frames")
    parser.add_argument(
        "--vgg", type=Path, metavar="FILE", help="torchvision's weights of vgg19; default: fixed filters"
    )
    with launch(parser) as (options, run, device):
        ranks.check_divisible(run.rows, run.discriminator.group)
        distance = perceptual_distance(options.vgg)
        with ranks.rank_zero_first():
            heldout = to_batch(first_pairs(FrameBank(options.frames, "heldout", people=256), run.heldout))
            bank = FrameBank(options.frames, "train", run.people)
        train(options.run, run, distance, bank, heldout, options.minutes, device)


if __name__ == "__main__":
    main()
