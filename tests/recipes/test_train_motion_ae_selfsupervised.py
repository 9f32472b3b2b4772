"""The self-supervised recipe steps through both stages, saves both sides, resumes to the bit, exports."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from motion_ae.config import MotionAEConfig
from motion_ae.discriminator import DiscriminatorConfig
from motion_ae.model import MotionAE
from motion_ae.perceptual import FilterDistance
from recipes import train_motion_ae_selfsupervised as recipe
from recipes.export import export
from talker.checkpoint import load_component

CONFIG = MotionAEConfig(
    resolution=32,
    style_dim=16,
    motion_dim=6,
    channels=(8, 8, 4),
    flow_blocks=(1, 1, 0),
    rgb_blocks=(0, 0, 1),
    norm_groups=4,
    lean=True,
)


class Bank:
    """Stands in for a bank of rendered frames: people of noise, of whom nothing but boxes is known."""

    people, frames = 20, 4

    def ensure(self, people: int) -> None:
        assert people <= self.people

    def pairs(self, people: np.ndarray, source: np.ndarray, target: np.ndarray) -> SimpleNamespace:
        pictures = np.random.default_rng(0).integers(0, 256, (self.people, self.frames, 64, 64, 3), np.uint8)
        boxes = np.tile(np.int16([[16, 40, 32, 60], [8, 16, 24, 30], [40, 16, 56, 30]]), (len(people), 1, 1))
        return SimpleNamespace(
            source=pictures[people, source], target=pictures[people, target], target_boxes=boxes
        )


def batch() -> recipe.Batch:
    return recipe.to_batch(recipe.first_pairs(Bank(), 6))  # type: ignore[arg-type]


def run(folder: Path, steps: int) -> dict[str, torch.Tensor]:
    judge, likeness = DiscriminatorConfig.tiny(), FilterDistance()
    engine = recipe.train(folder, CONFIG, judge, likeness, Bank(), batch(), steps, 10.0)  # type: ignore[arg-type]
    assert engine.skipped == 0
    return {
        **engine.module.state_dict(),
        **{f"ema.{key}": value for key, value in engine.ema_module.state_dict().items()},
    }


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "warmup_cosine", lambda *_, **__: lambda step: 1.0)
    monkeypatch.setattr(recipe, "COARSE_STEPS", 2)
    monkeypatch.setattr(recipe, "R1_EVERY", 2)
    monkeypatch.setattr(recipe, "LOG_EVERY", 2)
    monkeypatch.setattr(recipe, "LOOK_EVERY", 4)
    unbroken = run(tmp_path / "a", 4)
    run(tmp_path / "b", 3)
    resumed = run(tmp_path / "b", 4)
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    assert "mouth_copy" in (tmp_path / "a" / "log.jsonl").read_text()

    export("motion_ae_selfsupervised", tmp_path / "a", tmp_path / "exported")
    loaded = load_component(MotionAE, MotionAEConfig, tmp_path / "exported")
    assert loaded.config == CONFIG
    trained = recipe.averaged(tmp_path / "a").state_dict()
    assert all(torch.equal(trained[key].half().float(), value) for key, value in loaded.state_dict().items())


def test_both_frames_of_a_pair_are_changed_alike() -> None:
    given = batch()
    alike = recipe.Batch(given.target, given.target, given.mouth, given.mouth)
    changed = recipe.augment(alike, torch.Generator().manual_seed(0))
    assert torch.equal(changed.source, changed.target)
    assert torch.equal(changed.mouth, changed.eyes)
    mirrored = (changed.mouth != given.mouth).flatten(1).any(1)
    assert 0 < mirrored.sum() < len(mirrored)
    assert torch.equal(changed.mouth[mirrored], given.mouth[mirrored].flip(-1))


def test_looking_measures_copies_as_copies(tmp_path: Path) -> None:
    given = batch()
    measured = recipe.look(MotionAE(CONFIG).eval(), given, True, tmp_path / "sheet.png")
    error = (given.source - given.target).div(2).square().mean()
    assert measured["psnr_copy"] == pytest.approx(-10 * float(error.log10()), abs=1e-4)
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("name", ["vgg19.pth", "vgg19.safetensors", "absent.pth"])
def test_a_file_without_weights_is_refused(tmp_path: Path, name: str) -> None:
    if "absent" not in name:
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="vgg19"):
        recipe.perceptual_distance(tmp_path / name)
    assert isinstance(recipe.perceptual_distance(None), FilterDistance)
