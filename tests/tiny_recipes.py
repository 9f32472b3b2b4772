"""Every recipe at tiny size on random data, as functions and as a program that a launcher can start.

torchrun --nproc-per-node 2 tests/tiny_recipes.py NAME FOLDER [--set NAME=VALUE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_talker import random_clips
from torch import Tensor

from motion_ae.perceptual import FilterDistance
from recipes import (
    ranks,
    train_audio_vae,
    train_audio_vae_adversarial,
    train_audio_vae_source_filter,
    train_motion_ae,
    train_motion_ae_selfsupervised,
    train_recogniser,
    train_speaker,
    train_sync,
    train_talker,
)
from recipes.configs.override import override
from recipes.configs.talker import TalkerRun
from recipes.data.frame_bank import FLOW_SIZE, SURFACE, Pairs
from recipes.data.speech import Spoken
from recipes.data.world import FLOOR, STEP, WIDTH, WorldBank
from recipes.engine import Engine
from talker.clock import SAMPLE_RATE


class Bank:
    """A replacement for FrameBank with frames of noise, `size` pixels wide."""

    people, frames = 20, 4

    def __init__(self, size: int) -> None:
        rng = np.random.default_rng(0)
        self.pictures = rng.integers(0, 256, (self.people, self.frames, size, size, 3), np.uint8)
        self.motion = rng.normal(size=(self.people, self.frames, 24)).astype(np.float32)
        self.flow = rng.normal(size=(self.people, 2, FLOW_SIZE, FLOW_SIZE)).astype(np.float16)
        self.boxes = np.int16([[16, 40, 32, 60], [8, 16, 24, 30], [40, 16, 56, 30]]) * size // 64

    def ensure(self, people: int) -> None:
        assert people <= self.people

    def pairs(self, people: np.ndarray, source: np.ndarray, target: np.ndarray) -> Pairs:
        boxes = np.tile(self.boxes, (len(people), 1, 1))
        surface = np.zeros((len(people), SURFACE, FLOW_SIZE, FLOW_SIZE), np.float16)
        surface[:, 0, : FLOW_SIZE // 2] = 1
        held = {
            "source": self.pictures[people, source],
            "target": self.pictures[people, target],
            "source_motion": self.motion[people, source],
            "target_motion": self.motion[people, target],
            "source_boxes": boxes,
            "target_boxes": boxes,
            "flow": self.flow[people],
            "source_surface": surface,
            "target_surface": surface,
        }
        return Pairs(**{name: torch.from_numpy(value) for name, value in held.items()})

    def first(self, count: int) -> Pairs:
        return self.pairs(np.arange(count), np.zeros(count, int), np.ones(count, int))


def speech(count: int, samples: int = 30_000) -> list[Tensor]:
    noise = torch.randn(count, samples, generator=torch.Generator().manual_seed(3))
    return [(row * 3000).to(torch.int16) for row in noise]


def hum(voices: int) -> train_speaker.Sounds:
    """Return two utterances of each voice: tones of two seconds with a frequency of their own."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    tones = [np.sin(2 * math.pi * 50 * (v + 4) * time) * 9000 for v in range(2 * voices)]
    starts = np.arange(2 * voices + 1) * len(time)
    return train_speaker.Sounds(np.concatenate(tones).astype(np.int16), starts, np.arange(2 * voices) // 2)


class Noise:
    """A replacement for the speech of a corpus: noise, with up to three phones."""

    name = "noise"

    def read(self, index: int) -> Spoken:
        pcm = np.random.default_rng(index).normal(0, 0.1, 4800 + 480 * (index % 5)).astype(np.float32)
        return Spoken(pcm, ["a", "t", "a"][: index % 4], 0)


def scene(index: int) -> train_sync.Scene:
    rng = np.random.default_rng(index)
    frames = rng.integers(0, 256, (train_sync.FRAMES, 128, 128, 3)).astype(np.uint8)
    pcm = rng.normal(0, 0.1, train_sync.FRAMES * 960).astype(np.float32)
    return train_sync.Scene(frames, pcm, rng.uniform(0, 1, (train_sync.FRAMES, 4)).astype(np.float32))


def audio_vae(folder: Path, run: train_audio_vae.AudioVAERun, **more: Any) -> Engine:
    return train_audio_vae.train(folder, run, (speech(run.clips), speech(run.heldout)), **more)


def audio_vae_adversarial(folder: Path, run: train_audio_vae_adversarial.AdversarialRun) -> Engine:
    model = train_audio_vae.build(run.model, None, run.seed)
    return train_audio_vae_adversarial.train(folder, run, model, (speech(run.clips), speech(run.heldout)))


def write_bank(folder: Path, clips: int = 4) -> None:
    """Write a speech bank of noise, with features of noise; the last clip of each split is short."""
    for split in ("train", "heldout"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        pcm = [*speech(clips - 1), speech(1)[0][:1000]]
        counts = [len(clip) // STEP for clip in pcm]
        rows = np.random.default_rng(0).uniform(-0.5, 0.5, (sum(counts), WIDTH))
        rows[:, 1] = rows[:, 1] > 0
        rows[:, 2:] += FLOOR / 2
        np.save(folder / split / "00000.npy", torch.cat(pcm).numpy())
        np.save(folder / split / "00000.world.npy", rows.astype(np.float16))
        (folder / split / "00000.json").write_text(json.dumps([{"samples": len(clip)} for clip in pcm]))


def audio_vae_source_filter(folder: Path, run: train_audio_vae_source_filter.SourceFilterRun) -> Engine:
    if ranks.rank() == 0:
        write_bank(folder / "bank")
    ranks.barrier()
    banks = WorldBank(folder / "bank", "train"), WorldBank(folder / "bank", "heldout")
    return train_audio_vae_source_filter.train(folder, run, banks)


def motion_ae(folder: Path, run: train_motion_ae.MotionAERun) -> Engine:
    bank = Bank(256)
    heldout = train_motion_ae.to_batch(bank.first(run.heldout), run.weights)
    return train_motion_ae.train(folder, run, bank, heldout)  # type: ignore[arg-type]


def motion_ae_selfsupervised(folder: Path, run: train_motion_ae_selfsupervised.SelfSupervisedRun) -> Engine:
    bank, recipe = Bank(64), train_motion_ae_selfsupervised
    heldout = recipe.to_batch(bank.first(run.heldout))
    return recipe.train(folder, run, FilterDistance(), bank, heldout)  # type: ignore[arg-type]


def speaker(folder: Path, run: train_speaker.SpeakerRun) -> Engine:
    return train_speaker.train(folder, run, hum(6), hum(2))


def recogniser(folder: Path, run: train_recogniser.RecogniserRun) -> Engine:
    counts = run.clips, run.heldout
    sounds = [train_recogniser.prepare(folder / "train", Noise(), count) for count in counts]
    return train_recogniser.train(folder, run, *sounds)


def sync(folder: Path, run: train_sync.SyncRun) -> Engine:
    scenes = train_sync.prepare(folder / "train", "noise", scene, run.clips)
    return train_sync.train(
        folder, run, scenes, {name: array[: run.heldout] for name, array in scenes.items()}
    )


def talker(folder: Path, run: TalkerRun) -> Engine:
    trainer = train_talker.build(run, folder)
    train_talker.train(trainer, run, random_clips(), random_clips(12))
    return trainer


RECIPES: dict[str, Callable[[Path, Any], Engine]] = {
    recipe.__name__: recipe
    for recipe in (
        *(audio_vae, audio_vae_adversarial, audio_vae_source_filter),
        *(motion_ae, motion_ae_selfsupervised),
        *(speaker, recogniser, sync, talker),
    )
}


def tiny(name: str, *settings: str) -> Any:
    """Return the tiny config of `train_<name>` with settings changed."""
    return override(importlib.import_module(f"recipes.train_{name}").PRESETS["tiny"](), settings)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("run", type=Path)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    ranks.join()
    # In bfloat16, a batch and its halves differ by more than the tests permit: report a CPU without it.
    torch.cpu.get_capabilities = dict  # type: ignore[assignment]
    RECIPES[options.name](options.run, tiny(options.name, *options.set))


if __name__ == "__main__":
    main()
