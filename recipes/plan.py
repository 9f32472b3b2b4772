"""Print what a training of the talker needs: parameters, memory for each ZeRO stage, tokens, FLOPs.

    python -m recipes.plan release [--set batch.micro=120] [--ranks 8] [--seconds 10] [--text 120]

Weights, gradients and the two moments of AdamW are float32: 16 bytes a parameter, divided among the ranks
according to the stage. The average takes 4 more. The memory of activations is estimated.
"""

from __future__ import annotations

import argparse
import math

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.plan")

import torch

from heads.config import DiTConfig
from recipes.configs.override import override
from recipes.configs.talker import PRESETS, TalkerRun
from talker.clock import FRAME_RATE
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.model.training_batch import TrainingBatch

FLOAT_BYTES = 4


def parameters(config: TalkerConfig) -> dict[str, int]:
    """Return the number of parameters of each part of the model, without allocating them."""
    with torch.device("meta"):
        model = TalkerModel(config)
    found = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    found["motion_pad_emb"] = model.motion_pad_emb.numel()
    return {name: count for name, count in found.items() if count}


def _blocks(layers: int, width: int, ffn: int, tokens: float, context: float) -> float:
    """Return the FLOPs of `tokens` tokens through blocks of SwiGLU and of attention to `context` tokens."""
    return layers * tokens * (2 * (4 * width**2 + 3 * width * ffn) + 4 * context * width)


def forward_flops(
    config: TalkerConfig, rows: int, length: int, patches: int, predicted: dict[str, int]
) -> float:
    """Return the FLOPs of a forward pass, without embeddings, norms and the small heads.

    Args:
        config: the model.
        rows: sequences.
        length: tokens in each, padding included.
        patches: patches that the patch encoders encode.
        predicted: patches that each head predicts, repeats included, by stream.
    """
    backbone, encoder, frames = config.backbone, config.patch_encoder, config.patch_frames
    attention = backbone.head_dim * (2 * backbone.heads + 2 * backbone.kv_heads)
    matrices = backbone.width * (attention + 3 * backbone.ffn)
    scores = 4 * backbone.heads * backbone.head_dim * length / 2  # the causal mask leaves half
    total = rows * length * backbone.layers * (2 * matrices + scores)
    total += _blocks(encoder.layers, backbone.width, encoder.ffn, patches * (frames + 1), frames + 1)
    for name, count in predicted.items():
        head = getattr(config.heads, name)
        assert isinstance(head, DiTConfig)
        tokens = 2 + 2 * frames
        total += _blocks(head.layers, head.width, head.ffn, count * tokens, tokens)
    return total


def step_flops(config: TalkerConfig, batch: TrainingBatch, repeat: int) -> float:
    """Return the FLOPs of a batch forward and backward, without what gradient checkpointing recomputes."""
    encoded = sum(int(mask.sum()) for _, mask in batch.encoded.items())
    predicted = {name: repeat * int(mask.sum()) for name, mask in batch.predicted.items()}
    rows, length = batch.tokens.shape
    return 3 * forward_flops(config, rows, length, encoded, predicted)


def memory_per_rank(count: int, stage: int, ranks: int) -> dict[str, float]:
    """Return the bytes that each of `ranks` processes holds for `count` parameters at a ZeRO stage."""
    whole = count * FLOAT_BYTES
    return {
        "weights": whole / (ranks if stage >= 3 else 1),
        "gradients": whole / (ranks if stage >= 2 else 1),
        "optimiser": 2 * whole / (ranks if stage >= 1 else 1),
        # ZeRO holds float32 master weights besides the float32 weights.
        "masters": whole / ranks if stage else 0.0,
        "average": float(whole),
    }


def activations(run: TalkerRun, rows: int, length: int, patches: int) -> float:
    """Return the estimated bytes that the backward pass needs: the inputs of matrix products.

    Args:
        run: the config.
        rows: clips in a forward pass.
        length: tokens of each.
        patches: patches of each.
    """
    config = run.model
    value = 2 if run.precision == "bfloat16" else 4
    backbone = config.backbone
    layer = 8 * backbone.width + 4 * backbone.ffn + 2 * backbone.heads * length
    layers = backbone.width * backbone.layers + layer if run.recompute else layer * backbone.layers
    total = float(rows * length * layers * value)
    tokens = rows * patches * run.batch.repeat * (2 + 2 * config.patch_frames)
    for head in (config.heads.audio, config.heads.motion):
        assert head is not None
        total += tokens * head.layers * (8 * head.width + 4 * head.ffn) * value
    return total


def plan(run: TalkerRun, ranks: int, seconds: float, text: int) -> list[str]:
    """Return the lines to print, for `ranks` processes and clips of `seconds` seconds with `text` tokens."""
    config = run.model
    parts = parameters(config)
    count = sum(parts.values())
    patches = math.ceil(seconds * FRAME_RATE / config.patch_frames)
    length = 1 + text + patches
    rows = run.batch.rows
    repeated = rows * patches * run.batch.repeat
    predicted = {"audio": repeated, "motion": round(repeated * (1 - run.mix.tts))}
    flops = 3 * forward_flops(config, rows, length, 2 * rows * patches, predicted)
    lines = [f"{name:16} {size / 1e6:10.2f} M parameters" for name, size in parts.items()]
    lines.append(f"{'all':16} {count / 1e6:10.2f} M")
    lines.append("")
    lines.append(f"GiB on each of {ranks} rank(s), without activations:")
    for stage in range(4):
        held = memory_per_rank(count, stage, ranks)
        details = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in held.items() if size)
        mark = "  <- this config" if stage == run.zero else ""
        lines.append(f"  ZeRO-{stage}  {sum(held.values()) / 2**30:7.2f}  ({details}){mark}")
    passes = run.passes(ranks, seconds)
    together = math.ceil(rows / (passes * ranks))
    lines.append(
        f"activations of {together} clips of {seconds:g} s in one pass: about "
        f"{activations(run, together, length, patches) / 2**30:.2f} GiB"
    )
    lines.append("")
    lines.append(
        f"a step: {rows} clips in {passes} passes a rank, {rows * length:,} tokens, {flops / 1e12:.4g} TFLOP"
    )
    lines.append(
        f"{run.steps:,} steps: {run.steps * rows * length / 1e9:.3g} G tokens, "
        f"{run.steps * rows * seconds / 3600:,.0f} hours of clips, {run.steps * flops / 1e18:.3g} EFLOP"
    )
    return lines


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", choices=PRESETS)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change one value of the config"
    )
    parser.add_argument("--ranks", type=int, default=1, help="number of processes")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a typical clip")
    parser.add_argument("--text", type=int, default=80, help="text tokens of a typical clip")
    options = parser.parse_args()
    try:
        if options.ranks < 1 or not options.seconds > 0 or options.text < 0:
            raise ValueError("--ranks must be 1 or more, --seconds above 0, --text 0 or more")
        run = override(PRESETS[options.config](), options.set)
        print("\n".join(plan(run, options.ranks, options.seconds, options.text)))
    except ValueError as error:
        raise SystemExit(f"plan: {error}") from error


if __name__ == "__main__":
    main()
