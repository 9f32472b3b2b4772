"""The adversarial recipe trains all networks, keeps frozen latents, and reads Whisper's weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_recipes import RECIPES, speech, tiny

from audio_vae.config import AudioVAEConfig, ConvolutionalConfig, WhisperConfig
from recipes import train_audio_vae as plain
from recipes import train_audio_vae_adversarial as recipe
from talker.checkpoint import CheckpointError

RUN = tiny("audio_vae_adversarial", "steps=1", "frames=8", "judged=6")
WHISPER = WhisperConfig(mels=8, positions=50, width=16, heads=2, layers=1)
PUBLISHED = AudioVAEConfig(
    latent_dim=8,
    convolutional=ConvolutionalConfig(encoder_width=4, hidden=16, decoder_width=32, whisper=WHISPER),
)


@pytest.mark.parametrize("model", [RUN.model, pytest.param(PUBLISHED, marks=pytest.mark.long)])
def test_autoencoder_and_discriminators_learn(tmp_path: Path, model: AudioVAEConfig) -> None:
    run = dataclasses.replace(RUN, model=model)
    after = RECIPES["audio_vae_adversarial"](tmp_path, run).module.state_dict()
    before = recipe.trained_modules(plain.build(model, None), run).state_dict()
    unchanged = {key for key, tensor in before.items() if torch.equal(tensor, after[key])}
    assert all(key.startswith("vae.whisper.") for key in unchanged)


def test_discriminators_have_a_rate_of_their_own() -> None:
    run = dataclasses.replace(RUN, discriminator_lr=7e-4)
    modules = recipe.trained_modules(plain.build(RUN.model, None), run)
    vae, discriminator = recipe.optimiser_of(modules, run).param_groups
    assert (vae["lr"], discriminator["lr"]) == (run.optim.lr, 7e-4)
    assert {id(p) for p in discriminator["params"]} == {id(p) for p in modules["discriminator"].parameters()}


def test_frozen_encoder_keeps_its_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder learns from latents with noise, here of 100."""
    RECIPES["audio_vae"](tmp_path / "first", tiny("audio_vae", "steps=1", "frames=8"))
    before = plain.build(RUN.model, tmp_path / "first")
    clips = speech(4), speech(2)
    model, strengths, read = plain.build(RUN.model, tmp_path / "first"), list[float](), list[torch.Tensor]()
    model.bottleneck.expand.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    monkeypatch.setattr(
        recipe, "latent_noise", lambda mean, strength, _: strengths.append(strength) or mean * 0 + 100
    )
    recipe.train(tmp_path / "second", RUN, model, clips)
    assert strengths == [RUN.latent_noise]
    assert read[0].mean() > 50
    after = recipe.averaged(tmp_path / "second").eval()
    pcm = speech(1)[0][None] / 32767
    with torch.no_grad():
        latents = before.encode(pcm)
        assert torch.equal(latents, after.encode(pcm))
        assert not torch.equal(before.decode(latents), after.decode(latents))


def test_whisper_files_are_read_or_are_errors(tmp_path: Path) -> None:
    dims = {"n_mels": 8, "n_audio_ctx": 50, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 1}
    branch = plain.build(PUBLISHED, None).whisper
    assert branch is not None
    encoder = branch.get_submodule("encoder").state_dict()
    state = {f"encoder.{key}": value.half() for key, value in encoder.items()} | {"decoder.x": torch.zeros(1)}
    torch.save({"dims": dims, "model_state_dict": state}, tmp_path / "whisper.pt")
    config, weights = recipe.whisper_weights(tmp_path / "whisper.pt")
    assert config == WHISPER
    assert weights.keys() == encoder.keys()
    sized = recipe.with_whisper(WHISPER, recipe.release()).model.convolutional
    assert sized == ConvolutionalConfig(hidden=16, whisper=WHISPER)
    with pytest.raises(ValueError, match="--config release"):
        recipe.with_whisper(WHISPER, RUN)
    (tmp_path / "other.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="openai-whisper"):
        recipe.whisper_weights(tmp_path / "other.pt")
