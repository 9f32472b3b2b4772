"""Laws of the autoencoder, in both of its forms."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig, ConvolutionalConfig, SpectralConfig, WhisperConfig
from audio_vae.conv import fold_weights, normalise_weights
from audio_vae.decoder import reach
from audio_vae.model import AudioVAE, DecoderState

FORMS = {"spectral": AudioVAEConfig.tiny(), "convolutional": AudioVAEConfig.tiny_convolutional()}


@pytest.fixture(params=FORMS, scope="module")
def model(request: pytest.FixtureRequest) -> AudioVAE:
    torch.manual_seed(0)
    return AudioVAE(FORMS[request.param]).eval()


def stream(model: AudioVAE, latents: Tensor, sizes: list[int]) -> list[Tensor]:
    """Decode pieces of these sizes; the last call may be an empty one that only says that the end is here."""
    state, pieces = DecoderState(), torch.split(latents, sizes, dim=1)
    return [model.decode(piece, state, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]


@pytest.mark.parametrize("sizes", [[41], [1] * 41, [4] * 10 + [1], [7, 3, 16, 0, 2, 13], [20, 20, 1, 0]])
@torch.no_grad()
def test_chunked_equals_whole(model: AudioVAE, sizes: list[int]) -> None:
    latents = torch.randn(2, 41, model.latent_dim)
    whole = model.decode(latents)
    assert whole.shape == (2, 41 * model.hop)
    pieces = stream(model, latents, sizes)
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < 1e-5


@torch.no_grad()
def test_samples_do_not_depend_on_how_latents_arrive(model: AudioVAE) -> None:
    latents = torch.randn(1, 23, model.latent_dim)
    first, second = (torch.cat(stream(model, latents, sizes), dim=1) for sizes in ([5, 9, 9], [23, 0]))
    assert torch.equal(first, second)


@torch.no_grad()
def test_a_stream_lags_by_the_lookahead_and_holds_little(model: AudioVAE) -> None:
    state, chunk, given, got = DecoderState(), model.config.chunk, 0, 0
    for _ in range(12):
        got += model.decode(torch.randn(1, chunk, model.latent_dim), state).shape[1]
        given += chunk
        assert got == max(0, (given - model.lookahead) // chunk * chunk) * model.hop
        assert state.pending is not None
        assert state.pending.shape[1] <= model.context + model.lookahead + chunk


def test_reach_is_what_the_gradient_says(model: AudioVAE) -> None:
    latents = torch.randn(1, 41, model.latent_dim, requires_grad=True)
    model.decode(latents)[0, 20 * model.hop : 21 * model.hop].square().sum().backward()
    assert latents.grad is not None
    touched = latents.grad.abs().sum((0, 2)).nonzero().flatten() - 20
    assert (-int(touched[0]), int(touched[-1])) == (model.context, model.lookahead)


@pytest.mark.parametrize("config", [AudioVAEConfig.puppet(), AudioVAEConfig.base()])
def test_reach_of_the_presets(config: AudioVAEConfig) -> None:
    assert max(reach(config.form)) <= 8
    assert (config.hop, config.frame_rate, config.latent_dim) == (960, 25.0, 32)


@torch.no_grad()
def test_encoding_draws_nothing_and_drops_incomplete_frames(model: AudioVAE) -> None:
    pcm = 0.1 * torch.randn(2, 5 * model.hop + 959)
    latents = model.encode(pcm)
    assert latents.shape == (2, 5, model.latent_dim)
    assert torch.equal(latents, model.encode(pcm))
    assert (latents[1:] - model.encode(pcm[1:])).abs().max() < 1e-5, "a row does not see its neighbours"
    assert torch.equal(latents, model.posterior(pcm)[0])


def test_gradient_reaches_every_parameter(model: AudioVAE) -> None:
    mean, log_std = model.posterior(0.1 * torch.randn(1, 6 * model.hop))
    (model.decode(mean + log_std.exp()).square().mean() + log_std.sum()).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    model.zero_grad()
    assert not still


@torch.no_grad()
def test_bad_input_is_named(model: AudioVAE) -> None:
    with pytest.raises(ValueError, match="samples"):
        model.encode(torch.zeros(1, 100))
    with pytest.raises(ValueError, match="samples"):
        model.encode(torch.zeros(9600))
    with pytest.raises(ValueError, match="latents must be"):
        model.decode(torch.zeros(1, 4, model.latent_dim + 1))
    assert model.decode(torch.zeros(1, 0, model.latent_dim)).shape == (1, 0)


def test_a_configuration_has_exactly_one_form() -> None:
    with pytest.raises(ValueError, match="one form"):
        AudioVAEConfig()
    with pytest.raises(ValueError, match="one form"):
        AudioVAEConfig(spectral=SpectralConfig(), convolutional=ConvolutionalConfig())
    with pytest.raises(ValueError, match="width"):
        ConvolutionalConfig(hidden=32, whisper=WhisperConfig())


def test_the_puppet_is_small() -> None:
    assert sum(p.numel() for p in AudioVAE(AudioVAEConfig.puppet()).parameters()) <= 2_200_000


@torch.no_grad()
def test_normalised_weights_fold_back() -> None:
    model = AudioVAE(AudioVAEConfig.tiny_convolutional()).eval()
    keys, pcm = set(model.state_dict()), 0.1 * torch.randn(1, 2 * model.hop)
    before = model.encode(pcm)
    normalise_weights(model)
    assert any(name.endswith("original0") for name, _ in model.named_parameters())
    during = model.encode(pcm)
    fold_weights(model)
    assert set(model.state_dict()) == keys
    for latents in (during, model.encode(pcm)):
        assert (latents - before).abs().max() < 1e-5


def test_the_whisper_branch_is_frozen_and_added() -> None:
    whisper = WhisperConfig(mels=16, positions=100, width=32, heads=2, layers=1)
    tiny = AudioVAEConfig.tiny_convolutional()
    assert tiny.convolutional is not None
    config = dataclasses.replace(tiny, convolutional=dataclasses.replace(tiny.convolutional, whisper=whisper))
    model, pcm = AudioVAE(config).eval(), 0.1 * torch.randn(2, 5 * 960 + 30)
    mean, _ = model.posterior(pcm)
    assert mean.shape == (2, 5, 8)
    mean.sum().backward()
    assert model.whisper is not None
    assert all(p.grad is None for p in model.whisper.parameters())
    alone = model.bottleneck.posterior(model.encoder(pcm))[0]
    assert (mean - alone).abs().max() > 1e-3
    with torch.no_grad(), pytest.raises(ValueError, match="shorter pieces"):
        model.encode(torch.zeros(1, 24_000 * 3))
