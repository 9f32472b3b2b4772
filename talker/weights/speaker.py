"""Parameter names of the published speaker encoder (key `model` in `wavlm_large_finetune.pth`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from talker.speaker.encoder import SpeakerEncoderConfig, WavLMSizes

PARTS: tuple[str, ...] = (
    *("feature_weight", "feature_extract.model.", "layer1.", "layer2.", "layer3.", "layer4."),
    *("conv.", "pooling.", "bn.", "linear."),
)
"""Prefixes of the parameters of the encoder. Other parameters are ignored."""

# Parameters that inference does not use: the mask of SpecAugment and the classifier of the training.
UNUSED = ("feature_extract.model.mask_emb", "loss_calculator.")

_RENAMES = (
    (r"^feature_weight$", "front.mixture.weight"),
    (r"^feature_extract\.model\.", "front.wavlm."),
    (r"(conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"(conv_layers\.\d+)\.2\.1\.", r"\1.layer_norm."),
    (r"wavlm\.layer_norm\.", "wavlm.feature_projection.layer_norm."),
    (r"post_extract_proj\.", "feature_projection.projection."),
    (r"pos_conv\.0\.weight_g", "pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"pos_conv\.0\.weight_v", "pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"pos_conv\.0\.", "pos_conv_embed.conv."),
    (r"self_attn_layer_norm\.", "layer_norm."),
    (r"self_attn\.relative_attention_bias\.", "attention.rel_attn_embed."),
    (r"self_attn\.grep_linear\.", "attention.gru_rel_pos_linear."),
    (r"self_attn\.grep_a$", "attention.gru_rel_pos_const"),
    (r"self_attn\.", "attention."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
    (r"^layer1\.", "ecapa.entry."),
    (r"^layer([234])\.", lambda found: f"ecapa.blocks.{int(found[1]) - 2}."),
    (r"\.Conv1dReluBn1\.", ".before."),
    (r"\.Res2Conv1dReluBn\.", ".scales."),
    (r"\.Conv1dReluBn2\.", ".after."),
    (r"\.SE_Connect\.", ".gate."),
    (r"^conv\.", "ecapa.merge."),
    (r"^pooling\.", "ecapa.pooling."),
    (r"^bn\.", "ecapa.norm."),
    (r"^linear\.", "ecapa.projection."),
)


def rename(key: str) -> str | None:
    """The native key of a published key; None if the tensor is not used."""
    if key.startswith(UNUSED):
        return None
    for pattern, name in _RENAMES:
        key = re.sub(pattern, name, key)  # type: ignore[arg-type]
    return key


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> SpeakerEncoderConfig:
    """Infer the config of a published file from the shapes of its tensors.

    Shapes do not show the strides and the range of the position bias, so the published values are used.

    Raises:
        ValueError: a tensor that is needed to infer a size is missing.
    """
    stem, published = "feature_extract.model.", WavLMSizes()
    try:
        convolutions: list[tuple[int, int, int]] = []
        while (key := f"{stem}feature_extractor.conv_layers.{len(convolutions)}.0.weight") in shapes:
            stride = published.conv[len(convolutions)][2]
            convolutions.append((shapes[key][0], shapes[key][2], stride))
        positions = shapes[f"{stem}encoder.pos_conv.0.weight_v"]
        buckets, heads = shapes[f"{stem}encoder.layers.0.self_attn.relative_attention_bias.weight"]
        wavlm = WavLMSizes(
            layers=shapes["feature_weight"][0] - 1,
            width=positions[0],
            heads=heads,
            ffn=shapes[f"{stem}encoder.layers.0.fc1.weight"][0],
            conv=tuple(convolutions),
            position_kernel=positions[2],
            position_groups=positions[0] // positions[1],
            buckets=buckets,
        )
        return SpeakerEncoderConfig(
            sample_rate=16_000,
            channels=shapes["layer1.conv.weight"][0],
            merged=shapes["conv.weight"][0],
            bottleneck=shapes["pooling.linear1.weight"][0],
            embedding=shapes["linear.weight"][0],
            normalise=False,
            wavlm=wavlm,
        )
    except (KeyError, IndexError) as error:
        raise ValueError(f"{error} is missing: give the published file wavlm_large_finetune.pth") from error


def from_official(state: Mapping[str, Tensor]) -> tuple[SpeakerEncoderConfig, dict[str, Tensor]]:
    """Convert a published state dict (entry `model` of the file) to a config and a native state dict.

    The counters of the batch norms may be absent, because inference does not use them.

    Raises:
        ValueError: a tensor that is needed to infer a size is missing.
    """
    config = infer_config({key: tuple(tensor.shape) for key, tensor in state.items()})
    native = {rename(key): tensor for key, tensor in state.items() if key.startswith(PARTS)}
    found = {key: tensor for key, tensor in native.items() if key is not None}
    for key in [key for key in found if key.endswith("running_var")]:
        found.setdefault(key.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    return config, found
