"""Clips become one rectangular batch. The only loop over samples is here, in the collator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.streams import NAMES, Streams
from talker.model.config import TalkerConfig
from talker.model.layout import IGNORED, Plan, positive_weight, stop_ignored, stop_labels
from talker.model.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One clip of one task.

    Args:
        text: token ids; may be empty where audio is given.
        task: decides what is fed, predicted and delayed.
        latents: normalised (T, C) of every stream that the task gives or predicts; lengths may differ by a
            few frames.
        global_: (G,) per stream: speaker embedding, first motion frame (normalised).
        read: (N,) text tokens spoken by the end of each audio patch; None where nobody knows.
        whole: False where the clip was cut: then it has no end to stop at.
    """

    text: Sequence[int]
    task: Task
    latents: Streams
    global_: Streams
    read: Tensor | None = None
    whole: bool = True


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """B sequences of L tokens and S slots, padded on the right.

    Attributes:
        tokens, text: (B, L) text ids, and whether a text token stands there.
        rotary: (B, L) rotary positions, by the layout's constant pace.
        read, placed: (B, S) text tokens spoken by the end of each slot: in truth, and where the slot is
            put on the text's axis (a recipe may shake it, for the model to learn to correct itself).
        reads: (B, S) bool, slots whose `read` is known; the others keep the constant pace.
        task_row: (B,) rows of the task embedding, for position 0.
        delay: (B,) int64, patches by which motion is later than audio in the sequence.
        given: per stream (B,) bool, samples whose task gives that stream.
        fed, target: per stream (B, S, P, C) what is fed back and what is to be predicted (a recipe may add
            noise to the former); zeros where there is nothing.
        real: per stream (B, S, P) bool, frames that exist.
        at: per stream (B, S) int64, the position of each slot's token.
        encoded, absent: per stream (B, S) bool, slots that hold an encoded patch, or the embedding of its
            absence.
        predicted: per stream (B, S) bool, slots that carry a loss; the position before `at` predicts them.
        global_: per stream (B, G).
        stop_at, stop_label: (B, S) positions and labels (0, 1, IGNORED) of the stop predictor.
        stop_weight: mean number of zeros over samples with an end, before any factor.
    """

    tokens: Tensor
    text: Tensor
    rotary: Tensor
    read: Tensor
    placed: Tensor
    reads: Tensor
    task_row: Tensor
    delay: Tensor
    given: Streams
    fed: Streams
    target: Streams
    real: Streams
    at: Streams
    encoded: Streams
    absent: Streams
    predicted: Streams
    global_: Streams
    stop_at: Tensor
    stop_label: Tensor
    stop_weight: Tensor

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The same batch on another device."""

        def move(value: Any) -> Any:
            return value.map(lambda x: x.to(device)) if isinstance(value, Streams) else value.to(device)

        return replace(self, **{field.name: move(getattr(self, field.name)) for field in fields(self)})


def to_patches(frames: Tensor, patch_frames: int) -> tuple[Tensor, Tensor]:
    """Frames (T, C) -> patches (N, P, C), the last one filled with zeros; which frames are real (N, P)."""
    missing = -len(frames) % patch_frames
    real = torch.arange(len(frames) + missing, device=frames.device) < len(frames)
    padded = F.pad(frames, (0, 0, 0, missing))
    return padded.unflatten(0, (-1, patch_frames)), real.unflatten(0, (-1, patch_frames))


def collate(samples: Sequence[Sample], config: TalkerConfig, ignored: int | None = None) -> TrainingBatch:
    """Samples as one batch, padded to the longest.

    Args:
        samples: at least one.
        config: patch size, layout and latent widths.
        ignored: positions before the end without a stop label; None: the release's number.

    Raises:
        ValueError: the layout adds the task to a prefix, which training has none of.
    """
    if config.layout.task_token != "prepend":
        raise ValueError("training prepends the task token; layout.task_token is for generation only")
    plans = [config.layout.plan(len(sample.text), sample.task.delay) for sample in samples]
    rows = [_Row(sample, plan, config.patch_frames) for sample, plan in zip(samples, plans, strict=True)]
    length = max(row.plan.length(row.slots) for row in rows)
    slots = max(row.slots for row in rows)

    tokens = torch.zeros(len(rows), length, dtype=torch.int64)
    text = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, (sample, plan) in enumerate(zip(samples, plans, strict=True)):
        tokens[number, plan.text_start : plan.start] = torch.as_tensor(sample.text, dtype=torch.int64)
        text[number, plan.text_start : plan.start] = True

    tables = {name: _stream_tables(name, rows, slots, width) for name, width in config.widths.items()}
    streams = {key: Streams(**{name: tables[name][key] for name in NAMES}) for key in tables["audio"]}
    read, reads = _reading(rows, slots)
    stop_label, stop_weight = _stop(rows, slots, config.patch_frames, ignored)
    return TrainingBatch(
        tokens=tokens,
        text=text,
        rotary=torch.stack([plan.rotary(length) for plan in plans]),
        read=read,
        placed=read,
        reads=reads,
        task_row=torch.tensor([sample.task.row for sample in samples]),
        delay=torch.tensor([sample.task.delay for sample in samples]),
        given=Streams.of(NAMES, lambda name: torch.tensor([name in s.task.given for s in samples])),
        target=streams["fed"],
        global_=_globals(samples, config),
        stop_at=torch.stack([plan.start - 1 + (torch.arange(slots) + 1) * plan.stride for plan in plans]),
        stop_label=stop_label,
        stop_weight=stop_weight,
        **streams,
    )


class _Row:
    """A sample laid out."""

    def __init__(self, sample: Sample, plan: Plan, patch_frames: int) -> None:
        self.sample, self.plan, self.task = sample, plan, sample.task
        known = self.task.given + self.task.predicted
        self.patches = {name: to_patches(sample.latents[name], patch_frames) for name in known}
        self.slots = plan.slots({name: len(data) for name, (data, _) in self.patches.items()})


def _stream_tables(name: str, rows: list[_Row], slots: int, width: int) -> dict[str, Tensor]:
    frames = next(data.shape[1] for row in rows for data, _ in row.patches.values())
    shape = (len(rows), slots)
    fed = torch.zeros(*shape, frames, width)
    real = torch.zeros(*shape, frames, dtype=torch.bool)
    encoded, absent, predicted = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    for number, row in enumerate(rows):
        if name not in row.patches:
            absent[number, : row.slots] = True
            continue
        data, exists = row.patches[name]
        first = row.plan.shift(name)
        span = slice(first, first + len(data))
        fed[number, span], real[number, span] = data, exists
        encoded[number, : row.slots] = True
        # A lone patch carries no loss, as in the published training.
        predicted[number, span] = name in row.task.predicted and len(data) > 1
    at = torch.stack([row.plan.token(name, 0) + torch.arange(slots) * row.plan.stride for row in rows])
    return {"fed": fed, "real": real, "at": at, "encoded": encoded, "absent": absent, "predicted": predicted}


def _reading(rows: list[_Row], slots: int) -> tuple[Tensor, Tensor]:
    """Text tokens spoken by the end of each slot (B, S), and where that is known."""
    read, known = torch.zeros(len(rows), slots), torch.zeros(len(rows), slots, dtype=torch.bool)
    for number, row in enumerate(rows):
        spoken = row.sample.read
        if spoken is None:
            continue
        patch = torch.arange(slots) - row.plan.shift("audio")
        at = spoken[patch.clamp(0, len(spoken) - 1)]
        read[number] = torch.where(patch < 0, 0.0, at)
        known[number, : row.slots] = True
    return read, known


def _stop(rows: list[_Row], slots: int, patch_frames: int, ignored: int | None) -> tuple[Tensor, Tensor]:
    """Labels (B, S) by slot; a span that is cut, or whose length is given from outside, has no end."""
    ends = [row.slots if "audio" in row.task.predicted else 0 for row in rows]
    before = stop_ignored(patch_frames) if ignored is None else ignored
    start, length = torch.zeros(len(rows), dtype=torch.int64), torch.tensor(ends)
    cut = torch.tensor([not row.sample.whole for row in rows])
    labels, _ = stop_labels(start, length, slots, before)
    running = torch.arange(slots) < length[:, None]
    labels = torch.where(cut[:, None], torch.where(running, 0, IGNORED), labels)
    return labels, positive_weight(labels)


def _globals(samples: Sequence[Sample], config: TalkerConfig) -> Streams:
    """(B, G) per stream; zeros for a stream that a sample does not predict."""
    widths = config.global_widths
    return Streams(
        **{
            name: torch.stack(
                [s.global_[name] if name in s.global_ else torch.zeros(widths[name]) for s in samples]
            )
            for name in NAMES
        }
    )
