"""The recipe refines a decoder without touching the encoder, trains both forms, and ranks share its crops."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_recipes import RECIPES, speech, tiny

from audio_vae.config import AudioVAEConfig
from audio_vae.losses import SpectralLoss
from recipes import ranks
from recipes.train_audio_vae import averaged, build, crops, normal, own_draws

RUN = tiny("audio_vae", "steps=2")
train = RECIPES["audio_vae"]


@pytest.mark.long
def test_the_convolutional_form_trains_and_is_folded(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, model=AudioVAEConfig.tiny_convolutional())
    model = train(tmp_path, run).ema_module.eval()
    pcm = speech(1)[0][None] / 32767
    with torch.no_grad():
        torch.testing.assert_close(averaged(tmp_path).eval().encode(pcm), model.encode(pcm))


def test_refinement_keeps_the_latents(tmp_path: Path) -> None:
    train(tmp_path / "first", RUN)
    before = averaged(tmp_path / "first").eval()
    after = train(tmp_path / "second", RUN, encoder_from=tmp_path / "first").module.eval()
    pcm = speech(1)[0][None] / 32767
    with torch.no_grad():
        latents = before.encode(pcm)
        assert torch.equal(latents, after.encode(pcm))
        assert not torch.equal(before.decode(latents), after.decode(latents))


def test_ranks_draw_what_one_process_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = first_loss(1, 0)
    shared = [first_loss(2, rank, monkeypatch) for rank in range(2)]
    assert sum(shared) / 2 == pytest.approx(alone, rel=1e-5)


@torch.no_grad()
def first_loss(size: int, rank: int, monkeypatch: pytest.MonkeyPatch | None = None) -> float:
    """Spectral loss of a step's share of crops, through draws of the posterior."""
    if monkeypatch is not None:
        monkeypatch.setattr(ranks, "size", lambda: size)
        monkeypatch.setattr(ranks, "rank", lambda: rank)
    model = build(RUN.model, None)
    each = own_draws(RUN, 0)
    pcm = crops(speech(4), RUN.frames * model.hop, each)
    mean, log_std = model.posterior(pcm)
    made = model.decode(mean + log_std.exp() * normal(mean, each))
    return float(SpectralLoss(model.sample_rate, model.hop)(made, pcm))
