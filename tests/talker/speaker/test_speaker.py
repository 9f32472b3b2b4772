"""Laws of the speaker encoder, and the names of its published parameters."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity
from torchaudio.functional import resample

from talker.checkpoint import load_component, save_component
from talker.clock import SAMPLE_RATE
from talker.speaker.ecapa import AttentiveStatistics
from talker.speaker.encoder import FLOOR, FilterBank, SpeakerEncoder, SpeakerEncoderConfig, WavLMSizes
from talker.weights.speaker import rename


def voice(seconds: float = 1.0, rows: int = 1) -> torch.Tensor:
    """(rows, samples): harmonic tones with vibrato."""
    time = torch.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 100 * (1 + torch.arange(rows))[:, None]
    phase = 2 * torch.pi * pitch * (time + 0.01 * torch.sin(10 * time))
    return 0.1 * sum(torch.sin(k * phase) / k for k in range(1, 9))


def tiny() -> SpeakerEncoder:
    encoder = SpeakerEncoder(SpeakerEncoderConfig.tiny())
    for _ in range(3):  # updates the statistics of the batch norms
        encoder(voice(rows=4))
    return encoder.eval()


def test_embedding_is_normalised_to_values_of_about_one():
    encoder = tiny()
    embedding = encoder.embed(voice(rows=3))
    assert embedding.shape == (3, 16)
    torch.testing.assert_close(embedding.norm(dim=-1), torch.full((3,), 4.0))


def test_filter_bank_ignores_the_level():
    bank, wave = FilterBank(SAMPLE_RATE, 40), voice()
    torch.testing.assert_close(bank(wave), bank(wave * 0.1), atol=1e-4, rtol=0)


def test_row_does_not_depend_on_the_other_rows():
    encoder, waves = tiny(), voice(rows=3)
    torch.testing.assert_close(encoder.embed(waves)[1:2], encoder.embed(waves[1:2]), atol=1e-5, rtol=0)


def test_short_recording_raises_value_error():
    with pytest.raises(ValueError, match=r"at least 0\.04 s"):
        tiny().embed(voice(0.03))


def test_puppet_keeps_its_parameter_budget():
    encoder = SpeakerEncoder(SpeakerEncoderConfig.puppet())
    assert sum(parameter.numel() for parameter in encoder.parameters()) <= 700_000


def test_checkpoint_round_trip_keeps_config_and_embedding(tmp_path):
    encoder = tiny()
    save_component(encoder, tmp_path, dtype=torch.float32)
    loaded = load_component(SpeakerEncoder, SpeakerEncoderConfig, tmp_path)
    assert loaded.config == encoder.config
    assert loaded.embed(voice()).equal(encoder.embed(voice()))


def test_input_rate_comes_from_the_config():
    encoder = tiny()
    twice = SpeakerEncoder(replace(encoder.config, pcm_rate=2 * SAMPLE_RATE)).eval()
    twice.load_state_dict(encoder.state_dict())
    pcm = voice()
    assert twice.embed(pcm).equal(encoder.embed(resample(pcm, 2 * SAMPLE_RATE, SAMPLE_RATE)))


@pytest.mark.parametrize(("dtype", "least_cosine"), [(torch.bfloat16, 0.9995), (torch.float16, 0.99999)])
def test_half_precision_is_close_to_float32(dtype, least_cosine):
    encoder, waves = tiny(), voice(rows=2)
    half = copy.deepcopy(encoder).to(dtype)
    assert half.front.window.equal(encoder.front.window)
    embedding = half.embed(waves)
    assert embedding.dtype == torch.float32
    assert cosine_similarity(embedding, encoder.embed(waves)).min() > least_cosine


def tiny_wavlm() -> SpeakerEncoder:
    sizes = WavLMSizes(
        layers=2,
        width=32,
        heads=4,
        ffn=64,
        conv=((16, 10, 5), (16, 8, 8), (16, 8, 8)),
        position_kernel=8,
        position_groups=4,
        buckets=16,
        max_distance=40,
    )
    config = SpeakerEncoderConfig(
        sample_rate=16_000, channels=16, merged=32, bottleneck=8, embedding=12, normalise=False, wavlm=sizes
    )
    return SpeakerEncoder(config)


@pytest.mark.long
def test_wavlm_stays_in_evaluation_mode():
    encoder = tiny_wavlm().train()
    assert encoder.ecapa.training
    assert not any(module.training for module in encoder.front.wavlm.modules())
    assert encoder.eval().embed(voice(rows=2)).shape == (2, 12)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_wavlm_in_half_precision_is_close_to_float32(dtype):
    encoder, waves = tiny_wavlm().eval(), voice(rows=2)
    full = encoder.embed(waves)
    half = encoder.to(dtype).embed(waves)
    assert half.dtype == torch.float32
    assert cosine_similarity(half, full).min() > 0.9995


def test_published_names_map_to_ours():
    stem = "feature_extract.model.encoder."
    layer = "front.wavlm.encoder.layers.3."
    names = {
        "feature_weight": "front.mixture.weight",
        "feature_extract.model.mask_emb": None,
        "loss_calculator.projection.weight": None,
        f"{stem}layer_norm.bias": "front.wavlm.encoder.layer_norm.bias",
        f"{stem}layers.3.self_attn_layer_norm.weight": f"{layer}layer_norm.weight",
        f"{stem}layers.3.self_attn.grep_a": f"{layer}attention.gru_rel_pos_const",
        f"{stem}layers.3.fc2.bias": f"{layer}feed_forward.output_dense.bias",
        "layer3.Res2Conv1dReluBn.bns.6.running_var": "ecapa.blocks.1.scales.bns.6.running_var",
    }
    assert {key: rename(key) for key in names} == names


def test_filter_bank_keeps_level_differences_within_a_recording():
    """A half that is 20 dB quieter has features that are lower by log(100), scaled by 2 / FLOOR."""
    wave = torch.randn(1, SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    wave[:, SAMPLE_RATE // 2 :] = 0.1 * wave[:, : SAMPLE_RATE // 2]
    loud, quiet = FilterBank(SAMPLE_RATE, 40)(wave)[0].mean(0).split([50, 51])
    assert (loud[5:45].mean() - quiet[5:45].mean()).item() == pytest.approx(
        2 / FLOOR * math.log(100), rel=0.03
    )


def test_wavlm_has_a_feature_every_20_ms():
    assert math.prod(stride for _, _, stride in WavLMSizes().conv) == 320  # samples at 16 kHz


def test_channels_that_the_scales_cannot_share_are_refused():
    with pytest.raises(ValueError, match="channels 12 must be a multiple of 8"):
        SpeakerEncoder(replace(SpeakerEncoderConfig.tiny(), channels=12))


def test_statistics_of_features_that_are_constant_in_time_are_finite() -> None:
    torch.manual_seed(0)
    found = AttentiveStatistics(8, 4)(torch.randn(1, 8, 1).expand(-1, -1, 50))
    assert found.isfinite().all()
    assert (found[:, 8:] < 1e-3).all()  # deviations
