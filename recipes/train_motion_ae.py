"""Train the motion autoencoder on pairs of frames of one puppet.

    python -m recipes.train_motion_ae --run runs/motion_ae            train; continues from the run folder
    python -m recipes.train_motion_ae --run runs/motion_ae --validate    measure on unseen people, draw a
    sheet python -m recipes.train_motion_ae --run runs/motion_ae --export      write the averaged weights

Objective: the decoder, given the source frame's features and the target's motion, must draw the target:
absolute error (mouth and eyes count more), the same on smaller pictures, and of neighbouring pixels'
differences. Two auxiliary losses use what only a synthetic corpus knows: the motion code is the corpus's
motion vector, so that a talker can be trained on motion vectors without rendering; and the flow of each level
is the mesh's, which fades out. Most samples are driven by the true motion vector, a quarter by what the
encoder reads off the target frame.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.decoder import sketch
from motion_ae.losses import box_weights, code_l1, flow_l1, gradient_l1, pyramid_l1, weighted_l1
from motion_ae.model import MotionAE
from recipes.data.frame_bank import FrameBank, Pairs
from recipes.launch import Engine, generator, warmup_cosine
from talker.checkpoint import PUPPET, save_component

BATCH, ENCODED = 8, 2  # pairs a step; how many of them are driven by the encoder's code
RATE, BETAS, WARMUP = 3e-3, (0.9, 0.99), 50
FIRST_PEOPLE, STEPS_PER_PERSON = 48, 2  # the bank grows while training runs
MOUTH, EYES = 4.0, 2.0  # how much more their pixels count
PYRAMID, GRADIENT, CODE = 0.5, 1.0, 0.5  # weights of the losses beside the absolute error
FLOW, FLOW_FADE, FLOW_FLOOR = 16.0, 3000, 0.1
COARSE_STEPS = 600  # at a quarter of the resolution, where a step costs half
LOG_EVERY, SAVE_SECONDS, LOOK_EVERY = 50, 120, 250


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, H, W), raw motions (B, M), pixel weights (B, 1, H, W), flow (B, 2, g, g) in pixels."""

    source: Tensor
    target: Tensor
    source_motion: Tensor
    target_motion: Tensor
    weights: Tensor
    flow: Tensor


def picture(frames: np.ndarray) -> Tensor:
    """uint8 frames (B, H, W, 3) -> (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_batch(pairs: Pairs) -> Batch:
    boxes = torch.from_numpy(np.asarray(pairs.boxes))
    size = pairs.target.shape[1]
    weights = 1.0 + box_weights(boxes[:, :1], size, MOUTH) + box_weights(boxes[:, 1:], size, EYES)
    return Batch(
        source=picture(pairs.source),
        target=picture(pairs.target),
        source_motion=torch.from_numpy(np.asarray(pairs.source_motion)),
        target_motion=torch.from_numpy(np.asarray(pairs.target_motion)),
        weights=weights,
        flow=torch.from_numpy(np.asarray(pairs.flow, np.float32)),
    )


def draw(bank: FrameBank, step: int) -> Batch:
    """The pairs of one step: different people, two different frames of each; renders people that are due."""
    people = min(bank.people, FIRST_PEOPLE + step // STEPS_PER_PERSON)
    bank.ensure(people)
    draws = generator(0, step)
    who = torch.randint(people, (BATCH,), generator=draws)
    frame = torch.randint(bank.frames, (BATCH,), generator=draws)
    other = (frame + torch.randint(1, bank.frames, (BATCH,), generator=draws)) % bank.frames
    return to_batch(bank.pairs(who.numpy(), frame.numpy(), other.numpy()))


def losses(
    model: MotionAE, batch: Batch, flow_weight: float, coarse: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss of one batch, and its parts; `coarse` leaves out the finest level and the blend."""
    coded = batch.target[:ENCODED]
    identity, features = model.encoder(torch.cat([batch.source, coded]))
    motion = model.raw(model.encoder.motion(identity))
    known = torch.cat([batch.source_motion, batch.target_motion[:ENCODED]])
    driving = torch.cat([motion[len(batch.source) :], batch.target_motion[ENCODED:]])
    count = len(batch.source)
    style = model.style(driving, identity[:count])
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
        "flow": flow_weight * flow_l1(flows, batch.flow, batch.target.shape[-1], weights),
        "code": CODE * code_l1(motion, known, model.scale),
    }
    return torch.stack(list(parts.values())).sum(), parts


def train(
    run: Path, config: MotionAEConfig, bank: FrameBank, heldout: Batch, steps: int, minutes: float
) -> Engine:
    """Train for `steps` steps or `minutes` minutes, whichever comes first."""
    torch.manual_seed(0)
    model = MotionAE(config)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, betas=BETAS)
    engine = Engine(model, optimiser, run, warmup_cosine(WARMUP, steps, floor=0.02), clip=1.0, ema=0.999)
    saved, recent = time.monotonic(), list[Tensor]()
    for step in range(engine.load(), steps):
        if engine.seconds > minutes * 60:
            break
        flow_weight = FLOW * max(FLOW_FLOOR, 1 - step / FLOW_FADE)
        loss, parts = losses(model, draw(bank, step), flow_weight, step < COARSE_STEPS)
        engine.backward(loss)
        norm = engine.step()
        recent.append(torch.stack([*(part.detach() for part in parts.values()), torch.tensor(norm)]))
        if engine.step_count % LOG_EVERY == 0:
            values = torch.stack(recent).mean(0).tolist()
            shown = dict(zip([*parts, "grad"], values, strict=True))
            shown["flow"] /= flow_weight
            if engine.step_count % LOOK_EVERY == 0:
                averaged = engine.ema_module
                assert isinstance(averaged, MotionAE)
                shown |= look(averaged, heldout, run / f"sheet-{engine.step_count:06d}.png")
            engine.log(**shown)
            recent.clear()
        if time.monotonic() - saved > SAVE_SECONDS:
            engine.save()
            saved = time.monotonic()
    engine.save()
    return engine


@torch.no_grad()
def reenact(model: MotionAE, batch: Batch, encoded: bool = True) -> Tensor:
    """The targets as drawn from the sources, four at a time, by the encoder's codes or the true motion."""
    drawn = []
    for start in range(0, len(batch.source), 4):
        rows = slice(start, start + 4)
        identity, features = model.encoder(batch.source[rows])
        motion = model.encode(batch.target[rows]) if encoded else batch.target_motion[rows]
        drawn.append(model.decoder(model.style(motion, identity), features, batch.source[rows]))
    return torch.cat(drawn).clamp(-1, 1)


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


def averaged_weights(run: Path) -> MotionAE:
    """The averaged network of a run, for use."""
    model = MotionAE(MotionAEConfig.puppet())
    model.load_state_dict(torch.load(run / "state.pt", weights_only=True, map_location="cpu")["ema"])
    return model.eval().requires_grad_(False)


def heldout_pairs(bank: FrameBank, count: int) -> Batch:
    """`count` pairs of unseen people: frames (0, 1), (2, 3), ... of each."""
    each = bank.frames // 2
    people = -(-count // each)
    bank.ensure(people)
    who, pair = np.divmod(np.arange(count), each)
    return to_batch(bank.pairs(who, 2 * pair, 2 * pair + 1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/motion_ae"))
    parser.add_argument("--frames", type=Path, default=Path("runs/frames"), help="folder of rendered frames")
    parser.add_argument("--steps", type=int, default=12000, help="the learning rate reaches its floor here")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop earlier, by the clock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--people", type=int, default=4096, help="most people rendered (1 MB each)")
    parser.add_argument("--validate", type=int, metavar="PAIRS", nargs="?", const=500, help="measure and end")
    parser.add_argument("--export", action="store_true", help="write the weights into the package and end")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.export:
        save_component(averaged_weights(options.run), PUPPET / "motion_ae")
        return
    unseen = FrameBank(options.frames, "heldout", people=256)
    if options.validate:
        model, batch = averaged_weights(options.run), heldout_pairs(unseen, options.validate)
        measured = look(model, batch, options.run / "validation.png")
        (options.run / "validation.json").write_text(json.dumps(measured, indent=1))
        print(json.dumps(measured))
        return
    bank = FrameBank(options.frames, "train", options.people)
    heldout = heldout_pairs(unseen, 24)
    train(options.run, MotionAEConfig.puppet(), bank, heldout, options.steps, options.minutes)


if __name__ == "__main__":
    main()
