"""The recipe steps, saves, resumes to the bit, and refines a decoder without touching the encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig
from audio_vae.losses import SpectralLoss
from audio_vae.model import AudioVAE
from recipes import ranks
from recipes.export import export
from recipes.train_audio_vae import FRAMES, build, crops, normal, own_draws, train
from talker.checkpoint import load_component

CONFIG = AudioVAEConfig.tiny()
FORMS = {"spectral": CONFIG, "convolutional": AudioVAEConfig.tiny_convolutional()}


def clips(count: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(3)
    noise = torch.randn(count, (FRAMES + 5) * CONFIG.hop, generator=draws)
    return [(row * 3000).to(torch.int16) for row in noise]


def run(
    folder: Path, steps: int, encoder_from: Path | None = None, config: AudioVAEConfig = CONFIG
) -> AudioVAE:
    model = train(folder, config, steps, float("inf"), (clips(4), clips(2)), encoder_from).module
    assert isinstance(model, AudioVAE)
    return model


@pytest.mark.parametrize("form", ["spectral", pytest.param("convolutional", marks=pytest.mark.long)])
def test_resuming_changes_no_bit(tmp_path: Path, form: str) -> None:
    config = FORMS[form]
    whole = run(tmp_path / "whole", 3, config=config).state_dict()
    run(tmp_path / "parts", 2, config=config)
    parts = run(tmp_path / "parts", 3, config=config).state_dict()
    assert all(torch.equal(parts[key], tensor) for key, tensor in whole.items())
    export("audio_vae", tmp_path / "whole", tmp_path / "exported")
    model = load_component(AudioVAE, AudioVAEConfig, tmp_path / "exported")
    assert model.config == config


def test_refinement_keeps_the_latents(tmp_path: Path) -> None:
    run(tmp_path / "first", 2)
    state = torch.load(tmp_path / "first" / "state.pt", weights_only=True)["ema"]
    before = AudioVAE(CONFIG).eval()
    before.load_state_dict(state)
    after = run(tmp_path / "second", 2, encoder_from=tmp_path / "first").eval()
    pcm = clips(1)[0][None] / 32767
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
    model = build(CONFIG, None)
    each = own_draws(0)
    pcm = crops(clips(4), FRAMES * CONFIG.hop, each)
    mean, log_std = model.posterior(pcm)
    made = model.decode(mean + log_std.exp() * normal(mean, each))
    return float(SpectralLoss(CONFIG.sample_rate, CONFIG.hop)(made, pcm))
