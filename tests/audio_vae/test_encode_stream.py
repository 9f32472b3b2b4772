"""Encoding as the sound arrives: the same latents, whatever the pieces, and no more held than needed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig, ConvolutionalConfig, WhisperConfig
from audio_vae.encoder import heard
from audio_vae.model import AudioVAE, EncoderState

FORMS = {"spectral": AudioVAEConfig.tiny(), "convolutional": AudioVAEConfig.tiny_convolutional()}
SAMPLES = 27 * 960 + 311


@pytest.fixture(params=FORMS, scope="module")
def model(request: pytest.FixtureRequest) -> AudioVAE:
    torch.manual_seed(0)
    return AudioVAE(FORMS[request.param]).eval()


def stream(model: AudioVAE, pcm: Tensor, size: int) -> list[Tensor]:
    state, pieces = EncoderState(), pcm.split(size, dim=1)
    return [model.encode(piece, state, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]


@torch.no_grad()
def test_pieces_give_what_the_whole_gives(model: AudioVAE) -> None:
    pcm = torch.randn(2, SAMPLES)
    whole = model.encode(pcm)
    first, second = (torch.cat(stream(model, pcm, size), dim=1) for size in (SAMPLES, 5000))
    assert whole.shape == first.shape == (2, 27, model.latent_dim)
    assert torch.equal(first, second)
    assert (first - whole).abs().max() < 1e-5


@torch.no_grad()
def test_latents_lag_by_the_lookahead_and_little_is_held(model: AudioVAE) -> None:
    state, chunk, got = EncoderState(), model.config.chunk, 0
    for given in range(1, 60):
        got += model.encode(torch.randn(1, model.hop), state).shape[1]
        assert got == max(0, (given - model.heard_after) // chunk * chunk)
        assert state.pending is not None
        assert state.pending.shape[1] <= (model.heard_before + model.heard_after + chunk) * model.hop


def test_reach_is_what_the_gradient_says(model: AudioVAE) -> None:
    before, after = heard(model.config.form)
    assert (before, after) == (model.heard_before, model.heard_after)
    at, hop = 24, model.hop
    pcm = torch.randn(1, 48 * hop, requires_grad=True)
    model.encode(pcm)[0, at].square().sum().backward()
    assert pcm.grad is not None
    touched = pcm.grad[0].nonzero().flatten() // hop
    assert at - before <= int(touched.min())
    assert int(touched.max()) <= at + after


def test_whisper_refuses_a_stream() -> None:
    small = WhisperConfig(mels=80, positions=1500, width=32, heads=2, layers=1)
    form = ConvolutionalConfig(encoder_width=4, hidden=32, decoder_width=32, whisper=small)
    model = AudioVAE(dataclasses.replace(AudioVAEConfig.tiny_convolutional(), convolutional=form))
    assert not model.encodes_streams
    with pytest.raises(ValueError, match="as a whole"):
        model.encode(torch.zeros(1, 9600), EncoderState())
