"""Generates several requests as rows of one batch. Requests join and leave between steps.

The values of a row depend neither on its index, nor on the other rows, nor on when it joined: every operation
has the shape of the whole batch in every step, empty and paused rows are padding, each prompt is prefilled
separately, and noise belongs to the request. So a request yields identical values in all batches of the same
capacity, dtype and number of threads. Different capacities differ by rounding.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor

from heads.head import Sampling
from heads.streams import NAMES
from talker.generation.request import Noise, TokenRequest, drawn_noise
from talker.generation.sequence import Patch, Sequence
from talker.generation.step import (
    NO_SOLVER,
    BatchState,
    Columns,
    PatchStep,
    Solver,
    Variant,
    columns_of,
)
from talker.model.model import TalkerModel

# At other capacities, the rounding of a row in matrix products on a CPU depends on its index.
CAPACITIES = (1, 4, 8, 16)
# The largest capacity at which a single request has a real-time factor of at most 0.6 (benchmarks/batch.py).
DEFAULT_CAPACITY = 8
MOST_VARIANTS = 32  # greatest number of cached steps


class RunningBatch:
    """A batch of up to `capacity` requests.

    A step runs the language model once, and the solver of each head once for every solver setting (steps,
    guidance, sway) in use. The temperature is a factor on the noise of a row and needs no run of its own.
    """

    def __init__(self, model: TalkerModel, capacity: int = 1) -> None:
        """The weights of `model` must not change afterwards.

        Raises:
            ValueError: `capacity` is not one of CAPACITIES.
        """
        if capacity not in CAPACITIES:
            raise ValueError(f"a batch cannot have {capacity} rows: choose a capacity of {CAPACITIES}")
        self.model, self.capacity = model, capacity
        self._stats = copy.deepcopy(model.stats).cpu()
        self._rows: list[Sequence | None] = [None] * capacity
        self._state = BatchState.empty(model, capacity)
        self._columns = Columns.of(model.config)
        pinned = model.device.type == "cuda"
        shape = (capacity, Columns.width(self._columns.inputs))
        self._inbox = torch.zeros(shape, pin_memory=pinned)
        self._inbox_there = torch.zeros(shape, device=model.device)
        self._outbox = torch.zeros(capacity, Columns.width(self._columns.outputs), pin_memory=pinned)
        # Views that share memory with the buffers.
        self._in = columns_of(self._inbox.numpy(), self._columns.inputs)
        self._out = columns_of(self._outbox, self._columns.outputs)
        self._steps: dict[Variant, PatchStep] = {}

    @property
    def free(self) -> int:
        """Number of requests that can join now."""
        return self._rows.count(None)

    @torch.inference_mode()
    def join(self, request: TokenRequest, noise: Noise | None = None) -> Sequence:
        """Prefill a request into a free row. `noise` replaces the noise of the seed.

        Raises:
            ValueError: no row is free, or the request does not match the task or exceeds the cache.
        """
        if not self.free:
            raise ValueError(f"all {self.capacity} rows of the batch are in use: wait until one ends first")
        model, state, at = self.model, self._state, self._rows.index(None)
        sequence = Sequence(model.config, request, noise or drawn_noise(request.seed), self._stats)
        tokens = self._prompt(sequence)
        positions = sequence.plan.rotary(len(tokens)).to(model.device)
        state.hidden[at] = model.backbone.prefill(tokens[None], positions[None], state.cache, at)
        state.spoken[at], state.text[at] = 0, len(request.text_ids)
        for name, value in (("audio", request.speaker), ("motion", request.first_motion)):
            if name in state.global_:
                state.global_[name][at] = 0 if value is None else value.to(model.device)
        if sequence.checks_stop:
            sequence.apply_stop(model.stop_head(state.hidden).sigmoid()[at].item())
        if sequence.finish_reason is None:
            self._rows[at] = sequence
        return sequence

    def leave(self, sequence: Sequence) -> None:
        """Remove a request and free its row. If it still runs, its finish reason becomes "interrupted"."""
        if sequence.finish_reason is None:
            sequence.finish_reason = "interrupted"
        self._rows = [None if row is sequence else row for row in self._rows]

    @torch.inference_mode()
    def step(self) -> None:
        """Process the next token of every row that runs.

        Generated patches are appended to `patches` of their sequence. A sequence that has a `finish_reason`
        afterwards is removed from the batch.
        """
        rows = {at: row for at, row in enumerate(self._rows) if row is not None and row.runs}
        if not rows:
            return
        step = self._compiled(self._write(rows))
        self._inbox_there.copy_(self._inbox, non_blocking=True)
        self._outbox.copy_(step(self._inbox_there, self._state))
        for at, row in rows.items():
            self._read(at, row)
        self._rows = [row if row is not None and row.finish_reason is None else None for row in self._rows]

    def _compiled(self, variant: Variant) -> PatchStep:
        """The step of a variant, with the constants of the heads. The last MOST_VARIANTS are cached."""
        if variant not in self._steps:
            while len(self._steps) >= MOST_VARIANTS:
                del self._steps[next(iter(self._steps))]
            constants = tuple(self.model.heads.constants(solver.sampling) for solver in variant.solvers)
            self._steps[variant] = PatchStep(self.model, variant, constants)
        return self._steps[variant]

    # -- transfers between host and device -----------------------------------------------------------------

    def _write(self, rows: dict[int, Sequence]) -> Variant:
        """Fill the inbox with the inputs of `rows` by index. Returns the variant of the step."""
        self._inbox.zero_()
        self._in["solver"][:] = NO_SOLVER
        streams: dict[Sampling, set[str]] = {}
        for at, row in rows.items():
            if row.wanted():
                settings = dataclasses.replace(row.request.sampling, temperature=1.0)
                streams.setdefault(settings, set()).update(row.wanted())
                self._in["solver"][at] = list(streams).index(settings)
            self._write_row(at, row)
        for at, waiting in enumerate(self._rows):
            # The step writes a cell of every row. In a paused row, this cell is overwritten when it resumes.
            if waiting is not None and at not in rows:
                self._in["cell"][at] = waiting.cell
        return Variant(
            solvers=tuple(
                Solver(settings, tuple(name for name in NAMES if name in wanted))
                for settings, wanted in streams.items()
            ),
            encoded=tuple(name for name in NAMES if self._in[f"{name}_encoded"].any()),
            absent=any(self._in[f"{name}_absent"].any() for name in NAMES),
            feeds=not all(row.completes for row in rows.values()),
        )

    def _write_row(self, at: int, row: Sequence) -> None:
        columns = self._in
        columns["runs"][at] = 1
        columns["aligned"][at] = row.aligned
        columns["reads"][at] = row.aligned and row.starts_slot
        columns["cell"][at] = row.cell
        columns["position"][at] = 0.0 if row.aligned else row.position
        wanted = row.wanted()
        for name, part in row.token().items():
            columns[f"{name}_absent" if part is None else f"{name}_encoded"][at] = 1
            if part is not None and name not in wanted:
                columns[f"{name}_fed"][at], columns[f"{name}_real"][at] = (x.numpy() for x in part)
        if not wanted:
            return
        for name in NAMES:
            columns[f"{name}_context"][at] = row.context(name).numpy()
            if name in wanted:
                columns[f"{name}_drawn"][at] = 1
                columns[f"{name}_noise"][at] = row.draw(name).numpy()
            elif (given := row.given(name)) is not None:
                columns[f"{name}_known"][at] = 1
                columns[f"{name}_given"][at] = given.numpy()

    def _read(self, at: int, row: Sequence) -> None:
        """Pass the outputs of a row to its sequence."""
        drawn = {name: self._out[name][at].clone() for name in row.wanted()}
        row.accept(drawn, self._out["spoken"][at].item())
        if row.finish_reason is None:
            row.advance()
            if row.checks_stop:
                row.apply_stop(self._out["stop"][at].item())

    # -- prompts -------------------------------------------------------------------------------------------

    def _prompt(self, sequence: Sequence) -> Tensor:
        """Embeddings (L, D) of the task, the text and the prefilled slots."""
        model = self.model
        ids = torch.as_tensor(list(sequence.request.text_ids), dtype=torch.int64, device=model.device)
        parts = [model.backbone.embed_tokens(ids)]
        task = model.task_embedding.weight[sequence.task.row]
        slots = [self._embedded(token)[None] for token in sequence.known_tokens()]
        if model.config.layout.task_token == "prepend":
            parts.insert(0, task[None])
        elif slots:
            slots[0] = slots[0] + task
        return torch.cat(parts + slots)

    def _embedded(self, token: dict[str, Patch | None]) -> Tensor:
        """Input embedding (D,) of a known token: the sum over its streams."""
        model = self.model
        total = torch.zeros_like(model.motion_pad_emb[0, 0])
        for name, part in token.items():
            if part is None:
                total = total + model.motion_pad_emb[0, 0]
            else:
                frames, real = (x[None].to(model.device) for x in part)
                total = total + model.patch_encoders[name](frames, real)[0]
        return total
