"""Many requests at once, each as if it were alone: a batch whose rows join and leave at patch borders.

A row's numbers do not depend on its slot, on its neighbours or on when it came: every operation has the shape
of the whole batch at every step, empty and waiting rows are padding, a prompt is prefilled by itself, and the
noise is the request's own. So a request is equal to the bit in every batch of the same capacity, arithmetic
and number of threads; capacities differ from each other by rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import torch
from torch import Tensor

from heads.head import Condition, Sampling
from heads.streams import NAMES, Streams
from talker.generation.request import Noise, Request, drawn_noise
from talker.generation.sequence import Patch, Row
from talker.model.cache import KVCache
from talker.model.model import TalkerModel

# With others a CPU's matrix products round a row by its place.
CAPACITIES = (1, 4, 8, 16)
# The largest at which a row by itself takes 0.6 of the time it lasts, see benchmarks/batch.py.
DEFAULT_CAPACITY = 8


class RunningBatch:
    """Rows for so many requests at a time.

    One step is one step of the language model and, for each head, one run of its sampler over all rows. Rows
    of different solver settings (steps, guidance, sway) cost one run for each setting in use, because a
    run takes its steps together; temperature is a factor on a row's own noise and costs nothing.
    """

    def __init__(self, model: TalkerModel, capacity: int = 1) -> None:
        """Raises ValueError for a capacity whose rows would disturb each other."""
        if capacity not in CAPACITIES:
            raise ValueError(f"a batch of {capacity} rows: choose a capacity of {CAPACITIES}")
        self.model, self.capacity = model, capacity
        self._device, dtype = model.motion_pad_emb.device, model.motion_pad_emb.dtype
        config = model.config
        self._rows: list[Row | None] = [None] * capacity
        self._cache = KVCache.empty(config.backbone, capacity, self._device, dtype)
        self._hidden = torch.zeros(capacity, config.backbone.width, device=self._device, dtype=dtype)
        self._read = torch.zeros(capacity, device=self._device)
        self._text = torch.zeros(capacity, device=self._device)
        self._global = Streams(
            **{
                name: torch.zeros(capacity, width, device=self._device)
                for name, width in config.global_widths.items()
            }
        )

    @property
    def free(self) -> int:
        """Requests that can join now."""
        return self._rows.count(None)

    @torch.inference_mode()
    def join(self, request: Request, noise: Noise | None = None) -> Row:
        """Prefill a request into a free row; `noise` replaces the seed's.

        Raises:
            ValueError: no row is free, or the request does not fit the task or the cache.
        """
        if not self.free:
            raise ValueError(f"all {self.capacity} rows of the batch are taken: wait until one ends")
        model, at = self.model, self._rows.index(None)
        row = Row(model.config, request, noise or drawn_noise(request.seed), self._device)
        tokens = self._prompt(row)
        positions = row.plan.rotary(len(tokens)).to(self._device)
        self._hidden[at] = model.backbone.prefill(tokens[None], positions[None], self._cache, at)
        self._read[at], self._text[at] = 0, len(request.text_ids)
        for name, value in (("audio", request.speaker), ("motion", request.first_motion)):
            self._global[name][at] = 0 if value is None else value.to(self._device)
        self._rows[at] = row
        return row

    def leave(self, row: Row) -> None:
        """Give up a request that still runs; its row is free."""
        if row.finish_reason is None:
            row.finish_reason = "interrupted"
        self._clear()

    @torch.inference_mode()
    def step(self) -> None:
        """Everybody's next token. What was made waits in each row's `patches`; a row that has its
        `finish_reason` now has left.
        """
        self._read_on()
        self._ask_whether_to_stop()
        self._draw()
        self._settle()
        self._feed()

    def _running(self) -> list[tuple[int, Row]]:
        return [(at, row) for at, row in enumerate(self._rows) if row is not None and row.runs]

    def _clear(self) -> None:
        self._rows = [row if row is not None and row.finish_reason is None else None for row in self._rows]

    # -- one step, by parts --------------------------------------------------------------------------------

    def _read_on(self) -> None:
        moving = [at for at, row in self._running() if row.reads and row.starts_slot]
        if not moving:
            return
        assert self.model.reading is not None
        read = (self._read + self.model.reading(self._hidden)).clamp(min=0).minimum(self._text)
        self._read = torch.where(self._mask(moving), read, self._read)

    def _ask_whether_to_stop(self) -> None:
        asking = [(at, row) for at, row in self._running() if row.asks]
        if not asking:
            return
        probability = self.model.stop_head(self._hidden).sigmoid().tolist()
        for at, row in asking:
            row.judge(probability[at])

    def _draw(self) -> None:
        wanted: dict[Sampling, dict[int, tuple[str, ...]]] = {}
        for at, row in self._running():
            if row.wanted():
                settings = dataclasses.replace(row.request.sampling, temperature=1.0)
                wanted.setdefault(settings, {})[at] = row.wanted()
        for settings, by_row in wanted.items():
            self._draw_alike(settings, by_row)

    def _draw_alike(self, settings: Sampling, wanted: dict[int, tuple[str, ...]]) -> None:
        """One run of the samplers; `wanted` says which streams of which rows are kept."""
        running = dict(self._running())
        noise, context = {}, {}
        for name in NAMES:
            drawing = {at: running[at] for at, names in wanted.items() if name in names}
            if drawing:
                noise[name] = self._gathered({at: row.draw(name) for at, row in drawing.items()})
                context[name] = self._gathered({at: row.context(name) for at, row in drawing.items()})
        condition = Condition(self._hidden, Streams(**context), self._global)
        patches = self.model.heads.sample(condition, Streams(**noise), settings)
        for at, names in wanted.items():
            for name in names:
                running[at].accept(name, patches[name][at])

    def _settle(self) -> None:
        """Rows whose length was given: had they read their text by the end?"""
        for at, row in enumerate(self._rows):
            if row is not None and row.reads and row.finish_reason == "length":
                row.has_read(self._read[at].item())
        self._clear()

    def _feed(self) -> None:
        rows = dict(self._running())
        if not rows:
            return
        tokens = self._embedded([rows[at].token() if at in rows else {} for at in range(self.capacity)])
        # A row that waits is padding too: its next cell is written, and written again when it goes on.
        cells = torch.tensor([0 if row is None else row.at for row in self._rows], device=self._device)
        fixed = [rows[at].place if at in rows else 0.0 for at in range(self.capacity)]
        positions = torch.tensor(fixed, device=self._device)
        reading = [at for at, row in rows.items() if row.reads]
        if reading:
            read = self.model.config.layout.plan(0, 0).rotated_at(self._read)
            positions = torch.where(self._mask(reading), read, positions)
        hidden = self.model.backbone.step(tokens, positions, cells, self._cache)
        self._hidden = torch.where(self._mask(rows)[:, None], hidden, self._hidden)
        for row in rows.values():
            row.advance()

    # -- embeddings ----------------------------------------------------------------------------------------

    def _prompt(self, row: Row) -> Tensor:
        """Task, text and the slots that are prefilled, (L, width)."""
        model = self.model
        ids = torch.as_tensor(list(row.request.text_ids), dtype=torch.int64, device=self._device)
        parts = [model.backbone.embed_tokens(ids)]
        task = model.task_embedding.weight[row.task.row]
        slots = [self._embedded([token]) for token in row.known_tokens()]
        if model.config.layout.task_token == "prepend":
            parts.insert(0, task[None])
        elif slots:
            slots[0] = slots[0] + task
        return torch.cat(parts + slots)

    def _embedded(self, tokens: list[dict[str, Patch | None]]) -> Tensor:
        """Input embeddings (B, width) of B tokens: each the sum of its streams' parts."""
        total = torch.zeros(len(tokens), self._hidden.shape[1], device=self._device)
        for name in NAMES:
            parts = {at: token[name] for at, token in enumerate(tokens) if name in token}
            encoded = {at: part for at, part in parts.items() if part is not None}
            absent = [at for at in parts if at not in encoded]
            if encoded:
                frames, real = (
                    self._gathered(dict(zip(encoded, column, strict=True)), len(tokens))
                    for column in zip(*encoded.values(), strict=True)
                )
                added = self.model.patch_encoders[name](frames, real)
                total = total + torch.where(self._mask(encoded, len(tokens))[:, None], added, 0.0)
            if absent:
                added = self.model.motion_pad_emb[0]
                total = total + torch.where(self._mask(absent, len(tokens))[:, None], added, 0.0)
        return total

    def _mask(self, chosen: Collection[int], rows: int | None = None) -> Tensor:
        """(rows,) bool."""
        return torch.tensor([at in chosen for at in range(rows or self.capacity)], device=self._device)

    def _gathered(self, parts: dict[int, Tensor], rows: int | None = None) -> Tensor:
        """(rows, ...) of parts (...); zeros where there is none."""
        values = torch.stack(list(parts.values())).to(self._device)
        whole = values.new_zeros(rows or self.capacity, *values.shape[1:])
        whole[list(parts)] = values
        return whole
