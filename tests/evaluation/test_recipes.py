"""The two recipes of the measures step, save and resume bit for bit, and draw from (seed, step) alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.speech import Recogniser, RecogniserConfig
from evaluation.sync import SyncConfig, SyncNet
from recipes import train_recogniser, train_sync
from recipes.export import export
from recipes.launch import Engine
from talker.checkpoint import load_component


def spoken(split: str, index: int) -> train_recogniser.Spoken:
    pcm = np.random.default_rng(index).normal(0, 0.1, 4800 + 480 * (index % 5)).astype(np.float32)
    return pcm, ["a", "t", "a"][: index % 4]


def scene(split: str, index: int) -> train_sync.Scene:
    rng = np.random.default_rng(index)
    frames = rng.integers(0, 256, (train_sync.FRAMES, 128, 128, 3)).astype(np.uint8)
    pcm = rng.normal(0, 0.1, train_sync.FRAMES * 960).astype(np.float32)
    return train_sync.Scene(frames, pcm, rng.uniform(0, 1, (train_sync.FRAMES, 4)).astype(np.float32))


def recogniser_run(folder: Path, data: Path, steps: int) -> Engine:
    sounds = train_recogniser.prepare(data, "train", 10, spoken)
    engine = train_recogniser.engine_for(RecogniserConfig.tiny(), folder, 3)
    train_recogniser.train(engine, sounds, None, steps, seconds=1.0)
    return engine


def sync_run(folder: Path, data: Path, steps: int) -> Engine:
    scenes = train_sync.prepare(data, "train", 3, scene)
    engine = train_sync.engine_for(SyncConfig.tiny(), folder, 3)
    train_sync.train(engine, scenes, None, steps, size=2)
    return engine


@pytest.mark.parametrize(
    ("run", "component", "kind", "config"),
    [
        (recogniser_run, "recogniser", Recogniser, RecogniserConfig),
        (sync_run, "sync", SyncNet, SyncConfig),
    ],
)
def test_a_cut_run_goes_on_bit_for_bit_and_exports(run, component, kind, config, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", tmp_path / "data", 3)
    assert run(tmp_path / "cut", tmp_path / "data", 2).step_count == 2
    resumed = run(tmp_path / "cut", tmp_path / "data", 3)
    for ours, theirs in ((resumed.module, whole.module), (resumed.ema_module, whole.ema_module)):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    export(component, tmp_path / "cut", tmp_path / "out")
    assert load_component(kind, config, tmp_path / "out").config == resumed.module.config


def test_a_recogniser_keeps_its_symbols(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train first"):
        train_recogniser.symbols_of(tmp_path)
    sounds = train_recogniser.prepare(tmp_path, "train", 10, spoken)
    symbols = train_recogniser.symbols_of(tmp_path, sounds)
    assert set(symbols) == {symbol for labels in sounds.labels for symbol in labels}
    assert train_recogniser.symbols_of(tmp_path) == symbols


def test_what_was_prepared_is_not_made_again(tmp_path: Path) -> None:
    first = train_recogniser.prepare(tmp_path, "train", 10, spoken)
    second = train_recogniser.prepare(tmp_path, "train", 10, lambda split, i: pytest.fail("made twice"))
    assert np.array_equal(first.pcm, second.pcm)
    assert first.labels == second.labels == [spoken("train", i)[1] for i in range(10)]
    assert torch.allclose(second.clip(7), torch.from_numpy(spoken("train", 7)[0]), atol=1e-4)
