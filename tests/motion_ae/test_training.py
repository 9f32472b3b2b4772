"""Losses of the motion autoencoder, and the measurements of its recipe, on tiny pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_recipes import RECIPES, Bank, tiny

from motion_ae.losses import box_weights, code_error, flow_l1, gradient_l1, pyramid_l1, weighted_l1
from motion_ae.model import MotionAE
from recipes import train_motion_ae as recipe

RUN = tiny("motion_ae")


def test_losses_are_zero_for_the_target_only() -> None:
    target, weights = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    drawn = target + 0.1
    assert weighted_l1(target, target, weights) == 0
    assert pyramid_l1(target, target) == gradient_l1(target, target, weights) == 0
    torch.testing.assert_close(weighted_l1(drawn, target, weights), torch.tensor(0.1))
    torch.testing.assert_close(pyramid_l1(drawn, target), torch.tensor(0.1))
    assert gradient_l1(drawn, target, weights) < 1e-6, "a constant offset has no gradient"


def test_losses_of_halves_with_the_mean_weight_of_the_whole_average_to_the_loss_of_the_whole() -> None:
    picture, target, weights = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    weights[1] *= 5
    flow, raw = torch.rand(2, 2, 8, 8), torch.rand(2, 3, 16, 16)
    losses = {
        weighted_l1: (picture, target, weights),
        gradient_l1: (picture, target, weights),
        lambda raw, flow, weights, **mean: flow_l1([raw], flow, 16, weights, **mean): (raw, flow, weights),
    }
    for loss, given in losses.items():
        halves = [loss(*(x[k : k + 1] for x in given), mean=lambda _: weights.mean()) for k in (0, 1)]
        torch.testing.assert_close(sum(halves) / 2, loss(*given))


def test_box_weights_are_set_inside_the_boxes_only() -> None:
    marked = box_weights(torch.tensor([[[1, 2, 3, 5], [6, 6, 8, 8]]]), 8, 4.0)
    assert marked.shape == (1, 1, 8, 8)
    assert marked.sum() == 4.0 * (2 * 3 + 2 * 2)
    assert marked[0, 0, 2, 1] == marked[0, 0, 7, 7] == 4
    assert marked[0, 0, 1, 2] == 0


def test_flow_loss_of_the_true_flow_is_zero() -> None:
    size, wide = 64, 16
    flow = torch.full((1, 2, wide, wide), 6.0)
    cells = 6.0 * wide / size
    raw = torch.full((1, 3, wide, wide), cells * 2 / (wide - 1)).atanh()
    assert flow_l1([raw], flow, size, torch.ones(1, 1, size, size)) < 1e-6
    wrong = flow_l1([-raw], flow, size, torch.ones(1, 1, size, size))
    assert wrong > 0.1
    torch.testing.assert_close(flow_l1([-raw, raw], flow, size, torch.ones(1, 1, size, size)), wrong / 2)


def test_code_error_is_relative_to_the_spread() -> None:
    spread = torch.tensor([0.5, 2.0])
    assert code_error(torch.tensor([[0.5, 2.0]]), torch.zeros(1, 2), spread) == 1


def test_psnr_of_pictures_with_known_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of the encoder's codes are wrong by 0.2 outside of the mouth; those of true motion by 0.02."""
    batch = recipe.to_batch(Bank(256).first(4), RUN.weights)
    drawn = {True: batch.target + 0.2 * (1 - batch.mouth), False: batch.target + 0.02}
    monkeypatch.setattr(recipe, "reenact", lambda model, batch, encoded=True: drawn[encoded])
    drawn[True] += 0.002 * batch.mouth
    measured = recipe.validate(MotionAE(RUN.model).eval(), batch)
    share = float(batch.mouth.mean())
    assert measured["psnr"] == pytest.approx(20 - 10 * np.log10(1 - share), abs=1e-2)
    assert (measured["mouth"], measured["mouth_told"]) == pytest.approx((60, 40), abs=1e-2)
    error = (batch.source - batch.target).div(2).square()
    assert measured["psnr_copy"] == pytest.approx(-10 * float(error.mean().log10()), abs=1e-4)
    inside = float((error * batch.mouth).mean()) / share
    assert measured["mouth_copy"] == pytest.approx(-10 * np.log10(inside), abs=1e-4)


def test_glimpses_are_jittered_and_the_flow_fades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[recipe.Batch, float, bool]] = []

    def losses(
        modules: torch.nn.Module, batch: recipe.Batch, run: object, flow: float, coarse: bool
    ) -> tuple:
        seen.append((batch, flow, coarse))
        return 0 * next(modules.parameters()).sum(), {"flow": torch.tensor(flow)}

    monkeypatch.setattr(recipe, "losses", losses)
    RECIPES["motion_ae"](tmp_path, tiny("motion_ae", "validate_every=9", "weights.flow_fade=0.75"))
    jitter = torch.cat([batch.glances - batch.centres for batch, *_ in seen])
    assert 0.02 < float(jitter.std()) < 0.04
    assert [flow for _, flow, _ in seen] == pytest.approx([16, 16 * 2 / 3, 16 / 3, 1.6])
    assert [coarse for *_, coarse in seen] == [True, True, False, False]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["flow"] for row in rows] == [1] * 4, "the log has the unweighted error"


def test_surfaces_and_centres_of_the_sources_come_first() -> None:
    """The encoder reads the pictures in the same order."""
    pairs = Bank(256).first(2)
    pairs = replace(
        pairs,
        source_boxes=torch.zeros_like(pairs.source_boxes),
        target_boxes=torch.tensor([[[0, 0, 256, 256]] * 3] * 2, dtype=torch.int16),
        source_surface=torch.zeros_like(pairs.source_surface),
    )
    batch = recipe.to_batch(pairs, RUN.weights)
    assert not batch.surface[:2].any()
    assert torch.equal(batch.surface[2:], pairs.target_surface.float())
    assert (batch.centres[:2] == -1).all()
    assert (batch.centres[2:] == 0).all(), "the middle of the picture"


def test_pixels_of_the_mouth_that_the_source_does_not_show_have_the_largest_weight() -> None:
    pairs = Bank(256).first(1)
    same = torch.ones_like(pairs.target_surface)
    pairs = replace(pairs, flow=torch.zeros_like(pairs.flow), target_surface=same, source_surface=same)
    left, top, right, bottom = pairs.target_boxes[0, 0].tolist()
    for source, mouth, flow in ((same, 1 + 8, 9), (0 * same, 1 + 8 + 2 * 8, 0)):
        batch = recipe.to_batch(replace(pairs, source_surface=source), recipe.Weights(flow_fade=1))
        assert (batch.weights[0, 0, top:bottom, left:right] == mouth).all()
        assert batch.weights[0, 0, 0, 0] == 1
        assert (batch.flow_weights[0, 0, top // 4 : bottom // 4, left // 4 : right // 4] == flow).all()


@pytest.mark.parametrize("count", [1, 3, 5])
def test_sheet_holds_any_number_of_pictures(tmp_path: Path, count: int) -> None:
    pictures = torch.arange(count)[:, None, None, None].expand(count, 3, 4, 2) / 8
    recipe.save_sheet(pictures, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (4 * -(-count // 3), 6, 3)
    tiles = sheet.reshape(-1, 4, 3, 2, 3).swapaxes(1, 2).reshape(-1, 4 * 2 * 3)
    assert [set(tile) for tile in tiles[:count]] == [{round((1 + k / 8) * 127.5)} for k in range(count)]
    assert not tiles[count:].any()
