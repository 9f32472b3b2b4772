"""Train the motion autoencoder on pairs of frames of one puppet.

    python -m recipes.train_motion_ae [--config puppet] [--set steps=3000]    continues from the run folder
    torchrun --nproc-per-node 2 -m -- recipes.train_motion_ae                 the same, shared
    python -m recipes.train_motion_ae --validate                              measure on unseen people, draw
    python -m recipes.export motion_ae runs/motion_ae FOLDER                  write the averaged weights

Objective: the decoder, given the source frame's features and the target's motion, must draw the target:
absolute error (mouth and eyes count more), the same on smaller pictures, and of neighbouring pixels'
differences. Four auxiliary losses use what only a synthetic corpus knows. The motion code is the corpus's
motion vector, so that a talker can be trained on motion vectors without rendering. The flow of each level is
the mesh's, which fades out. The encoder's features tell what each pixel shows and how far the motion took
it. And its glimpses find mouth and eyes, and read their crops near the true places meanwhile. Most samples
are driven by true motion vectors, a quarter by what the encoder reads off both frames, and some by a true
vector from where the encoder thinks that the source stands, as a talker drives a portrait.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.decoder import sketch, warp
from motion_ae.losses import box_weights, code_error, flow_l1, gradient_l1, pyramid_l1, weighted_l1
from motion_ae.model import MotionAE, Portrait
from recipes import ranks
from recipes.ahead import ahead
from recipes.arguments import arguments, started
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim, Run
from recipes.data.frame_bank import FLOW_SIZE, FrameBank, Pairs, drawn_pairs, first_pairs
from recipes.data.frame_bank import SURFACE as SURFACE_VALUES
from recipes.launch import Engine, fast_arithmetic, generator, on
from recipes.record import fingerprint, record, recorded_model

SPREAD = 3.0  # usual deviation of a motion code, in the network's units
MOVED = 0.2  # and of a surface that the motion moves
SAME_PLACE = 0.08  # how near two surfaces at rest must be to be the same, in 0.1 m
READ_AT = (1, 2)  # levels of the encoder's features, 16 and 32 cells wide, that tell the surface


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the losses, beside the absolute error's 1; of pixels of mouth and eyes, beside the others' 1, and of
    the mouth's inside that the source does not show, in mouths. The flow's falls to `flow_floor` of itself,
    on a line that would end after `flow_fade` of all steps."""

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
        model: the network, one with glimpses and the corpus's motion vector as its code.
        rows: pairs a step over all ranks.
        encoded, mixed: how many of them are driven by the encoder's codes; by them at the source alone.
        parts_lr, find_lr: of the glimpses' plain layers, beside the equalised ones' `optim.lr`.
        weights: see there.
        glance: how far from the true places training looks, in half pictures.
        coarse: share of all steps at a quarter of the resolution, where a step costs half.
        people: most that are rendered (3 MB each).
        heldout: pairs of unseen people to validate on.
    """

    model: MotionAEConfig
    rows: int = 8
    encoded: int = 2
    mixed: int = 1
    parts_lr: float = 1e-3
    find_lr: float = 1e-2
    weights: Weights
    glance: float = 0.03
    coarse: float
    people: int = 2048
    heldout: int = 24


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
    """For tests: seconds."""
    model = replace(MotionAEConfig.puppet(), channels=(8, 8, 8, 4, 4), style_dim=32, norm_groups=4)
    few = replace(puppet(), model=model, steps=4, rows=4, coarse=0.5, people=8, heldout=4)
    return replace(few, log_every=1, validate_every=2)


PRESETS = {preset.__name__: preset for preset in (puppet, tiny)}


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, H, W), raw motions (B, M), where the target's mouth is, 0 or 1, and how much pixels
    count (B, 1, H, W), flow (B, 2, g, g) in pixels and how much it counts (B, 1, g, g); of sources, then
    targets: surfaces (2 B, 7, g, g) (see frame_bank), the true centres of mouths and eyes (2 B, 3, 2) from -1
    to 1, and where to look for them, alike."""

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


class Apprentice(nn.Module):
    """The motion autoencoder, and two layers that only training has: they read surfaces off features."""

    def __init__(self, config: MotionAEConfig) -> None:
        super().__init__()
        self.model = MotionAE(config)
        levels = [level for level in READ_AT if level < len(config.channels)]
        self.readers = nn.ModuleList(
            nn.Conv2d(config.channels[level], channels_of_surface(level), 1) for level in levels
        )

    def surfaces(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Features coarse to fine -> the surface (B, 7, 64, 64) as each reader sees it."""
        return [
            F.pixel_shuffle(reader(features[level]), FLOW_SIZE // features[level].shape[-1])
            for level, reader in zip(READ_AT, self.readers, strict=False)
        ]


def channels_of_surface(level: int) -> int:
    """Values that one cell of a level (8 x 2^level wide) tells of all the surface's cells in it."""
    return SURFACE_VALUES * (FLOW_SIZE // (8 << level)) ** 2


def surface_error(read: list[Tensor], known: Tensor) -> Tensor:
    """Error of surfaces (B, 7, g, g): absolute of mask and place, squared of what the motion moved.

    Most of a face is not moved: the absolute error's best guess of it stays zero for long.
    """
    seen = known[:, :1]
    losses = []
    for one in read:
        wrong = one - known
        mask, place = wrong[:, :1].abs().mean(), (wrong[:, 1:4].abs() * seen).mean()
        losses.append(mask + place + ((wrong[:, 4:] / MOVED).square() * seen).mean())
    return torch.stack(losses).mean()


def picture(frames: Tensor) -> Tensor:
    """uint8 frames (B, H, W, 3) -> (B, 3, H, W) in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_batch(pairs: Pairs, counts: Weights) -> Batch:
    """Tensors of pairs, whose pixels weigh what `counts` says."""
    boxes, size = pairs.target_boxes, pairs.target.shape[1]
    corners = torch.cat([pairs.source_boxes, boxes]).float()
    centres = (corners[..., :2] + corners[..., 2:]) / size - 1
    mouth, eyes = box_weights(boxes[:, :1], size, 1.0), box_weights(boxes[:, 1:], size, 1.0)
    weights = 1.0 + counts.mouth * mouth + counts.eyes * eyes
    flow, here, there = (x.float() for x in (pairs.flow, pairs.target_surface, pairs.source_surface))
    seen = visible(here, there, flow / size)
    return Batch(
        source=picture(pairs.source),
        target=picture(pairs.target),
        source_motion=pairs.source_motion,
        target_motion=pairs.target_motion,
        mouth=mouth,
        weights=weights + counts.hidden * counts.mouth * mouth * F.interpolate(1 - seen, size),
        flow=flow,
        flow_weights=F.interpolate(weights, flow.shape[-2:], mode="area") * seen,
        surface=torch.cat([there, here]),
        centres=centres,
        glances=centres,
    )


def visible(here: Tensor, there: Tensor, flow: Tensor) -> Tensor:
    """(B, 1, g, g): 1 where what the target shows can be seen in the source, from surfaces (B, 7, g, g) of
    target and source and the flow (B, 2, g, g) in picture widths. An open mouth's teeth are behind closed
    lips."""
    wide = flow.shape[-1]
    found = warp(there, flow * (2 * wide / (wide - 1)))
    same = (here[:, 1:4] - found[:, 1:4]).norm(dim=1, keepdim=True) < SAME_PLACE
    return (same & ((here[:, :1] - found[:, :1]).abs() < 0.5)).float()


def draw(bank: FrameBank, run: MotionAERun, step: int) -> tuple[Pairs, Tensor]:
    """This rank's pairs of one step, and how far beside their mouths and eyes to look: (2 B, 3, 2)."""
    draws = generator(run.seed, step)
    pairs = drawn_pairs(bank, step, run.rows, draws)
    shaken = run.glance * torch.randn(2, run.rows, *pairs.target_boxes.shape[1:2], 2, generator=draws)
    return pairs, shaken[:, ranks.own(run.rows)].flatten(0, 1)


def losses(
    apprentice: Apprentice, batch: Batch, run: MotionAERun, flow_weight: float, coarse: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss of one batch, and its parts; `coarse` leaves out the finest level and the blend."""
    model, glimpses, count = apprentice.model, apprentice.model.glimpses, len(batch.source)
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
    canvases = model.decoder.canvases(style, tuple(feature[:count] for feature in used))
    if coarse:
        drawn = sketch(canvases[-1], batch.source)
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
        "code": scale.code * code_error(motion, known, SPREAD * model.scale),
        "surface": scale.surface * surface_error(apprentice.surfaces(features), batch.surface),
        "where": scale.where * (glimpses.where(features) - batch.centres).abs().mean(),
    }
    return torch.stack(list(parts.values())).sum(), parts


def optimiser_of(apprentice: Apprentice, run: MotionAERun) -> torch.optim.Optimizer:
    """Adam over everything; the glimpses' layers have their own rates."""
    rates = {"glimpses.parts": run.parts_lr, "glimpses.find": run.find_lr}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in apprentice.named_parameters():
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
    """Train up to `run.steps`, or until the run has taken `minutes`; rank 0 measures `heldout` pairs."""
    torch.manual_seed(run.seed)
    apprentice = Apprentice(run.model).to(device)
    optimiser, schedule = optimiser_of(apprentice, run), run.optim.factor(run.steps)
    engine = Engine(apprentice, optimiser, folder, schedule, run.optim.clip, run.optim.ema, averaged="model")
    engine.load()
    # Frames to train on are rendered on the way: the held-out ones tell which corpus it is.
    record(
        folder, "motion_ae", run, fingerprint((heldout.source.cpu().numpy(), heldout.target.cpu().numpy()))
    )
    steps = range(engine.step_count, run.steps)
    with ahead(partial(draw, bank, run), steps, device) as drawn:
        for step in engine.steps(run.steps, minutes, run.save_seconds):
            faded = 1 - step / round(run.weights.flow_fade * run.steps)
            flow_weight = run.weights.flow * max(run.weights.flow_floor, faded)
            pairs, shaken = next(drawn)
            batch = to_batch(on(device, pairs), run.weights)
            batch = replace(batch, glances=batch.centres + shaken.to(device))
            coarse = step < round(run.coarse * run.steps)
            with fast_arithmetic(device):
                loss, parts = losses(apprentice, batch, run, flow_weight, coarse)
            engine.backward(loss)
            engine.step(batch, **parts | {"flow": parts["flow"] / flow_weight})
            if engine.step_count % run.log_every == 0:
                engine.log(**engine.means(), **engine.meter(run.rows))
            if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
                assert isinstance(engine.ema_module, MotionAE)
                sheet = folder / f"sheet-{engine.step_count:06d}.png"
                engine.log(**look(engine.ema_module, on(device, heldout), sheet))
    return engine


@torch.no_grad()
def reenact(model: MotionAE, batch: Batch, encoded: bool = True) -> Tensor:
    """The targets as drawn from the sources, four at a time, by the encoder's codes or the true motion."""
    drawn = []
    for first in range(0, len(batch.source), 4):
        rows = slice(first, first + 4)
        identity, features = model.encoder(batch.source[rows])
        start = model.read(batch.source[rows], identity, features)
        portrait = Portrait(identity, features, start, batch.source[rows])
        motion = model.encode(batch.target[rows]) if encoded else batch.target_motion[rows]
        drawn.append(model.decode(motion, portrait))
    return torch.cat(drawn)


def squared_error(drawn: Tensor, target: Tensor, mask: Tensor) -> tuple[float, float]:
    """Summed squared error on the 0..1 scale under a mask (B, 1, H, W), and the count of values it sums."""
    error = ((drawn - target) / 2).square() * mask
    return float(error.double().sum()), float(mask.double().sum() * 3)


def look(model: MotionAE, batch: Batch, sheet: Path | None = None) -> dict[str, float]:
    """PSNR (one from the summed error) of the whole picture and the mouth box, and of copying the source."""
    whole = torch.ones_like(batch.mouth)
    drawn, told = reenact(model, batch), reenact(model, batch, encoded=False)
    sums = {
        "psnr": squared_error(drawn, batch.target, whole),
        "psnr_copy": squared_error(batch.source, batch.target, whole),
        "mouth": squared_error(drawn, batch.target, batch.mouth),
        "mouth_told": squared_error(told, batch.target, batch.mouth),
        "mouth_copy": squared_error(batch.source, batch.target, batch.mouth),
    }
    if sheet is not None:
        save_sheet(torch.cat([batch.source[:12], batch.target[:12], drawn[:12]], dim=-1), sheet)
    return {name: 10 * float(np.log10(count / error)) for name, (error, count) in sums.items()}


def save_sheet(pictures: Tensor, path: Path, columns: int = 3) -> None:
    """Pictures (B, 3, H, W) in [-1, 1] as one PNG; the last row is filled up with black."""
    blank = pictures.new_full((-len(pictures) % columns, *pictures.shape[1:]), -1.0)
    pixels = ((torch.cat([pictures, blank]).clamp(-1, 1) + 1) * 127.5).to(torch.uint8).cpu()
    rows = pixels.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rows.flatten(0, 1).flatten(1, 2).numpy()).save(path)


def averaged(folder: Path) -> MotionAE:
    """The averaged network of a run, for use."""
    model = MotionAE(recorded_model(folder, MotionAEConfig, MotionAEConfig.puppet()))
    model.load_state_dict(averaged_weights(folder, "model"))
    return model.eval().requires_grad_(False)


def main() -> None:
    """Train, or measure."""
    parser = arguments("motion_ae", __doc__, PRESETS)
    parser.add_argument("--frames", type=Path, default=Path("runs/frames"), help="folder of rendered frames")
    parser.add_argument("--validate", type=int, metavar="PAIRS", nargs="?", const=500, help="measure and end")
    with started(parser) as (options, run, device):
        if options.validate:
            unseen = FrameBank(options.frames, "heldout", people=256)
            batch = to_batch(first_pairs(unseen, options.validate), run.weights)
            measured = look(averaged(options.run), batch, options.run / "validation.png")
            (options.run / "validation.json").write_text(json.dumps(measured, indent=1))
            print(json.dumps(measured))
            return
        ranks.check_share(run.rows)
        with ranks.in_turn():
            unseen = FrameBank(options.frames, "heldout", people=256)
            bank = FrameBank(options.frames, "train", run.people)
            heldout = to_batch(first_pairs(unseen, run.heldout), run.weights)
        train(options.run, run, bank, heldout, options.minutes, device)


if __name__ == "__main__":
    main()
