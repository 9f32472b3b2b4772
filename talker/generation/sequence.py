"""The state of one request: its inputs, its outputs and its end. It uses no network.

Single generations and the rows of a running batch use the same state machine.
"""

from __future__ import annotations

from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.streams import NAMES, Streams
from talker.generation.guards import GuardState
from talker.generation.request import Noise, StopCounter, TokenRequest
from talker.model.config import TalkerConfig
from talker.model.stats import LatentStats
from talker.model.tasks import task_named
from talker.model.training_batch import to_patches

# If all of a text is spoken, the alignment ends within this distance of the last token.
UNSPOKEN_TOKENS = 2
# The patch (P, C) of one stream in a token, and a mask of its real frames (P,).
Patch = tuple[Tensor, Tensor]


class Sequence:
    """A running request. It advances token by token. A slot has one token, or one token per stream if the
    streams are interleaved.

    At each token, the batch draws the patches of the streams in `wanted`, passes them to `accept`, feeds the
    token and, if the sequence still runs, calls `advance`. If `checks_stop` is then true, it passes the
    probability of the stop predictor to `apply_stop`. All tensors are on the CPU.

    Attributes:
        patches: generated raw latents (P, C) per stream, oldest first; the owner of the request removes them.
        finish_reason: None while the sequence runs, then "stop" (the stop predictor ended it), "length" (the
            given frames or `max_patches` ended), "overflow" (the given frames ended before all text was
            spoken), "silence" or "repetition" (the guard ended it), or "interrupted" (it left the batch).
        paused: whether the batch skips the sequence.
        prefilled: number of slots that are prefilled together with the text.
    """

    def __init__(self, config: TalkerConfig, request: TokenRequest, noise: Noise, stats: LatentStats) -> None:
        """Raises ValueError if the request does not match the task or exceeds the cache."""
        self.config, self.request, self.noise, self._stats = config, request, noise, stats
        self.task = task_named(config.tasks, request.task)
        self.plan = config.layout.plan(len(request.text_ids), self.task.delay)
        self.finish_reason: str | None = None
        self.paused = False
        lengths = {name: len(x) for name, x in (request.prefix or Streams()).items()}
        self._prefix = max(lengths.values(), default=0)
        # Number of patches at the start of the prefix that each stream lacks.
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
        guarded = request.guard is not None and self.task.uses_stop_predictor
        self._guard_state = GuardState(request.guard) if guarded and request.guard is not None else None
        # The alignment of a known slot depends on the hidden state before it, so such slots cannot be
        # prefilled together.
        self.aligned = config.reading > 0 and len(request.text_ids) > 0
        self._finished = False  # whether all text was spoken and a silent patch followed
        self._spoken: list[float] = []  # text tokens spoken by the end of each complete patch
        self._first = self._known_slots()
        self.prefilled = 0 if self.aligned else self._first
        self._slot, self._group = self.prefilled, 0

    def _check(self) -> None:
        known = self.task.given + self.task.predicted
        if self.limit < 1:
            raise ValueError("nothing to generate: give frames, or set max_patches to 1 or more")
        if "motion" in known and self.request.first_motion is None:
            raise ValueError(
                f"task {self.task.name!r} needs first_motion, the motion code of the first frame"
            )
        if not self.request.text_ids and "audio" not in self.task.given:
            raise ValueError(f"task {self.task.name!r} needs a text")
        length, room = self.plan.length(self._slots), self.config.backbone.max_positions
        if length > room:
            raise ValueError(
                f"text and patches take {length} of {room} positions: shorten the text or lower max_patches"
            )

    def _known_slots(self) -> int:
        """Number of slots whose patches are all known before generation."""
        known = min(self.plan.shift(name) for name in self.task.predicted) + self._prefix
        return min(known, self._slots)

    def _known_patches(self) -> dict[str, Patch]:
        """Prefix and given patches (N, P, C) of each stream that has any, and masks (N, P) of real frames."""
        task, size = self.task, self.config.patch_frames
        prefix, given = self.request.prefix or Streams(), self.request.given or Streams()
        found = {}
        for name in task.given + task.predicted:
            parts = []
            missing = self._missing[name]
            if missing and name in task.given:
                raise ValueError(f"task {task.name!r} needs {name} in the prefix, because {name} is given")
            if name in prefix:
                data = F.pad(prefix[name].cpu(), (0, 0, 0, 0, missing, 0))
                exists = torch.arange(len(data)) >= missing
                parts.append((data, exists[:, None].expand(-1, size)))
            if name in task.given and name not in given:
                raise ValueError(f"task {task.name!r} needs the {name} frames in `given`")
            if name in task.given:
                parts.append(to_patches(given[name].cpu(), size))
            if parts:
                data, real = (torch.cat(column) for column in zip(*parts, strict=True))
                found[name] = (data, real)
        return found

    # -- one token -----------------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether the sequence takes part in the next step."""
        return self.finish_reason is None and not self.paused

    @property
    def cell(self) -> int:
        """Cache position of the next token."""
        return self.plan.token(self.plan.groups[self._group][0], self._slot)

    @property
    def position(self) -> float:
        """Rotary position of the next token, if the sequence has no alignment."""
        return float(self.plan.rotary_of(self.cell))

    @property
    def starts_slot(self) -> bool:
        """Whether the next token is the first of a slot. The alignment advances once per slot."""
        return self._group == 0

    @property
    def checks_stop(self) -> bool:
        """Whether the stop predictor is used before the next token."""
        return (
            self.starts_slot
            and self.task.uses_stop_predictor
            and self._slot - self._first >= self.request.min_patches
        )

    def apply_stop(self, probability: float) -> None:
        """Apply the stop rule to the `probability` of the stop predictor. May set the finish reason."""
        if self._counter.ends(self._slot - self._first, probability):
            self.finish_reason = "stop"

    def wanted(self) -> tuple[str, ...]:
        """Streams whose patches are drawn for the next token."""
        return tuple(
            name
            for name in self.plan.groups[self._group]
            if name in self._made
            and self._prefix <= self.plan.patch(name, self._slot) < self._prefix + self.limit
        )

    @property
    def completes(self) -> bool:
        """Whether the next token completes the last patch, so that the sequence ends."""
        return self._complete + 1 == self.limit and set(self.wanted()) == set(self._made)

    def draw(self, name: str) -> Tensor:
        """Initial noise (P, C) of the next patch of stream `name`."""
        index = self.plan.patch(name, self._slot) - self._prefix
        drawn = self.noise(index, name, (self.config.patch_frames, self.config.widths[name]))
        return drawn * self.request.sampling.temperature

    def context(self, name: str) -> Tensor:
        """The previous patch (P, C) of stream `name`; zeros before the first."""
        return self._patch(name, self.plan.patch(name, self._slot) - 1)[0]

    def given(self, name: str) -> Tensor | None:
        """The patch (P, C) of a given stream with the index of the patches that are drawn next, or None.

        Call it only if `wanted` is not empty.
        """
        if name not in self.task.given:
            return None
        return self._known[name][0][self.plan.patch(self.task.predicted[0], self._slot)]

    def accept(self, drawn: dict[str, Tensor], spoken: float) -> None:
        """Add drawn patches (P, C) of the streams in `wanted`.

        `spoken`: number of text tokens spoken so far. May set the finish reason.
        """
        for name, patch in drawn.items():
            self._made[name].append(self._silence_stray_speech(patch, spoken) if name == "audio" else patch)
        if not drawn or any(len(made) <= self._complete for made in self._made.values()):
            return
        complete = Streams(**{name: made[self._complete] for name, made in self._made.items()})
        self.patches.append(self._stats.denormalise(complete))
        self._spoken.append(spoken)
        self._complete += 1
        if self._complete == self.limit:
            self.finish_reason = "overflow" if self._overflows(spoken) else "length"
        elif self._guard_state is not None:
            self.finish_reason = self._guard_state.update(complete["audio"])

    def _silence_stray_speech(self, patch: Tensor, spoken: float) -> Tensor:
        """Replace stray syllables by silence where given motion lasts longer than the text.

        Returns the audio patch (P, C), or silence if the patch is audible although all text has been spoken
        and a silent patch has followed it.
        """
        guard = self.request.guard
        if guard is None or not (self.task.given and self.aligned):
            return patch
        audible = bool(((patch - guard.quiet).square().mean(1) > guard.rule.near_quiet**2).any())
        if spoken >= len(self.request.text_ids) - UNSPOKEN_TOKENS:
            self._finished |= not audible
        return guard.quiet.expand_as(patch).clone() if self._finished and audible else patch

    def _overflows(self, spoken: float) -> bool:
        """Whether the given frames ended before all text was spoken."""
        fits = not self.task.given or "audio" in self.task.given
        unspoken = len(self.request.text_ids) - UNSPOKEN_TOKENS
        return self.aligned and not fits and spoken < unspoken

    def advance(self) -> None:
        """Move to the next token."""
        self._group = (self._group + 1) % self.plan.stride
        self._slot += self.starts_slot

    # -- results -------------------------------------------------------------------------------------------

    @property
    def words(self) -> list[tuple[str, int]]:
        """(word, first frame) of the words spoken so far. Empty if the model has no alignment."""
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
        """The last `frames` generated raw frames (T, C) of each stream, in float64.

        In float64, normalising them for the prefix of a following request gives exactly the values that the
        model generated.
        """
        made = {name: made[: self._complete] for name, made in self._made.items()}
        kept = Streams(**{name: torch.cat(patches)[-frames:] for name, patches in made.items() if patches})
        return self._stats.denormalise(kept.map(Tensor.double))

    # -- inputs --------------------------------------------------------------------------------------------

    def known_tokens(self) -> list[dict[str, Patch | None]]:
        """The tokens that are prefilled after the text; each as in `token`."""
        return [self._token(slot, group) for slot in range(self.prefilled) for group in self.plan.groups]

    def token(self) -> dict[str, Patch | None]:
        """The patches of the next token by stream. None stands for the embedding of an absent stream.

        Streams that are left out add nothing to the input embedding. Patches of streams in `wanted` are
        placeholders for the drawn patches.
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
        """Patch `index` of a stream and the mask of its real frames; zeros if the patch does not exist."""
        size, width = self.config.patch_frames, self.config.widths[name]
        data, real = self._known.get(name, (None, None))
        if data is not None and real is not None and 0 <= index < len(data):
            return data[index], real[index]
        made = self._made.get(name, [])
        exists = 0 <= index - self._prefix < len(made)
        patch = made[index - self._prefix] if exists else torch.zeros(size, width)
        return patch, torch.full((size,), exists)
