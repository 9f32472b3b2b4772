"""Train the audio-visual offset estimator of `evaluation.sync` on rendered corpus clips.

    python -m recipes.train_sync [--run runs/sync] [--steps 1000] [--clips 600]
    python -m recipes.export sync runs/sync FOLDER

The true shift of a clip must win against fifteen others to either side (over the whole clip and over windows
of ten frames), and its sound against the sounds of other clips; the picture tower also tells what lips do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evaluation.sync import (
    REACH,
    SAMPLES_PER_FRAME,
    SIDE,
    SyncConfig,
    SyncNet,
    best,
    lower_face,
    offset_scores,
)
from recipes import ranks
from recipes.data.puppet.corpus import Corpus
from recipes.data.puppet.motion import MOTION
from recipes.data.puppet.sentences import Split
from recipes.data.shards import Arrays, shards
from recipes.launch import Engine, generator, warmup_cosine
from recipes.record import fingerprint, record, recorded

SHARD = 25
FRAMES = 64
MARGIN = 4
WINDOW = 10
BATCH = 8


@dataclass(frozen=True)
class Scene:
    """One clip: frames (64, S, S, 3) uint8, pcm (64 x 960,) float32, lips (64, L): `SyncConfig.lips`."""

    frames: NDArray[np.uint8]
    pcm: NDArray[np.float32]
    lips: NDArray[np.float32]


def corpus_scene(split: Split, index: int) -> Scene:
    """64 frames of the first clip from 3 index on that speaks for so long, from anywhere inside."""
    corpus, number = Corpus(split), index * 3
    while True:
        clip = corpus.clip(number)
        if not clip.idle and len(clip.motion) >= FRAMES:
            break
        number += 1_000_003  # far from the numbers of all other scenes
    start = int(np.random.default_rng([index, 5]).integers(0, len(clip.motion) - FRAMES + 1))
    stop = start + FRAMES
    pcm = clip.pcm[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
    lips = clip.motion[start:stop, [MOTION.index(name) for name in SyncConfig.puppet().lips]]
    return Scene(clip.frames(size=SIDE, start=start, stop=stop), pcm, lips)


def prepare(
    run: Path, split: Split, count: int, scene: Callable[[Split, int], Scene] = corpus_scene
) -> Arrays:
    """crops (N, 64, 56, 56) uint8, pcm (N, 61440) int16, lips (N, 64, L) of `count` clips, rendered once."""

    def make(numbers: range) -> Arrays:
        scenes = [scene(split, i) for i in numbers]
        frames = (torch.from_numpy(s.frames).movedim(-1, 1) / 255 for s in scenes)
        crops = [(lower_face(f, MARGIN) * 255).round().to(torch.uint8).numpy() for f in frames]
        return {
            "crops": np.stack(crops),
            "pcm": np.stack([(s.pcm * 32767).round().astype(np.int16) for s in scenes]),
            "lips": np.stack([s.lips for s in scenes]).astype(np.float32),
        }

    return shards(run / split, count, SHARD, make)


@dataclass(frozen=True)
class Batch:
    """crops (B, T, 48, 48) in [0, 1], pcm (B, 960 T), lips (B, T, L)."""

    crops: Tensor
    pcm: Tensor
    lips: Tensor


def draw(scenes: Arrays, size: int, seed: int, step: int) -> Batch:
    """The clips of one step, a function of (seed, step): shifted, mirrored, blurred, noisy."""
    g = generator(seed, step)
    chosen = torch.randint(len(scenes["crops"]), (size,), generator=g).numpy()
    top, left, mirrored = (int(n) for n in torch.randint(0, 2 * MARGIN + 1, (3,), generator=g))
    crops = torch.from_numpy(scenes["crops"][chosen]).float() / 255
    height, width = crops.shape[2] - 2 * MARGIN, crops.shape[3] - 2 * MARGIN
    crops = crops[:, :, top : top + height, left : left + width]
    if mirrored % 2:
        crops = crops.flip(-1)
    crops = blur(crops, float(torch.rand(1, generator=g)) * 1.6)
    crops = crops + torch.randn(crops.shape, generator=g) * 0.03 * torch.rand(size, 1, 1, 1, generator=g)
    pcm = torch.from_numpy(scenes["pcm"][chosen]).float() / 32768
    gain = 10 ** ((torch.rand(size, 1, generator=g) * 20 - 12) / 20)
    noise = 10 ** (-(torch.rand(size, 1, generator=g) * 35 + 40) / 20)
    pcm = pcm * gain + torch.randn(pcm.shape, generator=g) * noise
    return Batch(crops, pcm, torch.from_numpy(scenes["lips"][chosen]))


def blur(crops: Tensor, deviation: float) -> Tensor:
    """crops (B, T, H, W) under a Gaussian of `deviation` pixels (below 0.3: untouched)."""
    if deviation < 0.3:
        return crops
    axis = torch.arange(-4.0, 5.0)
    line = torch.exp(-axis.square() / (2 * deviation**2))
    line = line / line.sum()
    flat = F.pad(crops.reshape(-1, 1, *crops.shape[2:]), (4, 4, 4, 4), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, line.reshape(1, 1, 1, -1)), line.reshape(1, 1, -1, 1))
    return flat.reshape(crops.shape)


@dataclass(frozen=True)
class Losses:
    """shift: nats of telling the true shift; pair: of telling the true sound; lips: mean squared error."""

    shift: Tensor
    pair: Tensor
    lips: Tensor

    @property
    def total(self) -> Tensor:
        """What is trained."""
        return self.shift + 0.5 * self.pair + 40 * self.lips


def losses(net: SyncNet, batch: Batch) -> Losses:
    """The three losses of a batch of at least 2 REACH + WINDOW frames a clip."""
    seen, lips = net.picture(batch.crops)
    heard = net.sound(batch.pcm)
    sharpness = net.sharpness.clamp(1, 100)
    inside = seen[:, REACH : seen.shape[1] - REACH]
    windows = heard.unfold(1, inside.shape[1], 1)
    at_shift = torch.einsum("bte,bset->bst", inside, windows)
    local = F.avg_pool1d(at_shift, WINDOW, WINDOW // 2)
    logits = sharpness * torch.cat([local, at_shift.mean(-1, keepdim=True)], -1)
    truth = torch.full((len(seen), logits.shape[-1]), REACH)
    pairs = sharpness * torch.einsum("ite,jte->ij", seen, heard) / seen.shape[1]
    return Losses(
        F.cross_entropy(logits, truth),
        F.cross_entropy(pairs, torch.arange(len(seen))),
        (lips - batch.lips).square().mean(),
    )


def engine_for(config: SyncConfig, run: Path, steps: int) -> Engine:
    """The model and its optimiser, new or as the run folder holds them."""
    torch.manual_seed(0)
    net = SyncNet(config)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02)
    engine = Engine(net, optimiser, run, schedule=warmup_cosine(50, steps), ema=0.99)
    engine.load()
    return engine


@torch.inference_mode()
def check(net: SyncNet, scenes: Arrays) -> dict[str, float]:
    """Share of unseen clips whose true shift wins within one frame, and the lips' error."""
    right, wrong = 0, 0.0
    for i in range(len(scenes["crops"])):
        batch = draw({name: values[i : i + 1] for name, values in scenes.items()}, 1, seed=1, step=i)
        seen, lips = net.picture(batch.crops)
        right += abs(best(offset_scores(seen, net.sound(batch.pcm))[0]).offset) <= 1
        wrong += float((lips - batch.lips).square().mean())
    return {"right": right / len(scenes["crops"]), "lips_unseen": wrong / len(scenes["crops"])}


def train(engine: Engine, scenes: Arrays, unseen: Arrays | None, steps: int, size: int) -> None:
    """Go on to `steps`."""
    net, averaged = engine.module, engine.ema_module
    assert isinstance(net, SyncNet)
    assert isinstance(averaged, SyncNet)
    record(engine.run, "sync", net.config, fingerprint(scenes.values()))
    for step in engine.steps(steps):
        parts = losses(net, draw(scenes, size, seed=0, step=step))
        engine.backward(parts.total)
        norm = engine.step()
        if engine.step_count % 50 == 0:
            engine.log(
                shift=parts.shift.item(),
                pair=parts.pair.item(),
                lips=parts.lips.item(),
                norm=norm,
                **engine.meter(size),
            )
        if unseen is not None and engine.step_count % 100 == 0:
            engine.log(**check(averaged, unseen))


def averaged(run: Path) -> SyncNet:
    """The averaged network of a run, for use."""
    net = SyncNet(recorded(run, SyncConfig, SyncConfig.puppet()))
    net.load_state_dict(torch.load(run / "state.pt", weights_only=True, map_location="cpu")["ema"])
    return net


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/sync"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    ranks.alone("train_sync")
    torch.set_num_threads(options.threads)
    engine = engine_for(SyncConfig.puppet(), options.run, options.steps)
    unseen = prepare(options.run, "heldout", 2 * SHARD)
    train(engine, prepare(options.run, "train", options.clips), unseen, options.steps, BATCH)


if __name__ == "__main__":
    main()
