"""Reduced copies of the recorded fixtures: the files in `tests/parity/recorded`.

    PYTHONPATH=.:tests python -m parity.reduce ../shared/parity tests/parity/recorded

A reduced copy holds a part of the tensors of a fixture, bit for bit; it contains no number that our own code
computed. Its metadata has two more entries:

- `reduced`: true. `Fixture.close` skips the outputs that the copy does not contain.
- `compared`: output name -> slices [start, stop, step], one per dimension. `Fixture.close` takes this part of
  what our code computes before it compares.

To keep the copies small, the metadata is compressed and the manifest contains only shapes: the rule of a
synthetic weight follows from its key (`weights.rule_of`). Integers are stored as int16.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Part = tuple[slice, ...]
ALL = slice(None)
_HALF, _FOURTH = slice(None, None, 2), slice(None, None, 4)
_RENDERS = ("out/render_absolute_crops", "out/render_relative_crops")


@dataclass(frozen=True)
class Reduction:
    """What a reduced copy contains.

    Args:
        drop: names of tensors that are left out.
        inputs: input -> the part that is kept.
        outputs: output -> the part that is kept. Our code computes the whole output.
        shifted: output -> (kept part of the recording, the same part of what our code computes from the
            reduced inputs).
        config: entries of `config` to replace.
    """

    drop: tuple[str, ...] = ()
    inputs: dict[str, Part] = field(default_factory=dict)
    outputs: dict[str, Part] = field(default_factory=dict)
    shifted: dict[str, tuple[Part, Part]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def first(count: int, dim: int = 0) -> Part:
    """The part of the first `count` entries of dimension `dim`."""
    return (ALL,) * dim + (slice(count),)


def every(step: int, dim: int) -> Part:
    """The part of every `step`-th entry of dimension `dim`."""
    return (ALL,) * dim + (slice(None, None, step),)


REDUCTIONS: dict[str, Reduction] = {
    "patch_encoder": Reduction(),
    "dit_head": Reduction(),
    "cfm_sample": Reduction(drop=("out/base/velocity_calls", "out/base/x_calls")),
    "cfm_loss": Reduction(
        drop=(
            *("in/draw_cond_noise", "in/draw_noisy_uniform", "in/draw_r_normal", "in/draw_ratio_uniform"),
            *("out/cond_used", "out/mu_used", "out/x_t", "out/velocity_target"),
        )
    ),
    "stop_labels": Reduction(),
    "talker_step": Reduction(
        outputs={"out/hidden_0": every(8, 2), "out/hidden_1": every(4, 2), "out/hidden_2": every(4, 2)}
    ),
    "talker_continuation": Reduction(
        drop=("out/motion_cond", "out/speech_cond", "out/decoded_latents"),
        inputs={
            **{name: first(12) for name in ("in/noise_motion", "in/noise_speech", "in/motion_normalized")},
            "in/speech_latent": first(12, 1),
        },
        outputs={
            **{f"out/{name}": every(8, 2) for name in ("prefill_embeds", "next_token_embeds")},
            **{f"out/{name}": every(2, 2) for name in ("motion_latents", "speech_latents")},
            **{f"out/{name}": every(8, 1) for name in ("motion_raw", "hidden")},
        },
    ),
    "train_forward_delay": Reduction(
        drop=(
            *("in/draw_motion_noisy_uniform", "in/draw_speech_noisy_uniform"),
            *("out/motion_cond", "out/motion_target", "out/speech_cond", "out/speech_target"),
            *("out/motion_global_cond", "out/speech_global_cond", "out/motion_mu", "out/speech_mu"),
        ),
        outputs={f"out/{name}": every(16, 2) for name in ("hidden", "inputs_embeds")},
    ),
    "audio_frontend": Reduction(
        drop=("in/wav24k", "out/wav16k", "out/log_mel_head", "out/log_mel_tail"),
        inputs={"in/wav44k": first(441, 1), "in/wav16k_src": first(160, 1)},
        shifted={
            "out/wav44k_to_16k": (first(130, 1),) * 2,
            "out/wav44k_to_24k": (first(200, 1),) * 2,
            "out/wav16k_to_24k": (first(200, 1),) * 2,
        },
    ),
    "audio_vae": Reduction(
        drop=(
            *("in/wav", "in/log_mel_head", "in/log_mel_tail", "in/log_mel_head_odd", "in/log_mel_tail_odd"),
            *("out/acoustic", "out/latent", "out/decoded", "out/semantic_50hz_head"),
        ),
        outputs={"out/decoded_random": every(8, 2), "out/acoustic_odd": every(4, 1)},
    ),
    "lia_x_ops": Reduction(
        inputs={"in/x_gn": first(1)},
        outputs={
            **{f"out/{name}": every(4, 1) for name in ("conv_same", "dec_res", "styled")},
            **{f"out/{name}": every(4, 1) for name in ("flow_hidden", "flow_warped")},
            **{f"out/{name}": every(4, 1) for name in ("flow_noskip_hidden", "flow_noskip_warped")},
            **{f"out/{name}": (ALL, _FOURTH, _HALF, _HALF) for name in ("conv_up", "styled_up")},
        },
        shifted={"out/flow_res": ((slice(1), _FOURTH), (ALL, _FOURTH))},
    ),
    "lia_x": Reduction(
        drop=("out/render_absolute_pool4", "out/render_relative_pool4", "out/direction_basis"),
        outputs={
            "out/direction": every(16, 1),
            "out/z": every(16, 1),
            **{name: (slice(1), slice(4, None), ALL, _HALF, _HALF) for name in _RENDERS},
        },
    ),
    "speaker_wavlm": Reduction(
        drop=(
            *("in/wav_2s", "out/embedding_2s", "out/head_input_2s"),
            *("out/hidden_states_2s", "out/projected_2s"),
        ),
        outputs={"out/hidden_states_0p7s": every(8, 3), "out/projected_0p7s": every(8, 2)}
        | {"out/head_input_0p7s": every(8, 1)},
        config={"waves": {"0p7s": [1, 11200]}},
    ),
}
"""Fixture -> what its reduced copy contains; the others have none."""


def _triples(part: Part) -> list[list[int | None]]:
    return [[one.start, one.stop, one.step] for one in part]


def reduce(source: Path, target: Path) -> None:
    """Write the reduced copy of one fixture file."""
    plan = REDUCTIONS[source.stem]
    with safe_open(source, "pt") as file:
        meta = json.loads(file.metadata()["parity"])
        recorded = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    parts = plan.inputs | plan.outputs | {name: kept for name, (kept, _) in plan.shifted.items()}
    unknown = (parts.keys() | set(plan.drop)) - recorded.keys()
    if unknown:
        raise ValueError(f"{source} has no tensors {sorted(unknown)}")
    tensors = {}
    for name, tensor in recorded.items():
        if name in plan.drop:
            continue
        kept = tensor[parts.get(name, ())].contiguous().clone()
        tensors[name] = kept if kept.is_floating_point() else kept.to(torch.int16)
    compared = plan.outputs | {name: own for name, (_, own) in plan.shifted.items()}
    meta["reduced"] = True
    meta["compared"] = {name.removeprefix("out/"): _triples(part) for name, part in compared.items()}
    meta["config"] |= plan.config
    meta["manifest"] = {
        key: {name: entry[name] for name in ("shape", "tied_to") if name in entry}
        for key, entry in meta["manifest"].items()
    }
    for unused in ("call", "float64_max_abs_error"):
        meta.pop(unused, None)
    text = base64.b85encode(zlib.compress(json.dumps(meta, sort_keys=True).encode(), 9)).decode()
    save_file(tensors, target, {"parity.zlib": text})


def main() -> None:
    source, target = (Path(argument) for argument in sys.argv[1:3])
    target.mkdir(exist_ok=True)
    for name in REDUCTIONS:
        reduce(source / f"{name}.safetensors", target / f"{name}.safetensors")
    total = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    print(f"{len(REDUCTIONS)} files, {total:,} bytes")


if __name__ == "__main__":
    main()
