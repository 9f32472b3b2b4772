"""The speaker encoder: the ECAPA-TDNN head, and the whole encoder from waveform to embedding."""

from __future__ import annotations

import re

import torch

from parity import weights
from parity.harness import Fixture, fixtures
from talker.speaker.ecapa import Ecapa
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig, StateMixture, WavLMSizes
from talker.weights.speaker import rename


def head_sizes(case: Fixture) -> dict[str, int]:
    """Sizes of the ECAPA-TDNN head, from the shapes of its tensors."""
    shape = {key: entry["shape"] for key, entry in case.manifest.items()}
    return {
        "channels": shape["layer1.conv.weight"][0],
        "merged": shape["conv.weight"][0],
        "bottleneck": shape["pooling.linear1.weight"][0],
        "embedding": shape["linear.weight"][0],
    }


def wavlm_sizes(original: dict) -> WavLMSizes:
    """Sizes from a configuration of the original code, where a Python expression lists the convolutions."""
    conv: list[tuple[int, int, int]] = []
    for some, times in re.findall(r"\[(.*?)\](?: *\* *(\d+))?", original["conv_feature_layers"]):
        numbers = [int(number) for number in re.findall(r"\d+", some)]
        triples = list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
        conv += triples * int(times or 1)
    return WavLMSizes(
        layers=original["encoder_layers"],
        width=original["encoder_embed_dim"],
        heads=original["encoder_attention_heads"],
        ffn=original["encoder_ffn_embed_dim"],
        conv=tuple(conv),
        position_kernel=original["conv_pos"],
        position_groups=original["conv_pos_groups"],
        buckets=original["num_buckets"],
        max_distance=original["max_distance"],
    )


@fixtures("ecapa")
@torch.no_grad()
def test_head_computes_the_recorded_embedding(case: Fixture) -> None:
    features = case.inputs["features"]
    head = Ecapa(features=features.shape[1], **head_sizes(case))
    case.load(head, lambda key: None if key == "feature_weight" else rename(key).removeprefix("ecapa."))
    case.close("embedding_from_features", head(features), 1e-5)

    layers, width = case.manifest["feature_weight"]["shape"][0], features.shape[1]
    mixture = StateMixture(layers)
    mixture.weight.copy_(weights.draw("feature_weight", (layers,), case.seed))
    batch = case.expected["embedding_from_hidden_states"].shape[0]
    shape = (layers, batch, case.config["hs_frames"], width)
    states = weights.draw("hidden_states", shape, case.config["hs_seed"], "unit")
    features = mixture(states)
    case.close("hidden_states_features", features, 1e-5)
    case.close("embedding_from_hidden_states", head(features), 1e-5)


@fixtures("speaker_wavlm")
@torch.no_grad()
def test_encoder_computes_the_recorded_hidden_states_and_embedding(case: Fixture) -> None:
    config = SpeakerEncoderConfig(
        sample_rate=case.config["sample_rate"],
        normalise=False,
        wavlm=wavlm_sizes(case.config["wavlm"]),
        **head_sizes(case),
    )
    encoder = case.load(SpeakerEncoder(config), rename)
    projected: list[torch.Tensor] = []
    projection = encoder.front.wavlm.feature_projection
    projection.register_forward_hook(lambda _, __, out: projected.append(out[0]))
    for name in case.config["waves"]:
        projected.clear()
        wave = case.inputs[f"wav_{name}"]
        states = encoder.front.hidden_states(wave)
        case.close(f"projected_{name}", projected[0], 5e-5)
        case.close(f"hidden_states_{name}", states, 5e-5)
        case.close(f"head_input_{name}", encoder.front(wave), 5e-5)
        case.close(f"embedding_{name}", encoder(wave), 1e-5)
