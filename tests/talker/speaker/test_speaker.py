"""The speaker encoder of the default: one vector a voice, whatever its level; tables of published names."""

import pytest
import torch

from talker.checkpoint import load_component, save_component
from talker.speaker.encoder import PCM_RATE, FilterBank, SpeakerEncoder, SpeakerEncoderConfig, WavLMSizes
from talker.weights.speaker import rename


def voice(seconds: float = 1.0, rows: int = 1) -> torch.Tensor:
    """(rows, samples): buzzing with a wavering pitch."""
    time = torch.arange(int(seconds * PCM_RATE)) / PCM_RATE
    pitch = 100 * (1 + torch.arange(rows))[:, None]
    phase = 2 * torch.pi * pitch * (time + 0.01 * torch.sin(10 * time))
    return 0.1 * sum(torch.sin(k * phase) / k for k in range(1, 9))


def tiny() -> SpeakerEncoder:
    encoder = SpeakerEncoder(SpeakerEncoderConfig.tiny())
    for _ in range(3):  # batch norms take up statistics
        encoder(voice(rows=4))
    return encoder.eval()


def test_embedding_has_values_of_about_one():
    encoder = tiny()
    embedding = encoder.embed(voice(rows=3))
    assert embedding.shape == (3, 16)
    torch.testing.assert_close(embedding.norm(dim=-1), torch.full((3,), 4.0))


def test_level_does_not_matter():
    bank, wave = FilterBank(PCM_RATE, 40), voice()
    torch.testing.assert_close(bank(wave), bank(wave * 0.1), atol=1e-4, rtol=0)


def test_row_alone_is_the_row_in_a_batch():
    encoder, waves = tiny(), voice(rows=3)
    torch.testing.assert_close(encoder.embed(waves)[1:2], encoder.embed(waves[1:2]), atol=1e-5, rtol=0)


def test_too_short_a_voice_says_so():
    with pytest.raises(ValueError, match=r"at least 0\.04 s"):
        tiny().embed(voice(0.03))


def test_puppet_is_small():
    encoder = SpeakerEncoder(SpeakerEncoderConfig.puppet())
    assert sum(parameter.numel() for parameter in encoder.parameters()) <= 700_000


def test_config_survives_its_checkpoint(tmp_path):
    encoder = tiny()
    save_component(encoder, tmp_path, dtype=torch.float32)
    again = load_component(SpeakerEncoder, SpeakerEncoderConfig, tmp_path)
    assert again.config == encoder.config
    assert again.embed(voice()).equal(encoder.embed(voice()))


@pytest.mark.long
def test_wavlm_takes_24_khz_and_never_leaves_evaluation_mode():
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
    encoder = SpeakerEncoder(config).train()
    assert encoder.ecapa.training
    assert not any(module.training for module in encoder.front.wavlm.modules())
    assert encoder.eval().embed(voice(rows=2)).shape == (2, 12)


def test_published_names():
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
