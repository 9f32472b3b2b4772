"""The adversarial recipe steps, saves both sides, resumes to the bit, exports."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig, ConvolutionalConfig, WhisperConfig
from audio_vae.discriminator import DiscriminatorConfig
from audio_vae.model import AudioVAE
from recipes import train_audio_vae as plain
from recipes import train_audio_vae_adversarial as recipe
from recipes.export import export
from talker.checkpoint import CheckpointError, load_component

CONFIG = AudioVAEConfig.tiny()
WHISPER = WhisperConfig(mels=8, positions=50, width=16, heads=2, layers=1)
PUBLISHED = AudioVAEConfig(
    latent_dim=8,
    convolutional=ConvolutionalConfig(encoder_width=4, hidden=16, decoder_width=32, whisper=WHISPER),
)


def clips(count: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(3)
    noise = torch.randn(count, (plain.FRAMES + 5) * CONFIG.hop, generator=draws)
    return [(row * 3000).to(torch.int16) for row in noise]


def run(folder: Path, steps: int, model: AudioVAE) -> dict[str, Tensor]:
    data = clips(4), clips(2)
    engine = recipe.train(folder, model, DiscriminatorConfig.tiny(), steps, float("inf"), data)
    assert engine.skipped == 0
    return {
        **engine.module.state_dict(),
        **{f"ema.{key}": value for key, value in engine.ema_module.state_dict().items()},
    }


@pytest.fixture(autouse=True)
def _steady_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "warmup_cosine", lambda *_, **__: lambda step: 1.0)
    monkeypatch.setattr(plain, "CROPS", 2)


@pytest.mark.parametrize("config", [CONFIG, pytest.param(PUBLISHED, marks=pytest.mark.long)])
def test_resuming_changes_no_bit(tmp_path: Path, config: AudioVAEConfig) -> None:
    whole = run(tmp_path / "whole", 2, plain.build(config, None))
    run(tmp_path / "parts", 1, plain.build(config, None))
    parts = run(tmp_path / "parts", 2, plain.build(config, None))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[key], tensor) for key, tensor in whole.items())
    before = recipe.rivals(plain.build(config, None), DiscriminatorConfig.tiny()).state_dict()
    still = {key for key, tensor in before.items() if torch.equal(tensor, whole[key])}
    assert all(key.startswith("vae.whisper.") for key in still), "everything else has learned"

    export("audio_vae_adversarial", tmp_path / "whole", tmp_path / "exported")
    loaded = load_component(AudioVAE, AudioVAEConfig, tmp_path / "exported")
    assert loaded.config == config
    trained = recipe.averaged(tmp_path / "whole").state_dict()
    assert all(torch.equal(trained[key].half().float(), value) for key, value in loaded.state_dict().items())


def test_a_frozen_encoder_keeps_its_latents(tmp_path: Path) -> None:
    plain.train(tmp_path / "first", CONFIG, 1, float("inf"), (clips(4), clips(2)))
    before = plain.build(CONFIG, tmp_path / "first")
    run(tmp_path / "second", 1, plain.build(CONFIG, tmp_path / "first"))
    after = recipe.averaged(tmp_path / "second").eval()
    pcm = clips(1)[0][None] / 32767
    with torch.no_grad():
        latents = before.encode(pcm)
        assert torch.equal(latents, after.encode(pcm))
        assert not torch.equal(before.decode(latents), after.decode(latents))


def test_whisper_files_are_read_or_refused(tmp_path: Path) -> None:
    dims = {"n_mels": 8, "n_audio_ctx": 50, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 1}
    branch = plain.build(PUBLISHED, None).whisper
    assert branch is not None
    encoder = branch.get_submodule("encoder").state_dict()
    state = {f"encoder.{key}": value.half() for key, value in encoder.items()} | {"decoder.x": torch.zeros(1)}
    torch.save({"dims": dims, "model_state_dict": state}, tmp_path / "whisper.pt")
    config, weights = recipe.whisper_weights(tmp_path / "whisper.pt")
    assert config.convolutional is not None
    assert config.convolutional.whisper == WHISPER
    assert weights.keys() == encoder.keys()
    (tmp_path / "other.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="openai-whisper"):
        recipe.whisper_weights(tmp_path / "other.pt")
