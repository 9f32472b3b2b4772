"""Train a motion autoencoder on nothing but pairs of frames of one clip, as LIA and LIA-X were.

    python -m recipes.train_motion_ae_selfsupervised                    train; continues from the run folder
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

import argparse
import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
from recipes.data.frame_bank import FrameBank, Pairs, drawn_pairs, first_pairs
from recipes.launch import Engine, fast_arithmetic, generator, warmup_cosine
from recipes.record import record, recorded
from recipes.train_motion_ae import picture, save_sheet, squared_error

BATCH = 8  # pairs a step
RATE, BETAS, WARMUP = 2e-3, (0.0, 0.99), 50
COARSE_STEPS = 4000  # without the finest level, at half the resolution
MOUTH, EYES = 8.0, 3.0  # how much more their pixels count
# Weights of the perceptual distance and the adversarial loss beside the absolute error's: LIA's, and ones of
# the same proportion for a distance twenty to a hundred times smaller.
WEIGHTS = {VGGDistance: (10.0, 1.0), FilterDistance: (4.0, 0.1)}
SPARSITY, SPARSITY_WARMUP = 1e-3, 2000
R1, R1_EVERY = 10.0, 16
JITTER = 0.15  # of brightness, contrast and saturation
LOG_EVERY, LOOK_EVERY = 50, 250


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, H, W) of two moments; where the target's mouth and eyes are, 0 or 1 (B, 1, H, W)."""

    source: Tensor
    target: Tensor
    mouth: Tensor
    eyes: Tensor


def to_batch(pairs: Pairs) -> Batch:
    """Pictures and boxes; the rest of what the corpus knows stays unused."""
    boxes, size = torch.from_numpy(np.asarray(pairs.target_boxes)), pairs.target.shape[1]
    mouth, eyes = box_weights(boxes[:, :1], size, 1.0), box_weights(boxes[:, 1:], size, 1.0)
    return Batch(picture(pairs.source), picture(pairs.target), mouth, eyes)


def draw(bank: FrameBank, step: int) -> Batch:
    """The pairs of one step, flipped and tinted."""
    draws = generator(0, step)
    return augment(to_batch(drawn_pairs(bank, step, BATCH, draws)), draws)


def augment(batch: Batch, draws: torch.Generator) -> Batch:
    """Half of the pairs mirrored; brightness, contrast and saturation shaken, for both frames alike."""
    count = len(batch.source)
    mirrored = torch.rand(count, 1, 1, 1, generator=draws) < 0.5
    brightness, contrast, saturation = JITTER * (2 * torch.rand(3, count, 1, 1, 1, generator=draws) - 1)

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
    run: Path,
    config: MotionAEConfig,
    judge: DiscriminatorConfig,
    perceptual: VGGDistance | FilterDistance,
    bank: FrameBank,
    heldout: Batch,
    steps: int,
    minutes: float,
) -> Engine:
    """Train for `steps` steps or `minutes` minutes, whichever comes first."""
    torch.manual_seed(0)
    model, discriminator = MotionAE(config), Discriminator(judge)
    modules = nn.ModuleDict({"model": model, "discriminator": discriminator})
    optimiser = torch.optim.Adam(modules.parameters(), lr=RATE, betas=BETAS, fused=True)
    # Adam divides by the gradients' size: to clip both sides by the norm of both would only let each disturb
    # the other. A step that is not finite is still skipped.
    schedule = warmup_cosine(WARMUP, steps, floor=0.02)
    engine = Engine(modules, optimiser, run, schedule, clip=math.inf, ema=0.999)
    likeness, adversary = WEIGHTS[type(perceptual)]
    penalty, recent = torch.zeros(()), list[Tensor]()
    engine.load()
    record(run, "motion_ae_selfsupervised", config, "frames of the corpus, rendered as training goes on")
    for step in engine.steps(steps, minutes):
        batch, coarse = draw(bank, step), step < COARSE_STEPS
        with fast_arithmetic():
            drawn, motion = reenact(model, batch, coarse)
            weights = 1 + MOUTH * batch.mouth + EYES * batch.eyes
            target, weights = (shrink(x, drawn.shape[-1]) for x in (batch.target, weights))
            judged = not_believed(discriminator(target)) + not_believed(-discriminator(drawn.detach()))
        engine.backward(judged)
        if step % R1_EVERY == 0:
            real = target.detach().requires_grad_(True)
            penalty = r1(discriminator(real), real)
            engine.backward(R1 / 2 * R1_EVERY * penalty)

        discriminator.requires_grad_(False)  # it does not learn to be deceived
        with fast_arithmetic():
            parts = {
                "l1": weighted_l1(drawn, target, weights),
                "perceptual": likeness * perceptual(drawn, target),
                "adversarial": adversary * not_believed(discriminator(drawn)),
                "sparsity": SPARSITY * min(1.0, step / SPARSITY_WARMUP) * sparsity(motion),
            }
        engine.backward(torch.stack(list(parts.values())).sum())
        discriminator.requires_grad_(True)

        shown = parts | {"judged": judged, "r1": penalty, "grad": torch.tensor(engine.step())}
        recent.append(torch.stack([value.detach() for value in shown.values()]))
        if engine.step_count % LOG_EVERY == 0:
            values = dict(zip(shown, torch.stack(recent).mean(0).tolist(), strict=True))
            if engine.step_count % LOOK_EVERY == 0:
                average = engine.ema_module.get_submodule("model")
                assert isinstance(average, MotionAE)
                values |= look(average, heldout, coarse, run / f"sheet-{engine.step_count:06d}.png")
            engine.log(**values, **engine.meter(BATCH))
            recent.clear()
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


def averaged(run: Path) -> MotionAE:
    """The averaged network of a run, for use."""
    state = torch.load(run / "state.pt", weights_only=True, map_location="cpu")["ema"]
    model = MotionAE(recorded(run, MotionAEConfig, MotionAEConfig.small()))
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/motion_ae_selfsupervised"))
    parser.add_argument("--frames", type=Path, default=Path("runs/frames"), help="folder of rendered frames")
    parser.add_argument("--steps", type=int, default=12000, help="the learning rate reaches its floor here")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop earlier, by the clock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--people", type=int, default=2048, help="most people rendered (3 MB each)")
    parser.add_argument(
        "--vgg", type=Path, metavar="FILE", help="torchvision's vgg19 weights, if you have them"
    )
    options = parser.parse_args()
    ranks.alone("train_motion_ae_selfsupervised")
    torch.set_num_threads(options.threads)
    heldout = to_batch(first_pairs(FrameBank(options.frames, "heldout", people=256), 24))
    bank, judge = FrameBank(options.frames, "train", options.people), DiscriminatorConfig.puppet()
    perceptual = perceptual_distance(options.vgg)
    train(
        options.run, MotionAEConfig.small(), judge, perceptual, bank, heldout, options.steps, options.minutes
    )


if __name__ == "__main__":
    main()
