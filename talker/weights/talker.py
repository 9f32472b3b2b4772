"""The published talker's parameter names, and ours.

`language model, projectors, patch encoders, heads, stop predictor, task embedding`: 537 tensors, or 538
where the tied `llm.lm_head.weight` was written too (text logits are never used).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

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

# Names of earlier releases, rewritten to the present ones before anything else.
LEGACY_PREFIXES = {"patch_encoder.": "speech_patch_encoder."}
LEGACY_PARTS = {
    ".first_motion_proj.": ".global_cond_proj.",
    ".spk_proj.": ".global_cond_proj.",
    "patch_encoder.in_proj.": "patch_encoder.input_proj.",
}


def ours(key: str) -> str | None:
    """Our name of an official key; None for one that we do not use.

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
    """The inverse of `ours`; KeyError for a parameter that has no published name."""
    best = max((own for own in PREFIXES.values() if key.startswith(own)), key=len, default=None)
    if best is None:
        raise KeyError(key)
    return next(name for name, own in PREFIXES.items() if own == best) + key.removeprefix(best)


def modern(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of any release under the present official names.

    In speech-only checkpoints, which have no `speech_cfm.`, `motion_cfm.` is the speech head.
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


def renamed(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """An official state dict under our names, and the keys that nobody knows."""
    found, unknown = {}, []
    for key, tensor in modern(tensors).items():
        try:
            own = ours(key)
        except KeyError:
            unknown.append(key)
            continue
        if own is not None:
            found[own] = tensor
    return found, unknown


def published_motion_stats() -> tuple[Tensor, Tensor]:
    """Mean and deviation (40,) of the released system's motion codes."""
    values = json.loads((Path(__file__).parent / "motion_stats.json").read_text())
    return torch.tensor(values["mean"]), torch.tensor(values["std"])
