"""Synthetic weights and images of the recorded runs, as functions of a key, a shape and a seed.

`draw` takes standard normal numbers from numpy's legacy generator (fixed across versions), seeded with the
CRC-32 of "seed:key", applies the rule of the key in float64 and rounds to float32. `rule_of` returns
the rule of an official checkpoint key.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

COMPUTED = "computed"
Scale = Callable[[np.ndarray, Sequence[int]], np.ndarray]
RULES: dict[str, Scale] = {
    "linear": lambda n, shape: 0.7 * n / math.sqrt(max(1, math.prod(shape[1:]))),
    "unit": lambda n, shape: n,
    "unit_small": lambda n, shape: 0.1 * n,
    "token": lambda n, shape: 0.5 * n,
    "norm": lambda n, shape: 1.0 + 0.1 * n,
    "bias": lambda n, shape: 0.02 * n,
    "mean": lambda n, shape: 0.1 * n,
    "positive": lambda n, shape: np.exp(0.2 * n),
    "wn_g": lambda n, shape: 0.76 * np.exp(0.1 * n),
    "gamma": lambda n, shape: 0.3 * n,
}

# (endings, rule): the first match counts. Keys of the LIA-X renderer use _RENDERER, all others _OTHERS.
_COMPUTED = ("rope.w", ".kernel", "semantic_model.encoder.positional_embedding", "num_batches_tracked")
_ENDINGS = (
    (_COMPUTED, COMPUTED),
    ((".alpha", "running_var"), "positive"),
    (("running_mean",), "mean"),
    ((".weight_g",), "wn_g"),
    ((".weight_v",), "unit"),
)
_RENDERER = (
    (("modulation.bias",), "norm"),
    ((".bias",), "bias"),
    ((".gamma",), "gamma"),
    ((".norm.weight",), "norm"),
)
_OTHERS = (
    (("cls_token", "motion_pad_emb"), "token"),
    (("embed_tokens.weight", "lm_head.weight", "token_embedding.weight", "task_embedding.weight"), "unit"),
    (("positional_embedding", "feature_weight"), "unit"),
    ((".bias",), "bias"),
)


def rule_of(key: str, shape: Sequence[int]) -> str:
    """The name of the rule of an official checkpoint key: a key of RULES, or COMPUTED."""
    renderer = key.startswith(("enc.", "dec."))
    for endings, rule in _ENDINGS + (_RENDERER if renderer else _OTHERS):
        if key.endswith(endings):
            return rule
    if renderer:
        small = (".flow" in key and key.endswith(".conv.weight")) or (
            ".rgb" in key and key.endswith(".conv.0.weight")
        )
        return "unit_small" if small else "unit"
    return "norm" if len(shape) == 1 else "linear"


def _generator(text: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(text.encode()))


def draw(key: str, shape: Sequence[int], seed: int, rule: str | None = None) -> Tensor:
    """The float32 tensor of one official key. `rule` None: derive the rule from the key."""
    normal = _generator(f"{seed}:{key}").standard_normal(tuple(shape))
    values = RULES[rule or rule_of(key, shape)](normal, shape)
    return torch.from_numpy(np.array(values, dtype=np.float32))


def draw_all(manifest: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, Tensor]:
    """Tensors by official key, without those whose rule is COMPUTED. Tied keys share one tensor."""
    tensors: dict[str, Tensor] = {}
    for key, entry in manifest.items():
        source = entry.get("tied_to", key)
        rule = entry.get("rule", "auto")
        rule = rule_of(source, entry["shape"]) if rule == "auto" else rule
        if rule == COMPUTED:
            continue
        tensors[key] = tensors[source] if source in tensors else draw(source, entry["shape"], seed, rule)
    return tensors


def image(seed: int, size: int = 512) -> Tensor:
    """A smooth image (3, size, size) in (-1, 1): a soft disc and twelve plane waves in each channel."""
    random = _generator(f"image:{seed}")
    axis = (np.arange(size) + 0.5) / size
    y, x = axis[:, None], axis[None, :]
    centre_y, centre_x = random.uniform(0.35, 0.65), random.uniform(0.35, 0.65)
    radius = random.uniform(0.2, 0.3)
    distance = np.sqrt((y - centre_y) ** 2 + (x - centre_x) ** 2)
    disc = 1.0 / (1.0 + np.exp((distance - radius) * 40.0))
    channels = []
    for _ in range(3):
        total = random.uniform(-1.0, 1.0) * disc
        for _ in range(12):
            cycles_y, cycles_x = random.uniform(-6.0, 6.0, size=2)
            phase, height = random.uniform(0.0, 2 * math.pi), random.uniform(0.05, 0.35)
            total = total + height * np.sin(2 * math.pi * (cycles_y * y + cycles_x * x) + phase)
        channels.append(np.tanh(total))
    return torch.from_numpy(np.stack(channels).astype(np.float32))
