"""Sizes of the talker. Every preset is a classmethod, which is the only place for its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from heads.config import TwoDiTHeadsConfig
from heads.layers import ffn_width
from talker.model.defaults import Defaults
from talker.model.layout import Layout
from talker.model.tasks import PUPPET_TASKS, RELEASE_TASKS, Task


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Sizes of a Qwen3 decoder.

    Args:
        vocab: rows of the token embedding.
        width, layers, heads, kv_heads, head_dim, ffn: sizes of the transformer.
        rope_theta: base of the rotary embedding.
        eps: epsilon of the norms.
        max_positions: length of the preallocated key-value cache in tokens, a multiple of 64. Longer requests
            are refused.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    rope_theta: float = 1e6
    eps: float = 1e-6
    max_positions: int = 1024

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} heads cannot share {self.kv_heads} key-value heads evenly: choose a multiple"
            )
        if self.max_positions % 64:
            raise ValueError(f"max_positions must be a multiple of 64, got {self.max_positions}")


@dataclass(frozen=True, kw_only=True)
class PatchEncoderConfig:
    """Sizes of the transformer that encodes a patch as one embedding. Its width is that of the backbone."""

    layers: int
    heads: int
    ffn: int


@dataclass(frozen=True, kw_only=True)
class TalkerConfig:
    """Configuration of the talker's networks and sequences.

    Args:
        patch_frames: frames per patch (P).
        backbone, patch_encoder, heads: sizes of the networks. The heads define the widths of latents and
            global conditions.
        tasks: the tasks; `Task.row` indexes the task embedding.
        layout: positions of tokens and patches.
        defaults: generation settings for these weights.
        architecture: the generator that runs these weights, see `talker.system`.
        forecast: inner width of the auxiliary network that regresses the next patch from the hidden state
            during training; 0: none. Exported weights do not contain it.
        reading: inner width of the alignment head, which predicts the text position of the next slot (see
            `Layout`); 0: none, slots advance by `layout.text_per_patch`. The field keeps this name because
            config files contain it.
    """

    patch_frames: int = 4
    backbone: BackboneConfig
    patch_encoder: PatchEncoderConfig
    heads: TwoDiTHeadsConfig
    tasks: tuple[Task, ...]
    layout: Layout = field(default_factory=Layout)
    forecast: int = 0
    reading: int = 0
    defaults: Defaults = field(default_factory=Defaults)
    architecture: str = "autoregressive"

    def __post_init__(self) -> None:
        if self.architecture != "autoregressive":
            raise ValueError(
                f"architecture {self.architecture!r} is not supported by TalkerConfig: use 'autoregressive'"
            )
        if self.heads.joint and len(self.layout.groups) > 1:
            raise ValueError(
                "a joint head predicts both streams from one hidden state: set layout.arrangement to 'sum'"
            )

    @property
    def widths(self) -> dict[str, int]:
        """Latent channels of each stream."""
        return self.heads.widths

    @property
    def global_widths(self) -> dict[str, int]:
        """Width of each stream's global condition."""
        return self.heads.global_widths

    @property
    def task_rows(self) -> int:
        """Rows of the task embedding."""
        return 1 + max(task.row for task in self.tasks)

    @classmethod
    def tiny(cls) -> TalkerConfig:
        """Small sizes for tests."""
        return cls(
            backbone=BackboneConfig(
                vocab=40, width=64, layers=2, heads=2, kv_heads=1, head_dim=32, ffn=128, max_positions=128
            ),
            patch_encoder=PatchEncoderConfig(layers=1, heads=2, ffn=128),
            heads=TwoDiTHeadsConfig.tiny(hidden_width=64),
            tasks=PUPPET_TASKS,
            layout=Layout(text_per_patch=2.0),
            forecast=64,
            reading=64,
        )

    @classmethod
    def puppet(cls, vocab: int) -> TalkerConfig:
        """The shipped default model. `vocab`: vocabulary size of the phoneme tokenizer."""
        return cls(
            backbone=BackboneConfig(
                vocab=vocab, width=256, layers=6, heads=4, kv_heads=2, head_dim=64, ffn=768, rope_theta=1e4
            ),
            patch_encoder=PatchEncoderConfig(layers=1, heads=4, ffn=512),
            heads=TwoDiTHeadsConfig.puppet(hidden_width=256),
            tasks=PUPPET_TASKS,
            layout=Layout(text_per_patch=2.4),
            forecast=512,
            reading=256,
        )

    @classmethod
    def base(cls) -> TalkerConfig:
        """The published sizes: Qwen3-0.6B, with heads and patch encoders of the same width."""
        return cls(
            backbone=BackboneConfig(
                vocab=151936, width=1024, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=3072
            ),
            patch_encoder=PatchEncoderConfig(layers=4, heads=8, ffn=ffn_width(1024)),
            heads=TwoDiTHeadsConfig.base(),
            tasks=RELEASE_TASKS,
            defaults=Defaults.release(),
        )
