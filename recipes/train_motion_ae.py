"""Train the motion autoencoder on pairs of frames of one synthetic person.

    python -m recipes.train_motion_ae [--config puppet] [--set steps=3000]    continues from the run folder
    torchrun --nproc-per-node 2 -m -- recipes.train_motion_ae                 the same, shared
    python -m recipes.train_motion_ae --validate                              measure on unseen people
    python -m recipes.export motion_ae runs/motion_ae FOLDER                  write the averaged weights

Objective: from the features of a source frame and the motion of a target frame, the decoder reconstructs the
target. The loss is the absolute error (mouth and eyes have larger weights), the same on downscaled pictures,
and the error of the differences of neighbouring pixels. Four auxiliary losses use ground truth that only a
synthetic corpus has:

- code: the motion code is the corpus's motion vector, so that a talker can be trained on motion vectors
  without rendering frames;
- flow: the flow of each decoder level is that of the rendered mesh; this loss fades out;
- surface: 1 x 1 convolutions predict from the encoder's features which surface each pixel shows, and how far
  the motion displaced it;
- where: the glimpses locate mouth and eyes. In training they crop near the true centres.

Most samples are driven by true motion vectors, a quarter by the codes that the encoder reads from both
frames, and some by the true target vector relative to the code that the encoder reads from the source, as a
talker drives a portrait.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.train_motion_ae")

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.decoder import coarse_picture, warp
from motion_ae.losses import box_weights, code_error, flow_l1, gradient_l1, pyramid_l1, weighted_l1
from motion_ae.model import MotionAE, SourceFeatures
from recipes import ranks
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim, Run
from recipes.data.frame_bank import FLOW_SIZE, FrameBank, Pairs, drawn_pairs, first_pairs
from recipes.data.frame_bank import SURFACE as SURFACE_VALUES
from recipes.device import bfloat16_autocast, to_device
from recipes.draws import generator
from recipes.engine import Engine
from recipes.launch import argument_parser, launch
from recipes.prefetch import prefetch
from recipes.record import fingerprint, read_model_config, write_record
from talker.media.pixels import from_uint8, to_uint8

CODE_STD = 3.0  # typical standard deviation of a motion code, in the network's units
DISPLACEMENT_STD = 0.2  # typical standard deviation of a surface's displacement by the motion
SAME_SURFACE = 0.08  # largest distance of two points at rest that count as the same, in units of 0.1 m
READ_AT = (1, 2)  # feature levels, 16 and 32 cells wide, from which the surface is predicted


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of the losses and of pixels. The absolute error has weight 1.

    Args:
        pyramid, gradient, code, surface, where, flow: weights of the losses.
        flow_fade, flow_floor: the weight of the flow falls linearly, such that it would reach 0 after the
            share `flow_fade` of all steps, but not below `flow_floor` times its initial value.
        mouth, eyes: additional weight of pixels of the mouth and the eyes; other pixels have weight 1.
        hidden: additional weight of pixels of the mouth that the source does not show, as a multiple of
            `mouth`.
    """

    pyramid: float = 0.5
    gradient: float = 1.0
    code: float = 1.0
    surface: float = 0.5
    where: float = 1.0
    flow: float = 16.0
    flow_fade: float
    flow_floor: float = 0.1
    mouth: float = 8.0
    eyes: float = 3.0
    hidden: float = 2.0


@dataclass(frozen=True, kw_only=True)
class MotionAERun(Run):
    """A training of the motion autoencoder.

    Args:
        model: the network: one with glimpses, whose code is the corpus's motion vector.
        rows: pairs in a step, over all ranks.
        encoded: pairs whose source and target codes both come from the encoder.
        mixed: pairs whose source code comes from the encoder and whose target code is the true vector.
        parts_lr, find_lr: learning rates of the glimpses' layers without equalised learning rate.
        weights: see `Weights`.
        centre_jitter: standard deviation of the glimpses' centres about the true ones, in half picture
            widths.
        coarse: share of all steps, at the beginning, at a quarter of the resolution, which take half the
            time.
        people: largest number of people that are rendered (3 MB each).
        heldout: pairs of unseen people to validate on.
    """

    model: MotionAEConfig
    rows: int = 8
    encoded: int = 2
    mixed: int = 1
    parts_lr: float = 1e-3
    find_lr: float = 1e-2
    weights: Weights
    centre_jitter: float = 0.03
    coarse: float
    people: int = 2048
    heldout: int = 24

    def without_zero(self) -> str:
        """Return why this training cannot run under DeepSpeed's ZeRO."""
        return "some parameters have no gradient in the coarse stage"


def puppet() -> MotionAERun:
    """The embedded default."""
    return MotionAERun(
        model=MotionAEConfig.puppet(),
        steps=9000,
        optim=Optim(lr=3e-3, betas=(0.9, 0.99), warmup=50, floor=0.02),
        weights=Weights(flow_fade=8 / 9),
        coarse=4 / 9,
    )


def tiny() -> MotionAERun:
    """For tests: a tiny network; seconds."""
    model = replace(MotionAEConfig.puppet(), channels=(8, 8, 8, 4, 4), style_dim=32, norm_groups=4)
    few = replace(puppet(), model=model, steps=4, rows=4, coarse=0.5, people=8, heldout=4)
    return replace(few, log_every=1, validate_every=2)


PRESETS = {preset.__name__: preset for preset in (puppet, tiny)}


@dataclass(frozen=True)
class Batch:
    """Pairs of a source and a target frame.

    Attributes:
        source, target: (B, 3, H, W) pictures in [-1, 1].
        source_motion, target_motion: (B, M) motion vectors of the corpus.
        mouth: (B, 1, H, W) 1 in the box of the target's mouth, else 0.
        weights: (B, 1, H, W) weights of the target's pixels.
        flow: (B, 2, g, g) flow from target to source, in pixels.
        flow_weights: (B, 1, g, g) its weights; 0 where the source does not show what the target shows.
        surface: (2 B, 7, g, g) surfaces of the sources, then of the targets, see `frame_bank`.
        centres: (2 B, 3, 2) true centres of mouth and eyes, from -1 to 1, in the same order.
        glances: (2 B, 3, 2) centres at which the glimpses crop, alike.
    """

    source: Tensor
    target: Tensor
    source_motion: Tensor
    target_motion: Tensor
    mouth: Tensor
    weights: Tensor
    flow: Tensor
    flow_weights: Tensor
    surface: Tensor
    centres: Tensor
    glances: Tensor


class TrainedModules(nn.Module):
    """The motion autoencoder, and layers for training alone that predict surfaces from its features."""

    def __init__(self, config: MotionAEConfig) -> None:
        super().__init__()
        self.model = MotionAE(config)
        levels = [level for level in READ_AT if level < len(config.channels)]
        self.readers = nn.ModuleList(
            nn.Conv2d(config.channels[level], channels_of_surface(level), 1) for level in levels
        )

    def surfaces(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Return the surface (B, 7, 64, 64) that each reader predicts from the features, coarse to fine."""
        return [
            F.pixel_shuffle(reader(features[level]), FLOW_SIZE // features[level].shape[-1])
            for level, reader in zip(READ_AT, self.readers, strict=False)
        ]


def channels_of_surface(level: int) -> int:
    """Number of surface values that lie in one cell of a feature level, which is 8 * 2^level cells wide."""
    return SURFACE_VALUES * (FLOW_SIZE // (8 << level)) ** 2


def surface_error(read: list[Tensor], known: Tensor) -> Tensor:
    """Return the error of predicted surfaces, a scalar.

    It is the absolute error of mask and position and the squared error of the displacement. Most of a face is
    not displaced, so under an absolute error the prediction of the displacement would stay at zero for long.

    Args:
        read: predictions (B, 7, g, g), one of each reader.
        known: (B, 7, g, g) the true surface: mask, position at rest (3), displacement (3).
    """
    visible = known[:, :1]
    losses = []
    for one in read:
        wrong = one - known
        mask, position = wrong[:, :1].abs().mean(), (wrong[:, 1:4].abs() * visible).mean()
        displacement = ((wrong[:, 4:] / DISPLACEMENT_STD).square() * visible).mean()
        losses.append(mask + position + displacement)
    return torch.stack(losses).mean()


def picture(frames: Tensor) -> Tensor:
    """uint8 frames (B, H, W, 3) -> (B, 3, H, W) in [-1, 1]."""
    return from_uint8(rearrange(frames, "n h w c -> n c h w").contiguous())


def to_batch(pairs: Pairs, pixel_weights: Weights) -> Batch:
    """Return pairs as a batch, with the given weights of pixels."""
    boxes, size = pairs.target_boxes, pairs.target.shape[1]
    corners = torch.cat([pairs.source_boxes, boxes]).float()
    centres = (corners[..., :2] + corners[..., 2:]) / size - 1
    mouth, eyes = box_weights(boxes[:, :1], size, 1.0), box_weights(boxes[:, 1:], size, 1.0)
    weights = 1.0 + pixel_weights.mouth * mouth + pixel_weights.eyes * eyes
    flow, here, there = (x.float() for x in (pairs.flow, pairs.target_surface, pairs.source_surface))
    shown = shown_by_source(here, there, flow / size)
    hidden = F.interpolate(1 - shown, size)
    return Batch(
        source=picture(pairs.source),
        target=picture(pairs.target),
        source_motion=pairs.source_motion,
        target_motion=pairs.target_motion,
        mouth=mouth,
        weights=weights + pixel_weights.hidden * pixel_weights.mouth * mouth * hidden,
        flow=flow,
        flow_weights=F.interpolate(weights, flow.shape[-2:], mode="area") * shown,
        surface=torch.cat([there, here]),
        centres=centres,
        glances=centres,
    )


def shown_by_source(here: Tensor, there: Tensor, flow: Tensor) -> Tensor:
    """Return 1 at each cell whose surface the source shows too, else 0: closed lips hide the teeth.

    Args:
        here, there: (B, 7, g, g) surfaces of target and source.
        flow: (B, 2, g, g) flow from target to source, in picture widths.

    Returns:
        (B, 1, g, g)
    """
    wide = flow.shape[-1]
    found = warp(there, flow * (2 * wide / (wide - 1)))
    same = (here[:, 1:4] - found[:, 1:4]).norm(dim=1, keepdim=True) < SAME_SURFACE
    return (same & ((here[:, :1] - found[:, :1]).abs() < 0.5)).float()


def draw(bank: FrameBank, run: MotionAERun, step: int) -> tuple[Pairs, Tensor]:
    """Return this rank's pairs of one step, and the jitter (2 B, 3, 2) of the centres of mouth and eyes."""
    draws = generator(run.seed, step)
    pairs = drawn_pairs(bank, step, run.rows, draws)
    jitter = run.centre_jitter * torch.randn(2, run.rows, *pairs.target_boxes.shape[1:2], 2, generator=draws)
    return pairs, jitter[:, ranks.own(run.rows)].flatten(0, 1)


def losses(
    modules: TrainedModules, batch: Batch, run: MotionAERun, flow_weight: float, coarse: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a batch, a scalar, and its weighted parts.

    `coarse` skips the finest level and the blend.
    """
    model, glimpses, count = modules.model, modules.model.glimpses, len(batch.source)
    assert glimpses is not None
    pictures = torch.cat([batch.source, batch.target])
    identity, features = model.encoder(pictures)
    motion = model.read(pictures, identity, features, batch.glances)
    known = torch.cat([batch.source_motion, batch.target_motion])
    number = torch.tensor(ranks.own(run.rows), device=motion.device)[:, None]
    start = torch.where(number < run.encoded + run.mixed, motion[:count], batch.source_motion)
    driving = torch.where(number < run.encoded, motion[count:], batch.target_motion)
    style = model.style(driving, identity[:count], start)
    used = features[:-1] if coarse else features
    canvases = model.decoder.level_outputs(style, tuple(feature[:count] for feature in used))
    if coarse:
        drawn = coarse_picture(canvases[-1], batch.source)
    else:
        drawn = model.decoder.picture(canvases[-1], batch.source)
    target, weights = (F.interpolate(x, drawn.shape[-2:], mode="area") for x in (batch.target, batch.weights))
    flows = [canvas.flow for canvas in canvases[1:] if canvas.flow is not None]
    size, scale = batch.target.shape[-1], run.weights
    parts = {
        "l1": weighted_l1(drawn, target, weights, ranks.mean),
        "pyramid": scale.pyramid * pyramid_l1(drawn, target),
        "gradient": scale.gradient * gradient_l1(drawn, target, weights, ranks.mean),
        "flow": flow_weight * flow_l1(flows, batch.flow, size, batch.flow_weights, ranks.mean),
        "code": scale.code * code_error(motion, known, CODE_STD * model.scale),
        "surface": scale.surface * surface_error(modules.surfaces(features), batch.surface),
        "where": scale.where * (glimpses.locate(features) - batch.centres).abs().mean(),
    }
    return torch.stack(list(parts.values())).sum(), parts


def optimiser_of(modules: TrainedModules, run: MotionAERun) -> torch.optim.Optimizer:
    """Return Adam for all parameters; the glimpses' layers have their own learning rates."""
    rates = {"glimpses.parts": run.parts_lr, "glimpses.find": run.find_lr}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in modules.named_parameters():
        rate = next((rate for part, rate in rates.items() if part in name), run.optim.lr)
        groups.setdefault(rate, []).append(parameter)
    return torch.optim.Adam(
        [{"params": group, "lr": rate} for rate, group in groups.items()], betas=run.optim.betas, fused=True
    )


def train(
    folder: Path,
    run: MotionAERun,
    bank: FrameBank,
    heldout: Batch,
    minutes: float = float("inf"),
    device: torch.device | str = "cpu",
) -> Engine:
    """Train until `run.steps` steps are done or the run has taken `minutes`; continues from the run folder.

    Args:
        folder: the run folder.
        run: the config.
        bank: rendered frames to train on.
        heldout: pairs to validate on, with a sheet of pictures.
        minutes: training time of the run, over all resumes.
        device: where to train.
    """
    torch.manual_seed(run.seed)
    modules = TrainedModules(run.model).to(device)
    optimiser, schedule = optimiser_of(modules, run), run.optim.factor(run.steps)
    engine = Engine(modules, optimiser, folder, schedule, run.optim.clip, run.optim.ema, averaged="model")
    engine.load()
    # Training frames are rendered as they are needed; the fingerprint is of the held-out ones.
    write_record(
        folder, "motion_ae", run, fingerprint((heldout.source.cpu().numpy(), heldout.target.cpu().numpy()))
    )
    steps = range(engine.step_count, run.steps)
    with prefetch(partial(draw, bank, run), steps, device) as drawn:
        for step in engine.steps(run.steps, minutes, run.save_seconds):
            faded = 1 - step / round(run.weights.flow_fade * run.steps)
            flow_weight = run.weights.flow * max(run.weights.flow_floor, faded)
            pairs, jitter = next(drawn)
            batch = to_batch(to_device(device, pairs), run.weights)
            batch = replace(batch, glances=batch.centres + jitter.to(device))
            coarse = step < round(run.coarse * run.steps)
            with bfloat16_autocast(device):
                loss, parts = losses(modules, batch, run, flow_weight, coarse)
            engine.backward(loss)
            engine.step(batch, **parts | {"flow": parts["flow"] / flow_weight})
            if engine.step_count % run.log_every == 0:
                engine.log(**engine.means(), **engine.meter(run.rows))
            if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
                assert isinstance(engine.ema_module, MotionAE)
                sheet = folder / f"sheet-{engine.step_count:06d}.png"
                engine.log(**validate(engine.ema_module, to_device(device, heldout), sheet))
    return engine


@torch.no_grad()
def reenact(model: MotionAE, batch: Batch, encoded: bool = True) -> Tensor:
    """Return the targets (B, 3, H, W), decoded with the encoder's codes or with the true motion."""
    decoded = []
    for first in range(0, len(batch.source), 4):
        rows = slice(first, first + 4)
        identity, features = model.encoder(batch.source[rows])
        start = model.read(batch.source[rows], identity, features)
        portrait = SourceFeatures(identity, features, start, batch.source[rows])
        motion = model.encode(batch.target[rows]) if encoded else batch.target_motion[rows]
        decoded.append(model.decode(motion, portrait))
    return torch.cat(decoded)


def squared_error(drawn: Tensor, target: Tensor, mask: Tensor) -> tuple[float, float]:
    """Return the sum of squared errors of values in [0, 1], and their number, inside a mask (B, 1, H, W)."""
    error = ((drawn - target) / 2).square() * mask
    return float(error.double().sum()), float(mask.double().sum() * 3)


def validate(model: MotionAE, batch: Batch, sheet: Path | None = None) -> dict[str, float]:
    """Measure reconstruction on held-out pairs, and write a sheet of pictures if a path is given.

    Returns:
        PSNR in dB, from the error summed over all pairs:
        psnr, mouth: of the whole picture and of the mouth's box;
        mouth_told: of the mouth's box when the true motion drives;
        psnr_copy, mouth_copy: of the source as a prediction.
    """
    whole = torch.ones_like(batch.mouth)
    decoded, driven = reenact(model, batch), reenact(model, batch, encoded=False)
    sums = {
        "psnr": squared_error(decoded, batch.target, whole),
        "psnr_copy": squared_error(batch.source, batch.target, whole),
        "mouth": squared_error(decoded, batch.target, batch.mouth),
        "mouth_told": squared_error(driven, batch.target, batch.mouth),
        "mouth_copy": squared_error(batch.source, batch.target, batch.mouth),
    }
    if sheet is not None:
        save_sheet(torch.cat([batch.source[:12], batch.target[:12], decoded[:12]], dim=-1), sheet)
    return {name: 10 * float(np.log10(count / error)) for name, (error, count) in sums.items()}


def save_sheet(pictures: Tensor, path: Path, columns: int = 3) -> None:
    """Write pictures (B, 3, H, W) in [-1, 1] as one PNG; the last row is padded with black."""
    blank = pictures.new_full((-len(pictures) % columns, *pictures.shape[1:]), -1.0)
    pixels = to_uint8(torch.cat([pictures, blank])).cpu()
    sheet = rearrange(pixels, "(rows columns) c h w -> (rows h) (columns w) c", columns=columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.numpy()).save(path)


def averaged(folder: Path) -> MotionAE:
    """Return the averaged network of a run."""
    model = MotionAE(read_model_config(folder, MotionAEConfig, MotionAEConfig.puppet()))
    model.load_state_dict(averaged_weights(folder, "model"))
    return model.eval().requires_grad_(False)


def main() -> None:
    """Run the command line."""
    parser = argument_parser("motion_ae", __doc__, PRESETS)
    parser.add_argument("--frames", type=Path, default=Path("runs/frames"), help="folder of rendered frames")
    parser.add_argument(
        "--validate", type=int, metavar="PAIRS", nargs="?", const=500, help="measure a run and exit"
    )
    with launch(parser) as (options, run, device):
        if options.validate:
            unseen = FrameBank(options.frames, "heldout", people=256)
            batch = to_batch(first_pairs(unseen, options.validate), run.weights)
            measured = validate(averaged(options.run), batch, options.run / "validation.png")
            (options.run / "validation.json").write_text(json.dumps(measured, indent=1))
            print(json.dumps(measured))
            return
        ranks.check_divisible(run.rows)
        with ranks.rank_zero_first():
            unseen = FrameBank(options.frames, "heldout", people=256)
            bank = FrameBank(options.frames, "train", run.people)
            heldout = to_batch(first_pairs(unseen, run.heldout), run.weights)
        train(options.run, run, bank, heldout, options.minutes, device)


if __name__ == "__main__":
    main()
