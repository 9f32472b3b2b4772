"""Parameter names of the published talker.

The file holds the language model, projectors, patch encoders, heads, stop predictor and task embedding: 537
tensors, or 538 with the tied `llm.lm_head.weight` (text logits are not used).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from heads.config import TwoDiTHeadsConfig
from heads.streams import Streams
from talker.model.config import BackboneConfig, PatchEncoderConfig, TalkerConfig
from talker.model.defaults import Defaults
from talker.model.stats import LatentStats
from talker.model.tasks import RELEASE_TASKS

PREFIXES = {
    "llm.model.": "backbone.",
    "projector_speech.linear1.": "patch_encoders.audio.projector.",
    "projector_motion.linear1.": "patch_encoders.motion.projector.",
    "speech_patch_encoder.": "patch_encoders.audio.",
    "motion_patch_encoder.": "patch_encoders.motion.",
    "speech_cfm.estimator.": "heads.audio.",
    "motion_cfm.estimator.": "heads.motion.",
    "head_stop.": "stop_head.",
    "task_embedding.": "task_embedding.",
    "motion_pad_emb": "motion_pad_emb",
}
TIED = "llm.lm_head.weight"
EXCLUDED = ("pretrained_speech_encoder.", "spk.")

# Names of earlier releases -> present official names.
LEGACY_PREFIXES = {"patch_encoder.": "speech_patch_encoder."}
LEGACY_PARTS = {
    ".first_motion_proj.": ".global_cond_proj.",
    ".spk_proj.": ".global_cond_proj.",
    "patch_encoder.in_proj.": "patch_encoder.input_proj.",
}


def native_key(key: str) -> str | None:
    """The native key of an official key; None if the tensor is not used.

    Raises:
        KeyError: the key is not part of the published talker.
    """
    if key == TIED or key.startswith(EXCLUDED):
        return None
    for official, own in PREFIXES.items():
        if key.startswith(official):
            return own + key.removeprefix(official)
    raise KeyError(key)


def official(key: str) -> str:
    """The official key of a native key: the inverse of `native_key`.

    Raises:
        KeyError: the published talker has no such parameter.
    """
    best = max((own for own in PREFIXES.values() if key.startswith(own)), key=len, default=None)
    if best is None:
        raise KeyError(key)
    return next(name for name, own in PREFIXES.items() if own == best) + key.removeprefix(best)


def modern(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an earlier release to the present official names.

    Speech-only checkpoints have no `speech_cfm.`; their `motion_cfm.` is the speech head.
    """
    speech_only = not any(key.startswith("speech_cfm.") for key in tensors)
    found = {}
    for key, tensor in tensors.items():
        for old, new in LEGACY_PREFIXES.items():
            if key.startswith(old):
                key = new + key.removeprefix(old)
        for old, new in LEGACY_PARTS.items():
            key = key.replace(old, new)
        if speech_only and key.startswith("motion_cfm."):
            key = "speech_cfm." + key.removeprefix("motion_cfm.")
        found[key] = tensor
    return found


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> TalkerConfig:
    """Infer the config of an official file from the shapes of its tensors, by present official names.

    Layout, tasks and defaults are the published ones.
    """

    def layers(pattern: str) -> int:
        found = [re.match(pattern + r"\.(\d+)\.", key) for key in shapes]
        return 1 + max(int(match[1]) for match in found if match)

    def heads(part: str, width: int) -> int:
        return width // (2 * shapes[f"{part}.rope.w"][1])

    first = "llm.model.layers.0"
    vocab, width = shapes["llm.model.embed_tokens.weight"]
    head = shapes[f"{first}.self_attn.q_norm.weight"][0]
    decoder = "speech_cfm.estimator.decoder"
    dit = {
        "layers": layers(re.escape(decoder) + r"\.blocks"),
        "heads": heads(decoder, width),
        "ffn": shapes[f"{decoder}.blocks.0.mlp.fc1.weight"][0],
    }
    channels = {
        name: shapes[f"{part}_cfm.estimator.{kind}.weight"][1]
        for part in ("speech", "motion")
        for name, kind in ((part, "in_proj"), (f"{part}_global", "global_cond_proj"))
    }
    return TalkerConfig(
        backbone=BackboneConfig(
            vocab=vocab,
            width=width,
            layers=layers(r"llm\.model\.layers"),
            heads=shapes[f"{first}.self_attn.q_proj.weight"][0] // head,
            kv_heads=shapes[f"{first}.self_attn.k_proj.weight"][0] // head,
            head_dim=head,
            ffn=shapes[f"{first}.mlp.gate_proj.weight"][0],
        ),
        patch_encoder=PatchEncoderConfig(
            layers=layers(r"speech_patch_encoder\.blocks"),
            heads=heads("speech_patch_encoder", width),
            ffn=shapes["speech_patch_encoder.blocks.0.mlp.fc1.weight"][0],
        ),
        heads=TwoDiTHeadsConfig.both(
            audio=(channels["speech"], channels["speech_global"]),
            motion=(channels["motion"], channels["motion_global"]),
            hidden_width=width,
            width=width,
            **dit,
        ),
        tasks=RELEASE_TASKS,
        defaults=Defaults.release(),
    )


def from_official(state: Mapping[str, Tensor]) -> tuple[TalkerConfig, dict[str, Tensor]]:
    """Convert an official state dict of any release to a config and a native state dict.

    Raises:
        ValueError: keys are missing or unknown. It lists some of them.
    """
    present = {key: x for key, x in modern(state).items() if key != TIED and not key.startswith(EXCLUDED)}
    unknown = sorted(key for key in present if not key.startswith(tuple(PREFIXES)))
    missing = sorted(part for part in PREFIXES if not any(key.startswith(part) for key in present))
    if unknown or missing:
        raise ValueError(f"not a published talker: missing {missing[:6]}, unknown {unknown[:6]}")
    config = infer_config({key: tuple(x.shape) for key, x in present.items()})
    found = {str(native_key(key)): tensor for key, tensor in present.items()}
    stats = LatentStats(*config.widths.values())
    mean, std = published_motion_stats()
    if config.widths["motion"] == len(mean):
        stats.set(Streams(motion=mean), Streams(motion=std))
    return config, found | {f"stats.{key}": x for key, x in stats.state_dict().items()}


def published_motion_stats() -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (40,) of the motion codes of the released system."""
    values = json.loads((Path(__file__).parent / "motion_stats.json").read_text())
    return torch.tensor(values["mean"]), torch.tensor(values["std"])
