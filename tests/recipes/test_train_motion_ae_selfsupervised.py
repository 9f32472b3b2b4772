"""The self-supervised recipe: augmentation, validation, resolutions and VGG's weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_recipes import Bank, tiny

from motion_ae.model import MotionAE
from motion_ae.perceptual import FilterDistance
from recipes import train_motion_ae_selfsupervised as recipe

RUN = tiny("motion_ae_selfsupervised", "rows=6")


def batch() -> recipe.Batch:
    return recipe.to_batch(Bank(64).first(RUN.rows))


def test_both_frames_of_a_pair_are_augmented_alike() -> None:
    given = batch()
    alike = recipe.Batch(given.target, given.target, given.mouth, given.mouth)
    changed = recipe.augment(alike, RUN, torch.Generator().manual_seed(0))
    assert torch.equal(changed.source, changed.target)
    assert torch.equal(changed.mouth, changed.eyes)
    mirrored = (changed.mouth != given.mouth).flatten(1).any(1)
    assert 0 < mirrored.sum() < len(mirrored)
    assert torch.equal(changed.mouth[mirrored], given.mouth[mirrored].flip(-1))


def test_validation_measures_the_source_as_a_prediction(tmp_path: Path) -> None:
    given = recipe.Batch(**{name: value[:4] for name, value in vars(batch()).items()})
    measured = recipe.validate(MotionAE(RUN.model).eval(), given, True, tmp_path / "sheet.png")
    error = (given.source - given.target).div(2).square().mean()
    assert measured["psnr_copy"] == pytest.approx(-10 * float(error.log10()), abs=1e-4)
    assert (tmp_path / "sheet.png").exists(), "also if the last row of 3 is not full"


def test_frames_are_resized_to_the_resolution_of_the_network() -> None:
    levels = {"channels": (8, 8, 4, 4), "flow_blocks": (1, 1, 1, 0), "rgb_blocks": (0, 0, 1, 1)}
    model = MotionAE(dataclasses.replace(RUN.model, resolution=64, **levels))
    given = recipe.to_batch(Bank(32).first(2))
    assert [recipe.reenact(model, given, coarse)[0].shape[-1] for coarse in (True, False)] == [32, 64]


@pytest.mark.parametrize("name", ["vgg19.pth", "vgg19.safetensors", "absent.pth"])
def test_vgg_file_without_weights_is_an_error(tmp_path: Path, name: str) -> None:
    if "absent" not in name:
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="vgg19"):
        recipe.perceptual_distance(tmp_path / name)
    assert isinstance(recipe.perceptual_distance(None), FilterDistance)
