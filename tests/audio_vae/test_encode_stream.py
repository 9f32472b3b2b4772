"""Encoding a stream: the latents do not depend on the lengths of the pieces, and little is kept."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig, ConvolutionalConfig, WhisperConfig
from audio_vae.encoder import encoder_receptive_field
from audio_vae.model import AudioVAE, EncoderState

FORMS = {"spectral": AudioVAEConfig.tiny(), "convolutional": AudioVAEConfig.tiny_convolutional()}
SAMPLES = 19 * 960 + 311


@pytest.fixture(params=FORMS, scope="module")
def model(request: pytest.FixtureRequest) -> AudioVAE:
    torch.manual_seed(0)
    return AudioVAE(FORMS[request.param]).eval()


def stream(model: AudioVAE, pcm: Tensor, size: int) -> list[Tensor]:
    state, pieces = EncoderState(), pcm.split(size, dim=1)
    return [model.encode(piece, state, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]


@torch.no_grad()
def test_encoding_in_pieces_equals_encoding_the_whole(model: AudioVAE) -> None:
    pcm = torch.randn(1, SAMPLES)
    whole = model.encode(pcm)
    first, second = (torch.cat(stream(model, pcm, size), dim=1) for size in (SAMPLES, 5000))
    assert whole.shape == first.shape == (1, 19, model.latent_dim)
    assert torch.equal(first, second)
    assert (first - whole).abs().max() < 1e-5


@torch.no_grad()
def test_encoded_stream_lags_by_the_lookahead_and_keeps_few_frames(model: AudioVAE) -> None:
    state, chunk, got = EncoderState(), model.config.chunk, 0
    for given in range(1, 30):
        got += model.encode(torch.randn(1, model.hop), state).shape[1]
        assert got == max(0, (given - model.encoder_lookahead) // chunk * chunk)
        assert state.pending is not None
        assert state.pending.shape[1] <= (model.encoder_context + model.encoder_lookahead + chunk) * model.hop


def test_receptive_field_of_the_encoder_contains_the_gradient(model: AudioVAE) -> None:
    before, after = encoder_receptive_field(model.config.form)
    assert (before, after) == (model.encoder_context, model.encoder_lookahead)
    frame, hop = 9, model.hop
    pcm = torch.randn(1, 18 * hop, requires_grad=True)
    model.encode(pcm)[0, frame].square().sum().backward()
    assert pcm.grad is not None
    touched = pcm.grad[0].nonzero().flatten() // hop
    assert frame - before <= int(touched.min())
    assert int(touched.max()) <= frame + after


def test_encoding_a_stream_with_whisper_raises_value_error() -> None:
    small = WhisperConfig(mels=80, positions=1500, width=32, heads=2, layers=1)
    form = ConvolutionalConfig(encoder_width=4, hidden=32, decoder_width=32, whisper=small)
    model = AudioVAE(dataclasses.replace(AudioVAEConfig.tiny_convolutional(), convolutional=form))
    assert not model.encodes_streams
    with pytest.raises(ValueError, match="whole signals only"):
        model.encode(torch.zeros(1, 9600), EncoderState())
