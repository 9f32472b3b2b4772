"""Laws of the source-filter form: streams and batches to the bit, receptive fields, pitch, half precision."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig, SourceFilterConfig
from audio_vae.model import AudioVAE, DecoderState, EncoderState
from audio_vae.source_filter import Salience, SourceFilterDecoder, SourceFilterEncoder, candidates
from audio_vae.source_filter_losses import LevelLoss, LogSpectra, pitch_loss, salience_loss
from audio_vae.synthesis import Controls

RATE = 24_000


@pytest.fixture(scope="module")
def model() -> AudioVAE:
    torch.manual_seed(0)
    return AudioVAE(AudioVAEConfig.tiny_source_filter()).eval()


def decoded(model: AudioVAE, latents: Tensor, sizes: list[int]) -> list[Tensor]:
    """Decode pieces of these sizes, one call each; the last piece may be empty."""
    state, pieces = DecoderState(), torch.split(latents, sizes, dim=1)
    return [model.decode(piece, state, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [[1] * 23, [7, 3, 0, 12, 1, 0], [23]])
def test_decoding_in_pieces_equals_decoding_the_whole_to_the_bit(
    model: AudioVAE, dtype: torch.dtype, sizes: list[int]
) -> None:
    latents, model = torch.randn(1, 23, model.latent_dim), copy.deepcopy(model).to(dtype)
    whole = model.decode(latents)
    assert whole.shape == (1, 23 * model.hop)
    assert whole.dtype == torch.float32
    assert torch.equal(torch.cat(decoded(model, latents, sizes), dim=1), whole)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 4, 6, 7, 8, 11])
def test_every_length_is_decoded_as_in_training(model: AudioVAE, frames: int) -> None:
    """Training decodes whole crops at once, with the same layers."""
    latents = torch.randn(2, frames, model.latent_dim)
    whole = model.decode(latents)
    assert whole.shape == (2, frames * model.hop)
    difference = model.decoder(model.bottleneck.hidden(latents)) - whole
    assert difference.square().mean().sqrt() < 0.01 * whole.square().mean().sqrt()


@torch.no_grad()
@pytest.mark.parametrize("size", [333, 5000])
def test_encoding_in_pieces_equals_encoding_the_whole_to_the_bit(model: AudioVAE, size: int) -> None:
    pcm, state = 0.1 * torch.randn(1, 15 * model.hop + 311), EncoderState()
    pieces = pcm.split(size, dim=1)
    made = [model.encode(piece, state, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
    whole = model.encode(pcm)
    assert whole.shape == (1, 15, model.latent_dim)
    assert torch.equal(torch.cat(made, dim=1), whole)
    torch.testing.assert_close(model.posterior(pcm)[0], whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_row_alone_equals_the_row_in_a_batch_to_the_bit(model: AudioVAE) -> None:
    pcm = 0.1 * torch.randn(3, 9 * model.hop)
    latents = model.encode(pcm)
    pcm_again = model.decode(latents)
    for row in range(3):
        assert torch.equal(model.encode(pcm[row : row + 1]), latents[row : row + 1])
        assert torch.equal(model.decode(latents[row : row + 1]), pcm_again[row : row + 1])


@torch.no_grad()
def test_rows_pass_through_the_networks_one_by_one(model: AudioVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    """At other sizes than the tiny one, products of larger matrices round differently."""
    seen = []
    posterior, chunk = model.posterior, model.decoder.chunk
    monkeypatch.setattr(model, "posterior", lambda pcm: seen.append(len(pcm)) or posterior(pcm))
    monkeypatch.setattr(model.decoder, "chunk", lambda x, *more: seen.append(len(x)) or chunk(x, *more))
    model.decode(model.encode(0.1 * torch.randn(3, 9 * model.hop)))
    assert len(seen) > 6
    assert set(seen) == {1}


@torch.no_grad()
def test_streams_lag_by_the_lookahead_and_keep_few_frames(model: AudioVAE) -> None:
    chunk, decoder, encoder, got, read = model.config.chunk, DecoderState(), EncoderState(), 0, 0
    for given in range(1, 20):
        got += model.decode(torch.randn(1, 1, model.latent_dim), decoder).shape[1]
        assert got == max(0, (given - model.lookahead) // chunk * chunk) * model.hop
        assert decoder.pending is not None
        assert decoder.pending.shape[1] < chunk + model.lookahead
        assert decoder.rows[0].ready is None or decoder.rows[0].ready.shape[1] < model.hop
        read += model.encode(torch.randn(1, model.hop), encoder).shape[1]
        assert read == max(0, (given - model.encoder_lookahead) // chunk * chunk)


def test_receptive_fields_match_the_gradient(model: AudioVAE) -> None:
    latents = torch.randn(1, 25, model.latent_dim, requires_grad=True)
    hidden = model.bottleneck.hidden(latents)
    middle = slice(12 * model.hop, 13 * model.hop)
    assert isinstance(model.decoder, SourceFilterDecoder)
    controls, _ = model.decoder.controls(hidden)
    fixed = controls._replace(log_f0=controls.log_f0.detach())  # the phase depends on the pitch of all frames
    model.decoder.synthesizer(fixed)[0, middle].square().sum().backward()
    assert latents.grad is not None
    touched = latents.grad.abs().sum((0, 2)).nonzero().flatten() - 12
    assert -int(touched[0]) == model.context
    assert int(touched[-1]) <= model.lookahead
    pcm = (0.1 * torch.randn(1, 15 * model.hop)).requires_grad_()
    loss = model.posterior(pcm)[0][0, 7].square().sum()
    assert loss.requires_grad


@torch.no_grad()
def test_encoded_frame_depends_on_its_receptive_field_alone(model: AudioVAE) -> None:
    pcm, frame = 0.1 * torch.randn(1, 21 * model.hop), 10
    before, after = (
        (frame - model.encoder_context) * model.hop,
        (frame + 1 + model.encoder_lookahead) * model.hop,
    )
    other = pcm.clone()
    other[:, :before], other[:, after:] = 1.0, -1.0
    same = model.posterior(other)[0][:, frame], model.posterior(pcm)[0][:, frame]
    torch.testing.assert_close(*same, atol=1e-5, rtol=0)
    other[:, after - model.hop // 2 :] = -1.0
    assert (model.posterior(other)[0][:, frame] - same[1]).abs().max() > 1e-5


@pytest.mark.parametrize("pitch", [118.0, 231.0, 410.0])
def test_salience_is_largest_at_the_pitch(pitch: float) -> None:
    time = torch.arange(RATE // 2) / RATE
    harmonics = [torch.cos(2 * math.pi * h * pitch * time + h * h) / h for h in range(1, int(11_000 / pitch))]
    tone = 0.05 * torch.stack(harmonics).sum(0) + 1e-3 * torch.randn(len(time))
    salience = Salience(RATE, 2160, 240)(tone[None])[0, 5:-5]
    found = candidates()[salience.argmax(-1)]
    assert (1200 * (found / pitch).log2()).abs().max() < 25  # cents; the candidates are 25 cents apart


def test_every_parameter_receives_a_gradient(model: AudioVAE) -> None:
    assert isinstance(model.encoder, SourceFilterEncoder)
    assert isinstance(model.decoder, SourceFilterDecoder)
    hidden, logits = model.encoder.analyse(0.1 * torch.randn(1, 6 * model.hop))
    mean, log_std = model.bottleneck.posterior(hidden)
    controls, voicing = model.decoder.controls(model.bottleneck.hidden(mean + log_std.exp()))
    parts = (logits.logsumexp(-1), log_std, voicing, *controls)
    torch.stack([part.square().mean() for part in parts]).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    model.zero_grad()
    assert not without


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_predicts_nearly_the_same(
    model: AudioVAE, dtype: torch.dtype, tolerance: float
) -> None:
    pcm, half = 0.1 * torch.randn(1, 9 * model.hop), copy.deepcopy(model).to(dtype)
    latents = model.encode(pcm)
    assert half.encode(pcm).dtype == torch.float32
    assert (half.encode(pcm) - latents).square().mean().sqrt() < tolerance * latents.std()
    ours, others = (each.decoder.controls(each.bottleneck.hidden(latents))[0] for each in (model, half))
    for mine, other in zip(ours, others, strict=True):
        assert other.dtype == torch.float32
        assert (other - mine).square().mean().sqrt() < 4 * tolerance * mine.std()
    assert {buffer.dtype for buffer in half.buffers()} == {torch.float32}


@torch.no_grad()
def test_inputs_of_wrong_shape_raise_value_error(model: AudioVAE) -> None:
    with pytest.raises(ValueError, match="samples"):
        model.posterior(torch.zeros(1, 100))
    with pytest.raises(ValueError, match="latents must be"):
        model.decode(torch.zeros(1, 4, model.latent_dim + 1))
    assert model.decode(torch.zeros(1, 0, model.latent_dim)).shape == (1, 0)
    assert model.encode(torch.zeros(1, 100)).shape == (1, 0, model.latent_dim)


def test_puppet_has_its_rates_and_parameter_budget() -> None:
    model = AudioVAE(AudioVAEConfig.puppet_source_filter())
    assert (model.hop, model.frame_rate, model.latent_dim) == (960, 25.0, 32)
    assert (model.lookahead, model.encoder_lookahead) == (3, 6)
    assert sum(p.numel() for p in model.parameters()) <= 3_600_000
    with pytest.raises(ValueError, match="fine_lookahead"):
        SourceFilterConfig(fine_lookahead=7)


def test_level_loss_ignores_what_is_masked() -> None:
    loss, voiced = LevelLoss(RATE, 5, 4), torch.tensor([[1.0, 1.0]])
    harmonic, noise = torch.full((1, 2, 5), -3.0), torch.full((1, 2, 4), -5.0)
    made = Controls(torch.zeros(1, 1), harmonic, noise, torch.zeros(1, 2, 3))
    assert float(loss(made, harmonic, noise, voiced)) == pytest.approx(0, abs=1e-6)
    quiet = made._replace(noise=torch.full_like(noise, -40.0))
    masked = float(loss(quiet, harmonic, torch.full_like(noise, -14.0), voiced))
    audible = float(loss(quiet, harmonic, noise, voiced))
    assert masked < 0.01 < 0.3 < audible
    louder, silent = made._replace(harmonic=harmonic + 1), torch.full_like(noise, -40.0)
    assert float(loss(louder._replace(noise=silent), harmonic, silent, voiced)) == pytest.approx(1, rel=1e-3)
    assert float(loss(louder._replace(noise=silent), harmonic, silent, 0 * voiced)) == pytest.approx(
        0.05, rel=1e-3
    )


def test_pitch_stays_between_40_and_800_hz(model: AudioVAE) -> None:
    decoder = copy.deepcopy(model.decoder)
    found = []
    for bias in (-1e3, 1e3):
        last = [module for module in decoder.pitch.modules() if getattr(module, "bias", None) is not None][-1]
        with torch.no_grad():
            last.bias.fill_(bias)
            found.append(decoder.controls(torch.zeros(1, 3, decoder.width))[0].log_f0.exp())
    torch.testing.assert_close(found[0], torch.full_like(found[0], 40.0))
    torch.testing.assert_close(found[1], torch.full_like(found[1], 800.0))


@torch.no_grad()
def test_every_coarse_block_runs_before_the_frames_are_split() -> None:
    config = AudioVAEConfig.tiny_source_filter()
    form = dataclasses.replace(config.source_filter, decoder_blocks=(1, 3))
    model = AudioVAE(dataclasses.replace(config, source_filter=form)).eval()
    latents = torch.randn(1, 9, model.latent_dim)
    assert torch.equal(torch.cat(decoded(model, latents, [2, 7]), dim=1), model.decode(latents))
    assert model.context == 3 * 2 - (-(6 - 2 + 3) // 4)


@torch.no_grad()
def test_levels_are_bounded_so_that_the_signal_is_finite(model: AudioVAE) -> None:
    decoder = copy.deepcopy(model.decoder)
    decoder.filters.bias.fill_(1e3)
    controls = decoder.controls(torch.zeros(1, 3, decoder.width))[0]
    assert float(controls.harmonic.max()) == float(controls.noise.max()) == 6


def test_pitch_losses_in_closed_form() -> None:
    log_f0, voiced = torch.log(torch.tensor([[100.0, 200.0]])), torch.tensor([[1.0, 0.0]])
    assert float(pitch_loss(log_f0 + 0.2, log_f0, voiced)) == pytest.approx(0.2 * (1 + 0.05) / 2)
    right = -(candidates().log() - log_f0[..., None]).abs().float() * 200
    wrong = -(candidates().log() - log_f0[..., None] - 0.5).abs().float() * 200
    assert salience_loss(right, log_f0, voiced) < 2 < 20 < salience_loss(wrong, log_f0, voiced)
    assert float(salience_loss(wrong, log_f0, 0 * voiced)) == 0


@torch.no_grad()
def test_energy_distance_prefers_the_true_distribution_to_its_median() -> None:
    spectra = LogSpectra(RATE)
    real, made, again = (0.1 * torch.randn(2, 9600) for _ in range(3))
    right = float(spectra.energy_distance(made, again, real))
    assert right == pytest.approx(0, abs=0.03)
    wrong = float(spectra.energy_distance(2 * made, 2 * again, real))
    assert wrong > right + 0.1
    tone = 0.1 * torch.sin(torch.arange(9600) / 5).expand(2, -1)
    assert float(spectra.energy_distance(tone, tone, real)) > right + 0.5
