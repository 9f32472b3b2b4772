"""How one request walks through its slots: what it is fed, what it asks for, when it ends. No networks here.

A lone generation and every row of a running batch are this same machine.
"""

from __future__ import annotations

from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.streams import NAMES, Streams
from talker.generation.guards import Watch
from talker.generation.request import Noise, Request, StopCounter
from talker.model.config import TalkerConfig
from talker.model.tasks import task_named
from talker.model.training_batch import to_patches

# The reading of a finished text ends so near to its last token.
UNREAD_TOKENS = 2
# What a stream's part of a token is: an encoded patch (P, C) with its real frames (P,), the embedding that
# says that the stream is absent, or nothing at all.
Patch = tuple[Tensor, Tensor]


class Row:
    """A request on its way. It advances token by token; a slot has one, or one a stream where interleaved.

    At each token the driver, in this order, calls `judge` where the row `asks`, draws the streams that are
    `wanted` and hands them to `accept`, and, if the row still runs, feeds the token and calls `advance`.

    Attributes:
        patches: made and not yet taken; the owner of the request takes them from the left.
        finish_reason: None while it runs; "stop": the stop predictor ended it; "length": given frames or
            max_patches did; "overflow": given frames did, before the text had been read; "silence" and
            "repetition": its guard did; "interrupted": it was told to leave.
        paused: the driver keeps the row where it is.
        prefilled: slots that enter the cache together with the text.
    """

    def __init__(self, config: TalkerConfig, request: Request, noise: Noise, device: torch.device) -> None:
        """Raises ValueError where the request does not fit the task or the cache."""
        self.config, self.request, self.noise = config, request, noise
        self.task = task_named(config.tasks, request.task)
        self.plan = config.layout.plan(len(request.text_ids), self.task.delay)
        self.finish_reason: str | None = None
        self.paused = False
        self._device = device
        lengths = {name: len(x) for name, x in (request.prefix or Streams()).items()}
        self._prefix = max(lengths.values(), default=0)
        # Patches of the prefix that a stream does not have.
        self._missing = {name: self._prefix - lengths.get(name, 0) for name in NAMES}
        self._known = self._known_patches()
        self.limit = request.max_patches
        for name in self.task.given:
            self.limit = min(self.limit, len(self._known[name][0]) - self._prefix)
        self._slots = self.plan.slots(dict.fromkeys(self.task.predicted, self._prefix + self.limit))
        self._check()
        self._made: dict[str, list[Tensor]] = {name: [] for name in self.task.predicted}
        self._complete = 0
        self.patches: deque[Streams] = deque()
        self._counter = StopCounter(request.stop)
        watched = request.guard is not None and self.task.ends_itself
        self._watch = Watch(request.guard) if watched and request.guard is not None else None
        # The reading of a known slot follows from the hidden state before it: such slots go one by one.
        self.reads = config.reading > 0 and len(request.text_ids) > 0
        self._first = self._known_slots()
        self.prefilled = 0 if self.reads else self._first
        self._slot, self._group = self.prefilled, 0

    def _check(self) -> None:
        known = self.task.given + self.task.predicted
        if self.limit < 1:
            raise ValueError("nothing to generate: there are no given frames, or max_patches is 0")
        if "motion" in known and self.request.first_motion is None:
            raise ValueError(f"task {self.task.name!r} needs first_motion, the motion of the first frame")
        if not self.request.text_ids and "audio" not in self.task.given:
            raise ValueError(f"task {self.task.name!r} needs a text")
        length, room = self.plan.length(self._slots), self.config.backbone.max_positions
        if length > room:
            raise ValueError(
                f"text and patches take {length} of {room} positions: shorten the text or lower max_patches"
            )

    def _known_slots(self) -> int:
        """Slots whose every patch is known before anything is generated."""
        known = min(self.plan.shift(name) for name in self.task.predicted) + self._prefix
        return min(known, self._slots)

    def _known_patches(self) -> dict[str, Patch]:
        """Prefix and given patches of each stream that has any: (N, P, C) and their real frames (N, P)."""
        task, size = self.task, self.config.patch_frames
        prefix, given = self.request.prefix or Streams(), self.request.given or Streams()
        found = {}
        for name in task.given + task.predicted:
            parts = []
            missing = self._missing[name]
            if missing and name in task.given:
                raise ValueError(f"the prefix must hold the {name} that task {task.name!r} is given")
            if name in prefix:
                data = F.pad(prefix[name], (0, 0, 0, 0, missing, 0))
                exists = torch.arange(len(data)) >= missing
                parts.append((data, exists[:, None].expand(-1, size)))
            if name in task.given and name not in given:
                raise ValueError(f"task {task.name!r} needs the {name} that is given")
            if name in task.given:
                parts.append(to_patches(given[name], size))
            if parts:
                data, real = (
                    torch.cat([x.to(self._device) for x in column]) for column in zip(*parts, strict=True)
                )
                found[name] = (data, real)
        return found

    # -- the walk ------------------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether it takes part in the next step."""
        return self.finish_reason is None and not self.paused

    @property
    def at(self) -> int:
        """Position of the token that is fed next."""
        return self.plan.token(self.plan.groups[self._group][0], self._slot)

    @property
    def place(self) -> float:
        """Rotary position of that token, where the row does not read."""
        return float(self.plan.rotary(self.at + 1)[-1])

    @property
    def starts_slot(self) -> bool:
        """Whether a slot begins here: then the reading moves on."""
        return self._group == 0

    @property
    def asks(self) -> bool:
        """Whether the stop predictor is to be asked here."""
        return (
            self.starts_slot
            and self.task.ends_itself
            and self._slot - self._first >= self.request.min_patches
        )

    def judge(self, probability: float) -> None:
        """Take the stop predictor's answer; the row may end."""
        if self._counter.ends(self._slot - self._first, probability):
            self.finish_reason = "stop"

    def wanted(self) -> tuple[str, ...]:
        """Streams of which a patch is drawn here."""
        return tuple(
            name
            for name in self.plan.groups[self._group]
            if name in self._made
            and self._prefix <= self.plan.patch(name, self._slot) < self._prefix + self.limit
        )

    def draw(self, name: str) -> Tensor:
        """Initial noise (P, C) of the patch that is drawn here, on the CPU."""
        index = self.plan.patch(name, self._slot) - self._prefix
        drawn = self.noise(index, name, (self.config.patch_frames, self.config.widths[name]))
        return drawn * self.request.sampling.temperature

    def context(self, name: str) -> Tensor:
        """The patch (P, C) before the one that is drawn here."""
        return self._patch(name, self.plan.patch(name, self._slot) - 1)[0]

    def accept(self, name: str, patch: Tensor) -> None:
        """Take what was drawn here, (P, C); a patch of which every stream is there is complete."""
        self._made[name].append(patch)
        if any(len(made) <= self._complete for made in self._made.values()):
            return
        self.patches.append(Streams(**{n: made[self._complete] for n, made in self._made.items()}))
        self._complete += 1
        if self._complete == self.limit:
            self.finish_reason = "length"
        elif self._watch is not None:
            self.finish_reason = self._watch.see(self.patches[-1]["audio"])

    def has_read(self, tokens: float) -> None:
        """Take how much text has been read at the end: speech that had to fit may have run over."""
        fits = not self.task.given or "audio" in self.task.given
        if not fits and tokens < len(self.request.text_ids) - UNREAD_TOKENS:
            self.finish_reason = "overflow"

    def advance(self) -> None:
        """To the next token."""
        self._group = (self._group + 1) % self.plan.stride
        self._slot += self.starts_slot

    # -- what stands where ---------------------------------------------------------------------------------

    def known_tokens(self) -> list[dict[str, Patch | None]]:
        """`token` of every position that is prefilled behind the text."""
        return [self._token(slot, group) for slot in range(self.prefilled) for group in self.plan.groups]

    def token(self) -> dict[str, Patch | None]:
        """What the next token is the sum of, by stream: an encoded patch, or None for the absent stream's
        embedding; a stream left out adds nothing.
        """
        return self._token(self._slot, self.plan.groups[self._group])

    def _token(self, slot: int, group: tuple[str, ...]) -> dict[str, Patch | None]:
        found: dict[str, Patch | None] = {}
        for name in group:
            index = self.plan.patch(name, slot)
            if name in self.task.absent:
                found[name] = None
            elif not 0 <= index < self._missing[name]:
                found[name] = self._patch(name, index)
        return found

    def _patch(self, name: str, index: int) -> Patch:
        """Patch `index` of a stream and its real frames; zeros where there is none."""
        size, width = self.config.patch_frames, self.config.widths[name]
        data, real = self._known.get(name, (None, None))
        if data is not None and real is not None and 0 <= index < len(data):
            return data[index], real[index]
        made = self._made.get(name, [])
        exists = 0 <= index - self._prefix < len(made)
        patch = made[index - self._prefix] if exists else torch.zeros(size, width, device=self._device)
        return patch, torch.full((size,), exists, device=self._device)
