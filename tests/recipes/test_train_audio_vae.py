"""The audio autoencoder's recipe: decoder refinement, both networks, crops divided among ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_recipes import RECIPES, speech, tiny

from audio_vae.config import AudioVAEConfig
from audio_vae.losses import SpectralLoss
from audio_vae.model import AudioVAE
from recipes import ranks, train_audio_vae, train_audio_vae_adversarial
from recipes.train_audio_vae import (
    averaged,
    build,
    crop_generators,
    crops,
    latent_noise,
    normal_like,
    validate,
)

RUN = tiny("audio_vae", "steps=2", "frames=8")
train = RECIPES["audio_vae"]


@pytest.mark.long
def test_convolutional_network_trains_and_its_weight_norms_are_folded(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, model=AudioVAEConfig.tiny_convolutional())
    model = train(tmp_path, run).ema_module.eval()
    pcm = speech(1)[0][None] / 32767
    with torch.no_grad():
        torch.testing.assert_close(averaged(tmp_path).eval().encode(pcm), model.encode(pcm))


def test_decoder_refinement_keeps_the_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "first", RUN)
    before = averaged(tmp_path / "first").eval()
    after = train(tmp_path / "second", RUN, encoder_from=tmp_path / "first").module.eval()
    pcm = speech(1)[0][None] / 32767
    with torch.no_grad():
        latents = before.encode(pcm)
        assert torch.equal(latents, after.encode(pcm))
        assert torch.equal(before.bottleneck.project.weight, after.bottleneck.project.weight)
        assert not torch.equal(before.decode(latents), after.decode(latents))
    strengths: list[float] = []
    monkeypatch.setattr(
        train_audio_vae,
        "latent_noise",
        lambda mean, strength, _: strengths.append(strength) or mean * torch.nan,
    )
    run = dataclasses.replace(RUN, steps=1)
    noisy = train(tmp_path / "noisy", run, encoder_from=tmp_path / "first")
    assert strengths == [RUN.latent_noise]
    assert noisy.skipped == 1, "the noise reaches the decoder"


def test_ranks_draw_together_what_one_process_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = first_loss(1, 0)
    shared = [first_loss(2, rank, monkeypatch) for rank in range(2)]
    assert sum(shared) / 2 == pytest.approx(alone, rel=1e-5)


@torch.no_grad()
def first_loss(size: int, rank: int, monkeypatch: pytest.MonkeyPatch | None = None) -> float:
    """Return the spectral loss of a rank's crops of a step, decoded from samples of the posterior."""
    if monkeypatch is not None:
        monkeypatch.setattr(ranks, "size", lambda: size)
        monkeypatch.setattr(ranks, "rank", lambda: rank)
    model = build(RUN.model, None)
    each = crop_generators(RUN, 0)
    pcm = crops(speech(4), RUN.frames * model.hop, each)
    mean, log_std = model.posterior(pcm)
    decoded = model.decode(mean + log_std.exp() * normal_like(mean, each))
    return float(SpectralLoss(model.sample_rate, model.hop)(decoded, pcm))


@pytest.mark.parametrize("recipe", [train_audio_vae, train_audio_vae_adversarial])
def test_exported_network_has_no_weight_norms(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AudioVAEConfig.tiny_convolutional()
    trained = build(config, None, seed=1).state_dict()
    monkeypatch.setattr(recipe, "read_model_config", lambda *_: config)
    monkeypatch.setattr(recipe, "averaged_weights", lambda *_: trained)
    found, plain = recipe.averaged(tmp_path).state_dict(), AudioVAE(config).state_dict()
    assert found.keys() == plain.keys() != trained.keys()


def test_held_out_phonemes_are_those_of_the_original_and_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    model, heldout = build(RUN.model, None), torch.stack(speech(2))[:, :9600] / 32767
    heard = lambda pcm: list("abcd" if any(torch.equal(pcm, row) for row in heldout) else "abc")  # noqa: E731
    monkeypatch.setattr(train_audio_vae, "recogniser", lambda: SimpleNamespace(transcribe=heard))
    found = validate(model, SpectralLoss(model.sample_rate, model.hop), heldout)
    assert found["heldout_phonemes"] == 0.25


def test_a_clip_may_be_as_short_as_a_crop() -> None:
    clip = torch.arange(10, dtype=torch.int16)
    assert torch.equal(crops([clip], 10, [torch.Generator()])[0], clip / 32767)


def test_noise_of_latents_has_the_deviation_of_each_channel() -> None:
    each, scale = [torch.Generator().manual_seed(row) for row in range(2)], torch.tensor([1.0, 10, 100])
    noise = latent_noise(scale * torch.randn(2, 4000, 3), 1.0, each).std(1) / scale
    assert (noise.std(1) < 0.05 * noise.mean(1)).all()
    assert (noise < 1.05).all()
    assert noise[0, 0] != pytest.approx(float(noise[1, 0]), rel=0.1), "each crop has a factor of its own"


def test_clips_that_are_idle_or_short_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [100, 99, 101, 300, 100]
    corpus = [
        SimpleNamespace(pcm=np.full(size, size / 1000, np.float32), idle=index == 3)
        for index, size in enumerate(sizes)
    ]
    corpora = {("heldout", "a"): SimpleNamespace(clip=corpus.__getitem__)}
    corpora["train", "a"] = SimpleNamespace(clip=corpus[2:].__getitem__)
    monkeypatch.setattr(train_audio_vae, "corpus", lambda split, bank: corpora[split, bank])
    run = SimpleNamespace(bank="a", clips=1, heldout=3, frames=10, model=SimpleNamespace(hop=10))
    (first,), found = train_audio_vae.spoken_clips(run)
    assert len(first) == 101
    assert [(len(clip), int(clip[0])) for clip in found] == [(100, 3276), (101, 3309), (100, 3276)]
    assert {clip.dtype for clip in found} == {torch.int16}


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("audio_vae", ("frames=8",)),
        ("audio_vae_adversarial", ("frames=8", "judged=6")),
        ("audio_vae_source_filter", ()),
    ],
)
def test_divergence_below_the_free_nats_has_no_weight(tmp_path: Path, name: str, short: tuple[str]) -> None:
    def trained(*settings: str) -> torch.Tensor:
        folder = tmp_path / "-".join(settings)
        module = RECIPES[name](folder, tiny(name, "steps=1", "validate_every=9", *short, *settings)).module
        return torch.cat(
            [value.flatten() for value in module.state_dict().values() if value.is_floating_point()]
        )

    free, none = trained("free_nats=1e9", "kl=9"), trained("free_nats=1e9", "kl=0")
    assert torch.equal(free, none)
    assert not torch.equal(none, trained("free_nats=0", "kl=9"))
