"""Train the audio-visual offset estimator of `evaluation.sync` on rendered clips of the corpus.

    python -m recipes.train_sync [--config puppet] [--set clips=300] [--run runs/sync]
    torchrun --nproc-per-node 2 -m -- recipes.train_sync    the same, shared
    python -m recipes.export sync runs/sync FOLDER          write the averaged weights

Two classifications are trained: the true shift between picture and sound among fifteen others to either side
(over the whole clip and over windows of ten frames), and the clip's own sound among those of other clips. The
network of the pictures also predicts the motion of the lips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.train_sync")

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evaluation.sync import (
    MAX_OFFSET,
    SIDE,
    SyncConfig,
    SyncNet,
    best,
    lower_face,
    offset_scores,
)
from puppet.corpus import BenchCorpus, Corpus, corpus
from puppet.motion import MOTION
from puppet.sentences import SPLITS, Split
from recipes import ranks
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim, Run
from recipes.data.shards import Arrays, claim, shards
from recipes.device import to_device
from recipes.draws import generator
from recipes.engine import Engine
from recipes.launch import argument_parser, launch
from recipes.record import fingerprint, read_model_config, write_record
from talker.clock import HOP
from talker.media.pixels import from_uint8, to_uint8

SHARD = 25
FRAMES = 64
MARGIN = 4
WINDOW = 10


@dataclass(frozen=True, kw_only=True)
class SyncRun(Run):
    """A training of the offset estimator.

    Args:
        model: the network.
        rows: clips in a step, over all ranks.
        pair, lips: weights of these losses; the loss of the shift has weight 1.
        bank: folder of the bank of speech; empty for espeak.
        clips, heldout: clips to train on and to validate on.
    """

    model: SyncConfig
    rows: int = 8
    pair: float = 0.5
    lips: float = 40.0
    bank: str = "runs/speech"
    clips: int = 600
    heldout: int = 50

    def without_zero(self) -> str:
        """Return why this training cannot run under DeepSpeed's ZeRO."""
        return "the network has a parameter without dimensions, which DeepSpeed cannot divide"


def puppet() -> SyncRun:
    """The estimator that the package contains."""
    return SyncRun(
        model=SyncConfig.puppet(),
        steps=1000,
        optim=Optim(lr=2e-3, betas=(0.9, 0.98), decay=0.02, warmup=50, ema=0.99),
        validate_every=100,
    )


def tiny() -> SyncRun:
    """For tests: a tiny network; seconds."""
    few = replace(puppet(), model=SyncConfig.tiny(), steps=4, rows=2, bank="", clips=4)
    return replace(few, heldout=2, log_every=1, validate_every=2)


PRESETS = {preset.__name__: preset for preset in (puppet, tiny)}


@dataclass(frozen=True)
class Scene:
    """One clip.

    Attributes:
        frames: (64, S, S, 3) uint8.
        pcm: (64 * 960,) float32.
        lips: (64, L) motion values named by `SyncConfig.lips`.
    """

    frames: NDArray[np.uint8]
    pcm: NDArray[np.float32]
    lips: NDArray[np.float32]


def scene(spoken: Corpus | BenchCorpus, index: int) -> Scene:
    """Return 64 frames at a random position of a clip of the corpus.

    It is clip 3 * `index`, or, if that is idle or too short, the first suitable one at steps of 1,000,003.
    """
    number = index * 3
    while True:
        clip = spoken.clip(number)
        if not clip.idle and len(clip.motion) >= FRAMES:
            break
        number += 1_000_003  # a clip that no other scene uses
    start = int(np.random.default_rng([index, 5]).integers(0, len(clip.motion) - FRAMES + 1))
    stop = start + FRAMES
    pcm = clip.pcm[start * HOP : stop * HOP]
    lips = clip.motion[start:stop, [MOTION.index(name) for name in SyncConfig.puppet().lips]]
    return Scene(clip.frames(size=SIDE, start=start, stop=stop), pcm, lips)


def prepare(folder: Path, speech: str, make_scene: Callable[[int], Scene], count: int) -> Arrays:
    """Return the first `count` scenes, which are rendered once into shards in `folder`.

    Args:
        folder: of the shards.
        speech: identifies the speech of the scenes.
        make_scene: returns a scene by its index.
        count: number of scenes.

    Returns:
        crops: (N, 64, 56, 56) uint8, lower halves of the faces;
        pcm: (N, 61440) int16;
        lips: (N, 64, L) float32.

    Raises:
        ValueError: the folder holds scenes with other speech.
    """
    claim(folder, "speech", speech)

    def make(numbers: range) -> Arrays:
        scenes = [make_scene(i) for i in numbers]
        frames = (rearrange(torch.from_numpy(s.frames), "t h w c -> t c h w") for s in scenes)
        crops = [to_uint8(lower_face(from_uint8(f, low=0), MARGIN), low=0).numpy() for f in frames]
        return {
            "crops": np.stack(crops),
            "pcm": np.stack([(s.pcm * 32767).round().astype(np.int16) for s in scenes]),
            "lips": np.stack([s.lips for s in scenes]).astype(np.float32),
        }

    return shards(folder, count, SHARD, make)


@dataclass(frozen=True)
class Batch:
    """Clips of one step: crops (B, T, 48, 48) in [0, 1], pcm (B, 960 T), lips (B, T, L)."""

    crops: Tensor
    pcm: Tensor
    lips: Tensor

    def share(self) -> Batch:
        """Return this rank's clips."""
        own = ranks.own(len(self.lips))
        return Batch(self.crops[own], self.pcm[own], self.lips[own])


def draw(scenes: Arrays, size: int, seed: int, step: int) -> Batch:
    """Return `size` clips, shifted, mirrored, blurred and with noise: a function of (seed, step) alone."""
    g = generator(seed, step)
    chosen = torch.randint(len(scenes["crops"]), (size,), generator=g).numpy()
    top, left, mirrored = (int(n) for n in torch.randint(0, 2 * MARGIN + 1, (3,), generator=g))
    crops = from_uint8(torch.from_numpy(scenes["crops"][chosen]), low=0)
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
    """Return crops (B, T, H, W) blurred by a Gaussian of `deviation` pixels, if it is 0.3 or more."""
    if deviation < 0.3:
        return crops
    axis = torch.arange(-4.0, 5.0)
    line = torch.exp(-axis.square() / (2 * deviation**2))
    line = line / line.sum()
    flat = F.pad(crops.reshape(-1, 1, *crops.shape[2:]), (4, 4, 4, 4), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, line.reshape(1, 1, 1, -1)), line.reshape(1, 1, -1, 1))
    return flat.reshape(crops.shape)


def losses(net: SyncNet, batch: Batch) -> dict[str, Tensor]:
    """Return the losses of this rank's batch, whose clips have at least 2 MAX_OFFSET + WINDOW frames.

    Returns:
        shift: cross entropy of classifying the true shift;
        pair: cross entropy of classifying the clip's own sound among those of all ranks;
        lips: mean squared error of the predicted lips.
    """
    pictures, lips = net.embed_faces(batch.crops)
    sounds = net.embed_audio(batch.pcm)
    sharpness = net.sharpness.clamp(1, 100)
    inside = pictures[:, MAX_OFFSET : pictures.shape[1] - MAX_OFFSET]
    windows = sounds.unfold(1, inside.shape[1], 1)
    at_shift = torch.einsum("bte,bset->bst", inside, windows)
    local = F.avg_pool1d(at_shift, WINDOW, WINDOW // 2)
    logits = sharpness * torch.cat([local, at_shift.mean(-1, keepdim=True)], -1)
    truth = torch.full((len(pictures), logits.shape[-1]), MAX_OFFSET, device=logits.device)
    all_pictures, all_sounds = ranks.gather(pictures), ranks.gather(sounds)
    pairs = sharpness * torch.einsum("ite,jte->ij", all_pictures, all_sounds) / pictures.shape[1]
    return {
        "shift": F.cross_entropy(logits, truth),
        "pair": F.cross_entropy(pairs, torch.arange(len(pairs), device=pairs.device)),
        "lips": (lips - batch.lips).square().mean(),
    }


@torch.inference_mode()
def validate(net: SyncNet, scenes: Arrays) -> dict[str, float]:
    """Measure on held-out clips.

    Returns:
        right: share of clips whose shift is found within one frame;
        lips_unseen: mean squared error of the lips.
    """
    right, wrong, device = 0, 0.0, net.sharpness.device
    for i in range(len(scenes["crops"])):
        one = {name: values[i : i + 1] for name, values in scenes.items()}
        batch = to_device(device, draw(one, 1, seed=1, step=i))
        pictures, lips = net.embed_faces(batch.crops)
        right += abs(best(offset_scores(pictures, net.embed_audio(batch.pcm))[0].cpu()).offset) <= 1
        wrong += float((lips - batch.lips).square().mean())
    return {"right": right / len(scenes["crops"]), "lips_unseen": wrong / len(scenes["crops"])}


def train(
    folder: Path,
    run: SyncRun,
    scenes: Arrays,
    unseen: Arrays,
    minutes: float = float("inf"),
    device: torch.device | str = "cpu",
) -> Engine:
    """Train until `run.steps` steps are done or the run has taken `minutes`; continues from the run folder.

    Args:
        folder: the run folder.
        run: the config.
        scenes: data to train on.
        unseen: held-out data to validate on.
        minutes: training time of the run, over all resumes.
        device: where to train.
    """
    torch.manual_seed(run.seed)
    net, optim = SyncNet(run.model).to(device), run.optim
    optimiser = torch.optim.AdamW(net.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.decay)
    engine = Engine(net, optimiser, folder, optim.factor(run.steps), optim.clip, optim.ema)
    engine.load()
    write_record(folder, "sync", run, fingerprint(scenes.values()))
    for step in engine.steps(run.steps, minutes, run.save_seconds):
        batch = to_device(device, draw(scenes, run.rows, run.seed, step).share())
        parts = losses(net, batch)
        engine.backward(parts["shift"] + run.pair * parts["pair"] + run.lips * parts["lips"])
        engine.step(batch, **parts)
        if engine.step_count % run.log_every == 0:
            engine.log(**engine.means(), **engine.meter(run.rows))
        if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
            assert isinstance(engine.ema_module, SyncNet)
            engine.log(**validate(engine.ema_module, unseen))
    return engine


def averaged(folder: Path) -> SyncNet:
    """Return the averaged network of a run."""
    net = SyncNet(read_model_config(folder, SyncConfig, SyncConfig.puppet()))
    net.load_state_dict(averaged_weights(folder))
    return net


def _scenes(folder: Path, run: SyncRun, split: Split) -> Arrays:
    spoken, count = corpus(split, run.bank), run.clips if split == "train" else run.heldout
    return prepare(folder / split, spoken.speech, lambda index: scene(spoken, index), count)


def main() -> None:
    """Run the command line."""
    with launch(argument_parser("sync", __doc__, PRESETS)) as (options, run, device):
        ranks.check_divisible(run.rows)
        with ranks.rank_zero_first():
            scenes, unseen = (_scenes(options.run, run, split) for split in SPLITS)
        train(options.run, run, scenes, unseen, options.minutes, device)


if __name__ == "__main__":
    main()
