"""How one request moves through its slots: its inputs, its outputs, and when it ends. No networks here.

A single generation and every row of a running batch are this same state machine.
"""

from __future__ import annotations

from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.streams import NAMES, Streams
from talker.generation.guards import Watch
from talker.generation.request import Noise, StopCounter, TokenRequest
from talker.model.config import TalkerConfig
from talker.model.stats import LatentStats
from talker.model.tasks import task_named
from talker.model.training_batch import to_patches

# Alignment ends this close to the last token of a text that was spoken to its end.
UNREAD_TOKENS = 2
# A stream's part of a token: an encoded patch (P, C) with a mask of its real frames (P,).
Patch = tuple[Tensor, Tensor]


class Sequence:
    """A request while it runs. It advances token by token; a slot has one token, or one a stream where they
    are interleaved.

    At each token, the batch draws the patches that are `wanted`, passes them to `accept`, feeds the token
    and, if the sequence still runs, calls `advance`; where it then `asks`, the stop predictor's answer goes
    to `judge`. All tensors are on the CPU.

    Attributes:
        patches: raw latents (P, C) per stream, generated and not yet taken; the owner of the request takes
            them from the left.
        finish_reason: None while it runs; "stop": the stop predictor ended it; "length": given frames or
            max_patches did; "overflow": given frames did, before the text was spoken to its end; "silence"
            and "repetition": its guard did; "interrupted": it left the batch before its end.
        paused: the batch does not advance the sequence.
        prefilled: slots that enter the cache together with the text.
    """

    def __init__(self, config: TalkerConfig, request: TokenRequest, noise: Noise, stats: LatentStats) -> None:
        """Raises ValueError where the request does not fit the task or the cache."""
        self.config, self.request, self.noise, self._stats = config, request, noise, stats
        self.task = task_named(config.tasks, request.task)
        self.plan = config.layout.plan(len(request.text_ids), self.task.delay)
        self.finish_reason: str | None = None
        self.paused = False
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
        # Alignment of a known slot follows from the hidden state before it: such slots go one by one.
        self.aligned = config.reading > 0 and len(request.text_ids) > 0
        self._finished = False  # whether the text was spoken before the given frames ended
        self._spoken: list[float] = []  # text tokens spoken by the end of each complete patch
        self._first = self._known_slots()
        self.prefilled = 0 if self.aligned else self._first
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
                data = F.pad(prefix[name].cpu(), (0, 0, 0, 0, missing, 0))
                exists = torch.arange(len(data)) >= missing
                parts.append((data, exists[:, None].expand(-1, size)))
            if name in task.given and name not in given:
                raise ValueError(f"task {task.name!r} needs the {name} that is given")
            if name in task.given:
                parts.append(to_patches(given[name].cpu(), size))
            if parts:
                data, real = (torch.cat(column) for column in zip(*parts, strict=True))
                found[name] = (data, real)
        return found

    # -- one token -----------------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether it takes part in the next step."""
        return self.finish_reason is None and not self.paused

    @property
    def cell(self) -> int:
        """Cache position of the token that is fed next."""
        return self.plan.token(self.plan.groups[self._group][0], self._slot)

    @property
    def position(self) -> float:
        """Rotary position of that token, where the sequence is not aligned."""
        return float(self.plan.rotary_of(self.cell))

    @property
    def starts_slot(self) -> bool:
        """Whether a slot begins here: then alignment advances."""
        return self._group == 0

    @property
    def asks(self) -> bool:
        """Whether the stop predictor is asked here."""
        return (
            self.starts_slot
            and self.task.ends_itself
            and self._slot - self._first >= self.request.min_patches
        )

    def judge(self, probability: float) -> None:
        """Take the stop predictor's answer; the sequence may end."""
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

    @property
    def completes(self) -> bool:
        """Whether the sequence is sure to end here, at its limit."""
        return self._complete + 1 == self.limit and set(self.wanted()) == set(self._made)

    def draw(self, name: str) -> Tensor:
        """Initial noise (P, C) of the patch that is drawn here."""
        index = self.plan.patch(name, self._slot) - self._prefix
        drawn = self.noise(index, name, (self.config.patch_frames, self.config.widths[name]))
        return drawn * self.request.sampling.temperature

    def context(self, name: str) -> Tensor:
        """The patch (P, C) before the one that is drawn here; zeros before the first."""
        return self._patch(name, self.plan.patch(name, self._slot) - 1)[0]

    def given(self, name: str) -> Tensor | None:
        """The given patch (P, C) with the number of those that are drawn here; None where there is none."""
        other = next(iter(self.task.predicted))
        index = self.plan.patch(other, self._slot)
        known = name in self.task.given and 0 <= index < len(self._known[name][0])
        return self._known[name][0][index] if known else None

    def accept(self, drawn: dict[str, Tensor], spoken: float) -> None:
        """Take what was drawn here: (P, C) for each stream of `wanted`, and the text tokens spoken so far."""
        for name, patch in drawn.items():
            self._made[name].append(self._settled(patch, spoken) if name == "audio" else patch)
        if not drawn or any(len(made) <= self._complete for made in self._made.values()):
            return
        complete = Streams(**{name: made[self._complete] for name, made in self._made.items()})
        self.patches.append(self._stats.denormalise(complete))
        self._spoken.append(spoken)
        self._complete += 1
        if self._complete == self.limit:
            self.finish_reason = "overflow" if self._overflows(spoken) else "length"
        elif self._watch is not None:
            self.finish_reason = self._watch.see(complete["audio"])

    def _settled(self, patch: Tensor, spoken: float) -> Tensor:
        """The audio patch (P, C), or silence instead of stray syllables where given motion lasts longer than
        the text: what is audible after the whole text was spoken and a silent patch followed.
        """
        guard = self.request.guard
        if guard is None or not (self.task.given and self.aligned):
            return patch
        audible = bool(((patch - guard.quiet).square().mean(1) > guard.near_quiet**2).any())
        if spoken >= len(self.request.text_ids) - UNREAD_TOKENS:
            self._finished |= not audible
        return guard.quiet.expand_as(patch).clone() if self._finished and audible else patch

    def _overflows(self, spoken: float) -> bool:
        """Whether the given frames ended before the text was spoken to its end."""
        fits = not self.task.given or "audio" in self.task.given
        unread = len(self.request.text_ids) - UNREAD_TOKENS
        return self.aligned and not fits and spoken < unread

    def advance(self) -> None:
        """To the next token."""
        self._group = (self._group + 1) % self.plan.stride
        self._slot += self.starts_slot

    # -- results -------------------------------------------------------------------------------------------

    @property
    def words(self) -> list[tuple[str, int]]:
        """(word, first frame) of the words spoken so far; empty where the model has no alignment."""
        if not self.aligned:
            return []
        size, found, patch = self.config.patch_frames, [], 0
        for word, token in self.request.words:
            while patch < len(self._spoken) and self._spoken[patch] <= token:
                patch += 1
            if patch == len(self._spoken):
                break
            before = self._spoken[patch - 1] if patch else 0.0
            share = (token - before) / max(self._spoken[patch] - before, 1e-6)
            found.append((word, patch * size + int(size * min(max(share, 0.0), 0.999))))
        return found

    def tail(self, frames: int) -> Streams:
        """The last `frames` generated frames (T, C) of each stream: raw, but in float64, so that the prefix
        of a later request has the same normalised values to the bit.
        """
        made = {name: made[: self._complete] for name, made in self._made.items()}
        kept = Streams(**{name: torch.cat(patches)[-frames:] for name, patches in made.items() if patches})
        return self._stats.denormalise(kept.map(Tensor.double))

    # -- inputs --------------------------------------------------------------------------------------------

    def known_tokens(self) -> list[dict[str, Patch | None]]:
        """`token` of every position that is prefilled behind the text."""
        return [self._token(slot, group) for slot in range(self.prefilled) for group in self.plan.groups]

    def token(self) -> dict[str, Patch | None]:
        """The parts of the next token, by stream: an encoded patch, or None for the embedding of an absent
        stream. A stream that is left out adds nothing; one that is drawn here replaces its part.
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
        patch = made[index - self._prefix] if exists else torch.zeros(size, width)
        return patch, torch.full((size,), exists)
