"""Names in the published speaker checkpoint (`wavlm_large_finetune.pth`, below its key `model`) and ours."""

from __future__ import annotations

import re

# Stored, and not part of the function: SpecAugment's mask and the training classifier.
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
    """Our name for a published key; None where the tensor is not used."""
    if key.startswith(UNUSED):
        return None
    for pattern, name in _RENAMES:
        key = re.sub(pattern, name, key)  # type: ignore[arg-type]
    return key
