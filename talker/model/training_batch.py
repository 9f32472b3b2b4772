"""Collates clips into one rectangular training batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.streams import NAMES, Streams
from talker.model.config import TalkerConfig
from talker.model.layout import Plan, positive_weight, stop_ignored, stop_labels
from talker.model.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One clip with its task.

    Args:
        text: token ids; may be empty if audio is given.
        task: determines the given streams, the predicted streams and the delay.
        latents: normalised latents (T, C) of every given or predicted stream. Lengths may differ by a few
            frames.
        global_: (G,) per stream: speaker embedding, and normalised motion code of the first frame.
        read: (N,) number of text tokens spoken by the end of each audio patch; None if it is unknown.
    """

    text: Sequence[int]
    task: Task
    latents: Streams
    global_: Streams
    read: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """B sequences of L tokens and S slots, padded on the right.

    Attributes:
        tokens, text: (B, L) text ids, and a mask of text tokens.
        rotary: (B, L) rotary positions at the constant `layout.text_per_patch`.
        read: (B, S) number of text tokens spoken by the end of each slot.
        placed: (B, S) text positions of the slots: `read`, to which a recipe may add jitter.
        reads: (B, S) bool, slots whose `read` is known. The others have the positions in `rotary`.
        task_row: (B,) int64 rows of the task embedding, which is added at position 0.
        delay: (B,) int64 patches by which motion lags behind audio.
        given: (B,) bool per stream, samples whose task gives the stream.
        fed: (B, S, P, C) per stream, patches that are fed to the backbone, to which a recipe may add noise.
        target: (B, S, P, C) per stream, patches without noise. Both are zeros where there is no patch.
        real: (B, S, P) bool per stream, mask of real frames.
        positions: (B, S) int64 per stream, position of the token of each slot.
        encoded: (B, S) bool per stream, slots that hold an encoded patch.
        absent: (B, S) bool per stream, slots that hold the embedding of an absent stream.
        predicted: (B, S) bool per stream, slots with a loss. The hidden state before their position predicts
            them.
        global_: (B, G) per stream, global conditions.
        stop_positions: (B, S) int64 positions where the stop predictor is used.
        stop_label: (B, S) int64 labels (0, 1, IGNORED) of the stop predictor.
        stop_weight: mean number of zeros in the labels of samples that contain a 1, before any factor.
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
    positions: Streams
    encoded: Streams
    absent: Streams
    predicted: Streams
    global_: Streams
    stop_positions: Tensor
    stop_label: Tensor
    stop_weight: Tensor

    def to(self, device: torch.device | str) -> TrainingBatch:
        """Copy the batch to another device."""

        def move(value: Any) -> Any:
            return value.map(lambda x: x.to(device)) if isinstance(value, Streams) else value.to(device)

        return replace(self, **{field.name: move(getattr(self, field.name)) for field in fields(self)})


def to_patches(frames: Tensor, patch_frames: int) -> tuple[Tensor, Tensor]:
    """Split frames (T, C) into patches (N, P, C), and pad the last one with zeros.

    Returns:
        the patches, and a mask (N, P) bool of real frames.
    """
    missing = -len(frames) % patch_frames
    real = torch.arange(len(frames) + missing, device=frames.device) < len(frames)
    padded = F.pad(frames, (0, 0, 0, missing))
    return padded.unflatten(0, (-1, patch_frames)), real.unflatten(0, (-1, patch_frames))


def collate(samples: Sequence[Sample], config: TalkerConfig, ignored: int | None = None) -> TrainingBatch:
    """Collate samples into one batch, padded to the longest.

    Args:
        samples: at least one.
        config: patch size, layout and latent widths.
        ignored: number of positions before the end without a stop label; None: see `stop_ignored`.

    Raises:
        ValueError: `config.layout.task_token` is not "prepend".
    """
    if config.layout.task_token != "prepend":
        raise ValueError("training prepends the task token: set layout.task_token to 'prepend'")
    plans = [config.layout.plan(len(sample.text), sample.task.delay) for sample in samples]
    rows = [
        _SampleLayout(sample, plan, config.patch_frames) for sample, plan in zip(samples, plans, strict=True)
    ]
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
        stop_positions=torch.stack(
            [plan.start - 1 + (torch.arange(slots) + 1) * plan.stride for plan in plans]
        ),
        stop_label=stop_label,
        stop_weight=stop_weight,
        **streams,
    )


class _SampleLayout:
    """The patches and slots of one sample."""

    def __init__(self, sample: Sample, plan: Plan, patch_frames: int) -> None:
        self.sample, self.plan, self.task = sample, plan, sample.task
        known = self.task.given + self.task.predicted
        self.patches = {name: to_patches(sample.latents[name], patch_frames) for name in known}
        self.slots = plan.slots({name: len(data) for name, (data, _) in self.patches.items()})


def _stream_tables(name: str, rows: list[_SampleLayout], slots: int, width: int) -> dict[str, Tensor]:
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
        # A stream with a single patch has no loss, as in the published training.
        predicted[number, span] = name in row.task.predicted and len(data) > 1
    at = torch.stack([row.plan.token(name, 0) + torch.arange(slots) * row.plan.stride for row in rows])
    return {
        "fed": fed,
        "real": real,
        "positions": at,
        "encoded": encoded,
        "absent": absent,
        "predicted": predicted,
    }


def _reading(rows: list[_SampleLayout], slots: int) -> tuple[Tensor, Tensor]:
    """Number of text tokens spoken by the end of each slot (B, S), and a mask (B, S) of known numbers."""
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


def _stop(
    rows: list[_SampleLayout], slots: int, patch_frames: int, ignored: int | None
) -> tuple[Tensor, Tensor]:
    """Stop labels (B, S) of the slots, and their weight. Samples whose audio is given have no labels."""
    ends = [row.slots if "audio" in row.task.predicted else 0 for row in rows]
    before = stop_ignored(patch_frames) if ignored is None else ignored
    start, length = torch.zeros(len(rows), dtype=torch.int64), torch.tensor(ends)
    labels, _ = stop_labels(start, length, slots, before)
    return labels, positive_weight(labels)


def _globals(samples: Sequence[Sample], config: TalkerConfig) -> Streams:
    """Global conditions (B, G) per stream; zeros for samples without one."""
    widths = config.global_widths
    return Streams(
        **{
            name: torch.stack(
                [s.global_[name] if name in s.global_ else torch.zeros(widths[name]) for s in samples]
            )
            for name in NAMES
        }
    )
