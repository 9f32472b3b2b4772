"""Train the motion autoencoder on pairs of frames of one puppet.

    python -m recipes.train_motion_ae                train; continues from the run folder
    python -m recipes.train_motion_ae --validate     measure on unseen people, draw a sheet

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

import argparse
import json
from dataclasses import dataclass, replace
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
from recipes.data.frame_bank import FLOW_SIZE, FrameBank, Pairs, drawn_pairs, first_pairs
from recipes.data.frame_bank import SURFACE as SURFACE_VALUES
from recipes.launch import Engine, fast_arithmetic, generator, warmup_cosine
from recipes.record import record, recorded

BATCH = 8  # pairs a step
ENCODED, MIXED = 2, 1  # how many are driven by the encoder's codes; by them at the source alone
RATE, BETAS, WARMUP = 3e-3, (0.9, 0.99), 50
RATES = {"glimpses.parts": 1e-3, "glimpses.find": 1e-2}  # of plain layers beside the equalised ones
MOUTH, EYES = 8.0, 3.0  # how much more their pixels count
HIDDEN = 2.0  # and those of the mouth's inside that the source does not show, in mouths
PYRAMID, GRADIENT, CODE, SURFACE, WHERE = 0.5, 1.0, 1.0, 0.5, 1.0  # weights beside the absolute error's
GLANCE = 0.03  # how far from the true places training looks, in half pictures
SPREAD = 3.0  # usual deviation of a motion code, in the network's units
MOVED = 0.2  # and of a surface that the motion moves
FLOW, FLOW_FADE, FLOW_FLOOR = 16.0, 8000, 0.1
SAME_PLACE = 0.08  # how near two surfaces at rest must be to be the same, in 0.1 m
READ_AT = (1, 2)  # levels of the encoder's features, 16 and 32 cells wide, that tell the surface
COARSE_STEPS = 4000  # at a quarter of the resolution, where a step costs half
LOG_EVERY, LOOK_EVERY = 50, 250


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, H, W), raw motions (B, M), pixel weights (B, 1, H, W), flow (B, 2, g, g) in pixels and
    how much it counts (B, 1, g, g); of sources, then targets: surfaces (2 B, 7, g, g) (see frame_bank),
    the true centres of mouths and eyes (2 B, 3, 2) from -1 to 1, and where to look for them, alike."""

    source: Tensor
    target: Tensor
    source_motion: Tensor
    target_motion: Tensor
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


def picture(frames: np.ndarray) -> Tensor:
    """uint8 frames (B, H, W, 3) -> (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_batch(pairs: Pairs) -> Batch:
    boxes = torch.from_numpy(np.asarray(pairs.target_boxes))
    size = pairs.target.shape[1]
    corners = np.concatenate([pairs.source_boxes, pairs.target_boxes]).astype(np.float32)
    centres = torch.from_numpy((corners[..., :2] + corners[..., 2:]) / size - 1)
    mouth = box_weights(boxes[:, :1], size, MOUTH)
    weights = 1.0 + mouth + box_weights(boxes[:, 1:], size, EYES)
    flow = torch.from_numpy(np.asarray(pairs.flow, np.float32))
    here, there = (torch.from_numpy(x).float() for x in (pairs.target_surface, pairs.source_surface))
    seen = visible(here, there, flow / size)
    return Batch(
        source=picture(pairs.source),
        target=picture(pairs.target),
        source_motion=torch.from_numpy(np.asarray(pairs.source_motion)),
        target_motion=torch.from_numpy(np.asarray(pairs.target_motion)),
        weights=weights + HIDDEN * mouth * F.interpolate(1 - seen, size),
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


def draw(bank: FrameBank, step: int) -> Batch:
    """The pairs of one step, and where to look for their mouths and eyes."""
    draws = generator(0, step)
    batch = to_batch(drawn_pairs(bank, step, BATCH, draws))
    shaken = batch.centres + GLANCE * torch.randn(batch.centres.shape, generator=draws)
    return replace(batch, glances=shaken)


def losses(
    apprentice: Apprentice, batch: Batch, flow_weight: float, coarse: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss of one batch, and its parts; `coarse` leaves out the finest level and the blend."""
    model, glimpses, count = apprentice.model, apprentice.model.glimpses, len(batch.source)
    assert glimpses is not None
    pictures = torch.cat([batch.source, batch.target])
    identity, features = model.encoder(pictures)
    motion = model.read(pictures, identity, features, batch.glances)
    known = torch.cat([batch.source_motion, batch.target_motion])
    start = torch.cat([motion[: ENCODED + MIXED], batch.source_motion[ENCODED + MIXED :]])
    driving = torch.cat([motion[count : count + ENCODED], batch.target_motion[ENCODED:]])
    style = model.style(driving, identity[:count], start)
    used = features[:-1] if coarse else features
    canvases = model.decoder.canvases(style, tuple(feature[:count] for feature in used))
    if coarse:
        drawn = sketch(canvases[-1], batch.source)
    else:
        drawn = model.decoder.picture(canvases[-1], batch.source)
    target, weights = (F.interpolate(x, drawn.shape[-2:], mode="area") for x in (batch.target, batch.weights))
    flows = [canvas.flow for canvas in canvases[1:] if canvas.flow is not None]
    parts = {
        "l1": weighted_l1(drawn, target, weights),
        "pyramid": PYRAMID * pyramid_l1(drawn, target),
        "gradient": GRADIENT * gradient_l1(drawn, target, weights),
        "flow": flow_weight * flow_l1(flows, batch.flow, batch.target.shape[-1], batch.flow_weights),
        "code": CODE * code_error(motion, known, SPREAD * model.scale),
        "surface": SURFACE * surface_error(apprentice.surfaces(features), batch.surface),
        "where": WHERE * (glimpses.where(features) - batch.centres).abs().mean(),
    }
    return torch.stack(list(parts.values())).sum(), parts


def train(
    run: Path, config: MotionAEConfig, bank: FrameBank, heldout: Batch, steps: int, minutes: float
) -> Engine:
    """Train for `steps` steps or `minutes` minutes, whichever comes first."""
    torch.manual_seed(0)
    apprentice = Apprentice(config)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in apprentice.named_parameters():
        rate = next((rate for part, rate in RATES.items() if part in name), RATE)
        groups.setdefault(rate, []).append(parameter)
    optimiser = torch.optim.Adam(
        [{"params": group, "lr": rate} for rate, group in groups.items()], betas=BETAS, fused=True
    )
    engine = Engine(apprentice, optimiser, run, warmup_cosine(WARMUP, steps, floor=0.02), clip=1.0, ema=0.999)
    recent = list[Tensor]()
    engine.load()
    record(run, "motion_ae", config, "frames of the corpus, rendered as training goes on")
    for step in engine.steps(steps, minutes):
        flow_weight = FLOW * max(FLOW_FLOOR, 1 - step / FLOW_FADE)
        with fast_arithmetic():
            loss, parts = losses(apprentice, draw(bank, step), flow_weight, step < COARSE_STEPS)
        engine.backward(loss)
        norm = engine.step()
        recent.append(torch.stack([*(part.detach() for part in parts.values()), torch.tensor(norm)]))
        if engine.step_count % LOG_EVERY == 0:
            values = torch.stack(recent).mean(0).tolist()
            shown = dict(zip([*parts, "grad"], values, strict=True))
            shown["flow"] /= flow_weight
            if engine.step_count % LOOK_EVERY == 0:
                averaged = engine.ema_module
                assert isinstance(averaged, Apprentice)
                shown |= look(averaged.model, heldout, run / f"sheet-{engine.step_count:06d}.png")
            engine.log(**shown, **engine.meter(BATCH))
            recent.clear()
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
    mouth = (batch.weights >= MOUTH).float()
    whole = torch.ones_like(mouth)
    drawn, told = reenact(model, batch), reenact(model, batch, encoded=False)
    sums = {
        "psnr": squared_error(drawn, batch.target, whole),
        "psnr_copy": squared_error(batch.source, batch.target, whole),
        "mouth": squared_error(drawn, batch.target, mouth),
        "mouth_told": squared_error(told, batch.target, mouth),
        "mouth_copy": squared_error(batch.source, batch.target, mouth),
    }
    if sheet is not None:
        shown = torch.cat([batch.source[:12], batch.target[:12], drawn[:12]], dim=-1)
        save_sheet(shown, sheet)
    return {name: 10 * float(np.log10(count / error)) for name, (error, count) in sums.items()}


def save_sheet(pictures: Tensor, path: Path, columns: int = 3) -> None:
    """Pictures (B, 3, H, W) in [-1, 1] as one PNG."""
    tiles = ((pictures.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    rows = [np.concatenate(list(tiles[k : k + columns]), axis=1) for k in range(0, len(tiles), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)


def averaged(run: Path) -> MotionAE:
    """The averaged network of a run, for use."""
    apprentice = Apprentice(recorded(run, MotionAEConfig, MotionAEConfig.puppet()))
    apprentice.load_state_dict(torch.load(run / "state.pt", weights_only=True, map_location="cpu")["ema"])
    return apprentice.model.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/motion_ae"))
    parser.add_argument("--frames", type=Path, default=Path("runs/frames"), help="folder of rendered frames")
    parser.add_argument("--steps", type=int, default=9000, help="the learning rate reaches its floor here")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop earlier, by the clock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--people", type=int, default=2048, help="most people rendered (3 MB each)")
    parser.add_argument("--validate", type=int, metavar="PAIRS", nargs="?", const=500, help="measure and end")
    options = parser.parse_args()
    ranks.alone("train_motion_ae")
    torch.set_num_threads(options.threads)
    unseen = FrameBank(options.frames, "heldout", people=256)
    if options.validate:
        model, batch = averaged(options.run), to_batch(first_pairs(unseen, options.validate))
        measured = look(model, batch, options.run / "validation.png")
        (options.run / "validation.json").write_text(json.dumps(measured, indent=1))
        print(json.dumps(measured))
        return
    bank = FrameBank(options.frames, "train", options.people)
    heldout = to_batch(first_pairs(unseen, 24))
    train(options.run, MotionAEConfig.puppet(), bank, heldout, options.steps, options.minutes)


if __name__ == "__main__":
    main()
