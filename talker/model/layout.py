"""Positions of tokens and patches in a sequence, for training and generation.

    sum   [task] [text ...] [a0 + m0] [a1 + m1] ...           one token per slot, as published
    av    [task] [text ...] [a0] [m0] [a1] [m1] ...           interleaved, audio first
    va    [task] [text ...] [m0] [a0] [m1] [a1] ...           interleaved, motion first

A slot holds patch j of audio and patch j - delay of motion (delay < 0: motion leads). Each patch is predicted
from the position before its own; the first patch from the last position of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from talker.clock import FRAME_RATE

IGNORED = -100  # stop label without loss
LONGEST_LABELLED = 187  # positions; longer spans have no end label
ARRANGEMENTS = {
    "sum": (("audio", "motion"),),
    "av": (("audio",), ("motion",)),
    "va": (("motion",), ("audio",)),
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Arrangement of a sequence.

    Args:
        arrangement: "sum", "av" or "va", see the module docstring.
        task_token: "prepend": the task token has its own position before the text, as in training;
            "first_patch": it is added to the token of the first prefix patch, as in the released command
            (without a prefix it is not used).
        text_per_patch: text tokens spoken during an average patch. Slot s has the rotary position of text
            token `text_per_patch` * s, so that patches and the text spoken in them have similar positions,
            and the model only learns the deviation of a voice from the average. It is a constant, because
            the duration and the speech rate are unknown during generation. 0: consecutive positions, as
            published.
    """

    arrangement: str = "sum"
    task_token: str = "prepend"
    text_per_patch: float = 0.0

    def __post_init__(self) -> None:
        if self.arrangement not in ARRANGEMENTS:
            raise ValueError(
                f"unknown arrangement {self.arrangement!r}: choose one of {', '.join(ARRANGEMENTS)}"
            )
        if self.task_token not in ("prepend", "first_patch"):
            raise ValueError(f"unknown task_token {self.task_token!r}: choose prepend or first_patch")

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The streams at each position of a slot, in order."""
        return ARRANGEMENTS[self.arrangement]

    def plan(self, text: int, delay: int) -> Plan:
        """Positions of a sequence with `text` text tokens. `delay`: signed delay of motion in patches."""
        return Plan(layout=self, text=text, delay=delay)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Positions of one sequence.

    Args:
        layout: the arrangement.
        text: number of text tokens.
        delay: patches by which motion lags behind audio; negative if it leads.
    """

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
        """Positions per slot."""
        return len(self.groups)

    def shift(self, stream: str) -> int:
        """Number of slots before the first patch of a stream."""
        return max(0, self.delay if stream == "motion" else -self.delay)

    def patch(self, stream: str, slot: int) -> int:
        """Index of the patch of `stream` in `slot`; negative before its first patch."""
        return slot - self.shift(stream)

    def slots(self, patches: dict[str, int]) -> int:
        """Number of slots for the given number of patches per stream. Streams with 0 patches are ignored."""
        return max((n + self.shift(name) for name, n in patches.items() if n), default=0)

    def token(self, stream: str, slot: int) -> int:
        """Position of the token of `stream` in `slot`."""
        offset = next(i for i, group in enumerate(self.groups) if stream in group)
        return self.start + slot * self.stride + offset

    def length(self, slots: int) -> int:
        """Number of tokens of a sequence with `slots` slots."""
        return self.start + slots * self.stride

    def rotated_at(self, read: Tensor) -> Tensor:
        """Rotary position of a slot by whose end `read` text tokens have been spoken."""
        return self.text_start + read

    def rotary_of(self, position: int) -> float:
        """The position by which one token is rotated; the same float32 number as `rotary` has."""
        ratio = self.layout.text_per_patch
        if not ratio or position < self.start:
            return float(position)
        slot = np.float32(position - self.start) * np.float32(ratio / self.stride)
        return float(np.float32(self.text_start) + slot)

    def rotary(self, length: int) -> Tensor:
        """Rotary positions (length,) float32 of all tokens."""
        at = torch.arange(length, dtype=torch.float32)
        ratio = self.layout.text_per_patch
        if not ratio:
            return at
        stretched = self.text_start + (at - self.start) * (ratio / self.stride)
        return torch.where(at < self.start, at, stretched)


def stop_ignored(patch_frames: int, frame_rate: int = FRAME_RATE) -> int:
    """Number of positions before the last that have no stop label: about 0.3 s, rounded as in the release."""
    return max(1, round(0.3 * frame_rate / patch_frames))


def stop_labels(start: Tensor, length: Tensor, total: int, ignored: int) -> tuple[Tensor, Tensor]:
    """Stop labels of spans: 1 at the last position, IGNORED at `ignored` positions before it, 0 before those.

    A span that is longer than LONGEST_LABELLED or exceeds `total` was cut. All its labels are 0.

    Args:
        start, length: (B,) int64; spans with length 0 or a negative start have no labels.
        total: number of positions T of a sequence.
        ignored: see `stop_ignored`; 0: every position of a span has a label.

    Returns:
        labels (B, T) int64 of 0, 1 and IGNORED, and their `positive_weight`.
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
    """Mean number of zeros in those rows of stop labels (B, T) that contain a 1; 1 if there are none."""
    ended = (labels == 1).any(1)
    zeros = (labels == 0).sum(1)[ended].float()
    return zeros.mean() if len(zeros) else torch.ones((), device=labels.device)
