"""Processes one token of every row of a batch, as one function of fixed shapes.

The function depends on no value on the host, so it can be exported or captured as a graph. Rows that do not
run are padding, and their results are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heads.head import Condition, Sampling
from heads.streams import NAMES, Streams
from talker.model.cache import KVCache
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel

# Columns with one number per row: those of the row, and those of each of its streams.
FLAGS = ("runs", "aligned", "reads", "cell", "position", "solver")
STREAM_FLAGS = ("drawn", "known", "encoded", "absent")
NO_SOLVER = -1.0


@dataclass(frozen=True)
class Columns:
    """Layout of the packed float32 buffers for the inputs and outputs of a step.

    Attributes:
        inputs: slice and shape of each column by name: the scalars in FLAGS and, for each stream, the scalars
            in STREAM_FLAGS, the patches (P, C) `noise`, `context`, `given` and `fed`, and the mask `real`
            (P,) of the real frames of `fed`.
        outputs: slice and shape of `stop` (probability at the new hidden state), `spoken` (text tokens
            spoken so far), and the drawn patch (P, C) of each stream.
    """

    inputs: dict[str, tuple[slice, tuple[int, ...]]]
    outputs: dict[str, tuple[slice, tuple[int, ...]]]

    @classmethod
    def of(cls, config: TalkerConfig) -> Columns:
        """The columns for a model with this config."""
        frames, widths = config.patch_frames, config.widths
        inputs: dict[str, tuple[int, ...]] = dict.fromkeys(FLAGS, ())
        outputs: dict[str, tuple[int, ...]] = {"stop": (), "spoken": ()}
        for name, width in widths.items():
            inputs |= {f"{name}_{flag}": () for flag in STREAM_FLAGS}
            inputs |= {f"{name}_{kind}": (frames, width) for kind in ("noise", "context", "given", "fed")}
            inputs[f"{name}_real"] = (frames,)
            outputs[name] = (frames, width)
        return cls(_packed(inputs), _packed(outputs))

    @staticmethod
    def width(columns: dict[str, tuple[slice, tuple[int, ...]]]) -> int:
        """Total number of values per row."""
        return max(where.stop for where, _ in columns.values())


def _packed(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[slice, tuple[int, ...]]]:
    found, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape, dtype=int))
        found[name] = (slice(start, start + size), shape)
        start += size
    return found


def columns_of(buffer: Any, columns: dict[str, tuple[slice, tuple[int, ...]]]) -> dict[str, Any]:
    """Views (B, ...) of each column of a packed buffer (B, width), which is a tensor or an array."""
    return {name: buffer[:, where].reshape(-1, *shape) for name, (where, shape) in columns.items()}


@dataclass(frozen=True)
class BatchState:
    """State of a batch of R rows on the device, which steps change in place.

    Attributes:
        hidden: (R, D) hidden state of the language model at the last token of each row.
        spoken: (R,) float32, text tokens spoken so far, if the model has an alignment head.
        text: (R,) float32, number of text tokens of the request.
        global_: (R, G) float32 per stream, global conditions.
        cache: keys and values.
    """

    hidden: Tensor
    spoken: Tensor
    text: Tensor
    global_: Streams
    cache: KVCache

    @classmethod
    def empty(cls, model: TalkerModel, rows: int) -> BatchState:
        """A state of zeros for `rows` rows, on the device and in the dtype of the model."""
        config, device, dtype = model.config, model.device, model.motion_pad_emb.dtype
        return cls(
            hidden=torch.zeros(rows, config.backbone.width, device=device, dtype=dtype),
            spoken=torch.zeros(rows, device=device),
            text=torch.zeros(rows, device=device),
            global_=Streams.of(
                config.global_widths,
                lambda name: torch.zeros(rows, config.global_widths[name], device=device),
            ),
            cache=KVCache.empty(config.backbone, rows, device, dtype),
        )


@dataclass(frozen=True)
class Solver:
    """Solver settings of one or more rows of a step, and the streams that at least one of them draws."""

    sampling: Sampling
    streams: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """Selects the networks that a step runs. All other inputs of a step are data.

    Attributes:
        solvers: the different solver settings in use. Each solver runs on all rows.
        encoded: streams of which at least one row feeds a patch.
        absent: whether at least one row feeds the embedding of an absent stream.
        feeds: whether at least one row continues after this token.
    """

    solvers: tuple[Solver, ...]
    encoded: tuple[str, ...]
    absent: bool
    feeds: bool


class PatchStep(nn.Module):
    """Processes one token of every row: alignment head, heads, language model, stop predictor."""

    def __init__(self, model: TalkerModel, variant: Variant, constants: tuple[Any, ...]) -> None:
        """`constants`: the result of `model.heads.constants` for each of `variant.solvers`."""
        super().__init__()
        self.model, self.variant, self.constants = model, variant, constants
        self.columns = Columns.of(model.config)

    def forward(self, inbox: Tensor, state: BatchState) -> Tensor:
        """Compute the packed outputs of a step and change `state` in place.

        Args:
            inbox: (R, inputs) float32 on the device of the model, see `Columns`.
            state: the state of the batch.

        Returns:
            (R, outputs) float32 on the same device, see `Columns`.
        """
        model, row = self.model, columns_of(inbox, self.columns.inputs)
        if model.reading is not None:
            spoken = (state.spoken + model.reading(state.hidden)).clamp(min=0).minimum(state.text)
            state.spoken.copy_(torch.where(row["reads"] > 0, spoken, state.spoken))
        drawn = self._draw(row, state)
        if self.variant.feeds:
            self._feed(row, state, drawn)
        stop = model.stop_head(state.hidden).sigmoid()
        outputs = [stop[:, None], state.spoken[:, None], *(patch.flatten(1) for _, patch in drawn.items())]
        return torch.cat(outputs, dim=1)

    def _feed(self, row: dict[str, Tensor], state: BatchState, drawn: Streams) -> None:
        """Feed the token of every row to the language model, and update the hidden states of running rows."""
        model = self.model
        embedded = self._embed(row, drawn)
        read = model.config.layout.plan(0, 0).rotated_at(state.spoken)
        positions = torch.where(row["aligned"] > 0, read, row["position"])
        hidden = model.backbone.step(embedded, positions, row["cell"].long(), state.cache)
        state.hidden.copy_(torch.where(row["runs"][:, None] > 0, hidden, state.hidden))

    def _draw(self, row: dict[str, Tensor], state: BatchState) -> Streams:
        """The drawn patch (R, P, C) of each stream; zeros in rows that draw none."""
        drawn = {name: torch.zeros_like(row[f"{name}_noise"]) for name in NAMES}
        for number, (solver, constants) in enumerate(zip(self.variant.solvers, self.constants, strict=True)):
            own = row["solver"] == number
            noise = Streams.of(solver.streams, lambda name: row[f"{name}_noise"])
            given = Streams.of(NAMES, lambda name: row[f"{name}_given"])
            condition = Condition(
                hidden=state.hidden,
                context=Streams.of(NAMES, lambda name: row[f"{name}_context"]),
                global_=state.global_,
                predicted=Streams.of(NAMES, lambda name: row[f"{name}_drawn"] > 0).map(own.logical_and),
                known=Streams.of(NAMES, lambda name: row[f"{name}_known"] > 0),
            )
            made = self.model.heads.sample(condition, noise, solver.sampling, given, constants)
            for name, patch in made.items():
                drawn[name] = torch.where(own[:, None, None], patch, drawn[name])
        return Streams(**drawn)

    def _embed(self, row: dict[str, Tensor], drawn: Streams) -> Tensor:
        """Input embeddings (R, D): sums over the streams of each token."""
        model = self.model
        total = torch.zeros_like(row["cell"])[:, None].expand(-1, model.config.backbone.width)
        total = total.to(model.motion_pad_emb.dtype)
        for name in self.variant.encoded:
            own = (row[f"{name}_drawn"] > 0)[:, None]
            fed = torch.where(own[..., None], drawn[name], row[f"{name}_fed"])
            added = model.patch_encoders[name](fed, (row[f"{name}_real"] > 0) | own)
            total = total + torch.where(row[f"{name}_encoded"][:, None] > 0, added, 0.0)
        if self.variant.absent:
            absent = torch.stack([row[f"{name}_absent"] > 0 for name in NAMES]).any(0)
            total = total + torch.where(absent[:, None], model.motion_pad_emb[0], 0.0)
        return total
