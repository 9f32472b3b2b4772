"""Where every token and patch sits. Pure data: training and generation both ask here.

    sum   [task] [text ...] [a0 + m0] [a1 + m1] ...           one token a slot, as published
    av    [task] [text ...] [a0] [m0] [a1] [m1] ...           the literature's interleaving: audio first
    va    [task] [text ...] [m0] [a0] [m1] [a1] ...           its mirror

A slot holds patch j of audio and patch j - delay of motion (delay < 0: motion leads). Each patch is predicted
from the position just before its own, the first from the end of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from talker.clock import FRAME_RATE

IGNORED = -100
LONGEST_LABELLED = 187
ARRANGEMENTS = {
    "sum": (("audio", "motion"),),
    "av": (("audio",), ("motion",)),
    "va": (("motion",), ("audio",)),
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The rules of a sequence.

    Args:
        arrangement: "sum", "av" or "va", see above.
        task_token: "prepend": a position of its own before the text, as the weights were trained;
            "first_patch": added to the token of the first prefix patch, as the released command does
            (nowhere without a prefix).
        text_per_patch: text tokens spoken during an average patch. Slot s is then rotated as if it sat at
            text token `text_per_patch` * s, so that a patch and its sound share one axis and the model
            only learns how far a voice departs from the average. 0: plain consecutive positions, as
            published. It is a constant because while generating neither the duration nor the voice's rate
            is known.
    """

    arrangement: str = "sum"
    task_token: str = "prepend"
    text_per_patch: float = 0.0

    def __post_init__(self) -> None:
        if self.arrangement not in ARRANGEMENTS:
            raise ValueError(f"arrangement {self.arrangement!r}; choose one of {', '.join(ARRANGEMENTS)}")
        if self.task_token not in ("prepend", "first_patch"):
            raise ValueError(f"task_token {self.task_token!r}; choose prepend or first_patch")

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The streams that each position of a slot holds, in order."""
        return ARRANGEMENTS[self.arrangement]

    def plan(self, text: int, delay: int) -> Plan:
        """The plan of a sequence with `text` text tokens and a signed delay of motion, in patches."""
        return Plan(layout=self, text=text, delay=delay)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The positions of one sequence."""

    layout: Layout
    text: int
    delay: int

    @property
    def text_start(self) -> int:
        """Position of the first text token."""
        return 1 if self.layout.task_token == "prepend" else 0

    @property
    def start(self) -> int:
        """Position of the first slot."""
        return self.text_start + self.text

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """See `Layout.groups`."""
        return self.layout.groups

    @property
    def stride(self) -> int:
        """Positions a slot takes."""
        return len(self.groups)

    def shift(self, stream: str) -> int:
        """Slots by which a stream starts late."""
        return max(0, self.delay if stream == "motion" else -self.delay)

    def patch(self, stream: str, slot: int) -> int:
        """The patch of `stream` in `slot`; negative before its first."""
        return slot - self.shift(stream)

    def slots(self, patches: dict[str, int]) -> int:
        """Slots that hold so many patches of each stream; absent streams (0 patches) need none."""
        return max((n + self.shift(name) for name, n in patches.items() if n), default=0)

    def token(self, stream: str, slot: int) -> int:
        """Position of the token of `stream` in `slot`."""
        offset = next(i for i, group in enumerate(self.groups) if stream in group)
        return self.start + slot * self.stride + offset

    def source(self, stream: str, slot: int) -> int:
        """Position whose hidden state predicts that patch."""
        return self.token(stream, slot) - 1

    def last(self, slot: int) -> int:
        """Position of a slot's last token, where the stop predictor is asked; slot -1: end of the text."""
        return self.start + (slot + 1) * self.stride - 1

    def length(self, slots: int) -> int:
        """Tokens of a sequence with so many slots."""
        return self.start + slots * self.stride

    def rotated_at(self, read: Tensor) -> Tensor:
        """Rotary position of a slot at whose end `read` text tokens have been spoken."""
        return self.text_start + read

    def rotary_of(self, position: int) -> float:
        """The position by which one token is rotated; the same float32 number as `rotary` has."""
        ratio = self.layout.text_per_patch
        if not ratio or position < self.start:
            return float(position)
        slot = np.float32(position - self.start) * np.float32(ratio / self.stride)
        return float(np.float32(self.text_start) + slot)

    def rotary(self, length: int) -> Tensor:
        """(length,) float32: the position by which each token is rotated."""
        at = torch.arange(length, dtype=torch.float32)
        ratio = self.layout.text_per_patch
        if not ratio:
            return at
        stretched = self.text_start + (at - self.start) * (ratio / self.stride)
        return torch.where(at < self.start, at, stretched)


def stop_ignored(patch_frames: int, frame_rate: int = FRAME_RATE) -> int:
    """Positions before the last that carry no stop label: about 0.3 s (DiTAR; the release's rounding)."""
    return max(1, round(0.3 * frame_rate / patch_frames))


def stop_labels(start: Tensor, length: Tensor, total: int, ignored: int) -> tuple[Tensor, Tensor]:
    """Stop labels of spans: 1 at the last position, nothing `ignored` positions before it, 0 earlier.

    A span that is longer than 30 s or runs past `total` was cut: it has no end, only zeros.

    Args:
        start, length: (B,) int64; a span of no length or a negative start has no labels.
        total: positions of a sequence, T.
        ignored: see `stop_ignored`; 0 labels every position.

    Returns:
        (B, T) int64 of 0, 1 and IGNORED, and `positive_weight`, before the release's factor of 0.3.
    """
    at = torch.arange(total, device=start.device)[None]
    start, length = start[:, None], length[:, None]
    inside = (start >= 0) & (at >= start) & (at < start + length)
    whole = (length > 0) & (start >= 0) & (length <= LONGEST_LABELLED) & (start + length <= total)
    last = start + length - 1
    labels = torch.full(inside.shape, IGNORED, device=start.device)
    labels[inside & (~whole | (at < last - ignored))] = 0
    labels[inside & whole & (at == last)] = 1
    return labels, positive_weight(labels)


def positive_weight(labels: Tensor) -> Tensor:
    """Mean number of zeros over the rows of stop labels (B, T) that have an end; 1 if none has."""
    ended = (labels == 1).any(1)
    zeros = (labels == 0).sum(1)[ended].float()
    return zeros.mean() if len(zeros) else torch.ones((), device=labels.device)
