"""Laws of the audio autoencoder in both forms, in float32 and in half precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from audio_vae.bottleneck import Bottleneck
from audio_vae.config import AudioVAEConfig, ConvolutionalConfig, SpectralConfig, WhisperConfig
from audio_vae.conv import fold_weights, normalise_weights
from audio_vae.decoder import SpectralDecoder, decoder_receptive_field
from audio_vae.model import AudioVAE, DecoderState

FORMS = {"spectral": AudioVAEConfig.tiny(), "convolutional": AudioVAEConfig.tiny_convolutional()}


@pytest.fixture(params=FORMS, scope="module")
def model(request: pytest.FixtureRequest) -> AudioVAE:
    torch.manual_seed(0)
    return AudioVAE(FORMS[request.param]).eval()


def stream(model: AudioVAE, latents: Tensor, sizes: list[int]) -> list[Tensor]:
    """Decode pieces of these sizes, one call each; the last piece may be empty."""
    state, pieces = DecoderState(), torch.split(latents, sizes, dim=1)
    return [model.decode(piece, state, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]


@torch.no_grad()
def test_decoding_in_pieces_equals_decoding_the_whole(model: AudioVAE) -> None:
    """Close to the whole, and equal to the bit for any lengths of the pieces."""
    latents = torch.randn(1, 23, model.latent_dim)
    whole = model.decode(latents)
    assert whole.shape == (1, 23 * model.hop)
    first, *others = (
        torch.cat(stream(model, latents, sizes), dim=1) for sizes in ([23], [1] * 23, [7, 3, 0, 12, 1, 0])
    )
    assert (first - whole).abs().max() < 1e-5
    assert all(torch.equal(first, other) for other in others)


@torch.no_grad()
def test_decoded_stream_lags_by_the_lookahead_and_keeps_few_frames(model: AudioVAE) -> None:
    state, chunk, given, got = DecoderState(), model.config.chunk, 0, 0
    for _ in range(8):
        got += model.decode(torch.randn(1, chunk, model.latent_dim), state).shape[1]
        given += chunk
        assert got == max(0, (given - model.lookahead) // chunk * chunk) * model.hop
        assert state.pending is not None
        assert state.pending.shape[1] <= model.context + model.lookahead + chunk


def test_receptive_field_of_the_decoder_matches_the_gradient(model: AudioVAE) -> None:
    latents = torch.randn(1, 21, model.latent_dim, requires_grad=True)
    model.decode(latents)[0, 10 * model.hop : 11 * model.hop].square().sum().backward()
    assert latents.grad is not None
    touched = latents.grad.abs().sum((0, 2)).nonzero().flatten() - 10
    assert (-int(touched[0]), int(touched[-1])) == (model.context, model.lookahead)


@pytest.mark.parametrize("config", [AudioVAEConfig.puppet(), AudioVAEConfig.base()])
def test_receptive_field_of_the_presets_is_short(config: AudioVAEConfig) -> None:
    assert max(decoder_receptive_field(config.form)) <= 8
    assert (config.hop, config.frame_rate, config.latent_dim) == (960, 25.0, 32)


@torch.no_grad()
def test_encode_is_deterministic_and_drops_incomplete_frames(model: AudioVAE) -> None:
    pcm = 0.1 * torch.randn(2, 5 * model.hop + 959)
    latents = model.encode(pcm)
    assert latents.shape == (2, 5, model.latent_dim)
    assert torch.equal(latents, model.encode(pcm))
    assert (latents[1:] - model.encode(pcm[1:])).abs().max() < 1e-5, "a row does not depend on the other rows"
    assert torch.equal(latents, model.posterior(pcm)[0])


@torch.no_grad()
def test_latent_of_silence_is_that_of_a_frame_far_from_the_ends(model: AudioVAE) -> None:
    latents = model.encode(torch.zeros(1, 40 * model.hop))[0]
    torch.testing.assert_close(model.silence(), latents[20], atol=1e-6, rtol=0)
    assert (latents[0] - latents[20]).abs().max() > 1e-4


def test_every_parameter_receives_a_gradient(model: AudioVAE) -> None:
    mean, log_std = model.posterior(0.1 * torch.randn(1, 6 * model.hop))
    (model.decode(mean + log_std.exp()).square().mean() + log_std.sum()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    model.zero_grad()
    assert not without


@torch.no_grad()
def test_inputs_of_wrong_shape_raise_value_error(model: AudioVAE) -> None:
    with pytest.raises(ValueError, match="samples"):
        model.encode(torch.zeros(1, 100))
    with pytest.raises(ValueError, match="samples"):
        model.encode(torch.zeros(9600))
    with pytest.raises(ValueError, match="latents must be"):
        model.decode(torch.zeros(1, 4, model.latent_dim + 1))
    assert model.decode(torch.zeros(1, 0, model.latent_dim)).shape == (1, 0)


def test_config_without_exactly_one_form_raises_value_error() -> None:
    with pytest.raises(ValueError, match="one form"):
        AudioVAEConfig()
    with pytest.raises(ValueError, match="one form"):
        AudioVAEConfig(spectral=SpectralConfig(), convolutional=ConvolutionalConfig())
    with pytest.raises(ValueError, match="width"):
        ConvolutionalConfig(hidden=32, whisper=WhisperConfig())


def test_puppet_keeps_its_parameter_budget() -> None:
    assert sum(p.numel() for p in AudioVAE(AudioVAEConfig.puppet()).parameters()) <= 2_200_000


@torch.no_grad()
def test_weight_normalisation_and_its_inverse_keep_the_function() -> None:
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


def with_whisper() -> AudioVAE:
    """A tiny published form with a Whisper branch of one second."""
    whisper = WhisperConfig(mels=16, positions=50, width=32, heads=2, layers=1)
    form = ConvolutionalConfig(encoder_width=4, hidden=32, decoder_width=32, whisper=whisper)
    return AudioVAE(AudioVAEConfig(latent_dim=8, convolutional=form)).eval()


def test_whisper_features_are_added_and_receive_no_gradient() -> None:
    model, pcm = with_whisper(), 0.1 * torch.randn(2, 5 * 960 + 30)
    mean, _ = model.posterior(pcm)
    assert mean.shape == (2, 5, 8)
    mean.sum().backward()
    assert model.whisper is not None
    assert all(p.grad is None for p in model.whisper.parameters())
    alone = model.bottleneck.posterior(model.encoder(pcm))[0]
    assert (mean - alone).abs().max() > 1e-3
    with torch.no_grad(), pytest.raises(ValueError, match="shorter pieces"):
        model.encode(torch.zeros(1, 24_000 * 2))


HALF = [(torch.bfloat16, 0.02), (torch.float16, 0.003)]
"""Types, and the largest error relative to float32 (root mean square): 34 dB and 50 dB below the signal."""


def relative_error(half: Tensor, full: Tensor) -> Tensor:
    assert half.dtype == torch.float32
    return ((half - full).square().mean() / full.square().mean()).sqrt()


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), HALF)
def test_half_precision_is_close_to_float32(model: AudioVAE, dtype: torch.dtype, tolerance: float) -> None:
    pcm = 0.1 * torch.randn(1, 13 * model.hop)
    latents = model.encode(pcm)
    decoded = model.decode(latents)
    half = copy.deepcopy(model).to(dtype)
    assert relative_error(half.encode(pcm), latents) < tolerance
    assert relative_error(half.decode(latents), decoded) < tolerance


@torch.no_grad()
def test_pieces_equal_the_whole_in_bfloat16(model: AudioVAE) -> None:
    """To the accuracy of bfloat16, and to the bit for any lengths of the pieces."""
    half, latents = copy.deepcopy(model).bfloat16(), torch.randn(1, 13, model.latent_dim)
    first, second = (torch.cat(stream(half, latents, sizes), dim=1) for sizes in ([13], [5, 1, 7]))
    assert torch.equal(first, second)
    assert relative_error(first, half.decode(latents)) < 0.02


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), HALF)
def test_whisper_branch_in_half_precision_is_close_to_float32(dtype: torch.dtype, tolerance: float) -> None:
    model, pcm = with_whisper(), 0.1 * torch.randn(1, 4 * 960)
    latents = model.encode(pcm)
    assert relative_error(model.to(dtype).encode(pcm), latents) < tolerance


def test_windows_and_filters_stay_in_float32() -> None:
    model = AudioVAE(AudioVAEConfig.tiny())
    constants = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for name, buffer in model.bfloat16().named_buffers():
        assert buffer.equal(constants[name]), name


@torch.no_grad()
def test_decoded_samples_are_bounded(model: AudioVAE) -> None:
    loud = copy.deepcopy(model)
    last = loud.decoder.head if isinstance(loud.decoder, SpectralDecoder) else loud.decoder.out
    for bias in (5.0, 1e3):
        last.bias.fill_(bias)
        assert loud.decode(torch.randn(1, 8, loud.latent_dim)).abs().max() == pytest.approx(1, abs=1e-3)


def test_log_standard_deviation_of_the_posterior_is_bounded() -> None:
    bottleneck = Bottleneck(8, 4, 8)
    with torch.no_grad():
        bottleneck.project.weight.mul_(1e4)
    log_std = bottleneck.posterior(torch.randn(2, 50, 8))[1]
    assert (log_std.min(), log_std.max()) == (-7.0, 2.0)
