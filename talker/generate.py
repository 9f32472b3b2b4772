"""One request becomes an iterator of patches. Decisions here; tensors in the model."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from heads.head import Condition, Sampling
from heads.streams import NAMES, Streams
from talker.cache import KVCache
from talker.model import TalkerModel
from talker.tasks import task_named
from talker.training_batch import to_patches

# Standard normal noise (P, C) of a patch, counted from the first that is generated, and a stream.
Noise = Callable[[int, str, tuple[int, int]], Tensor]


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When the stop predictor is believed.

    Args:
        threshold: probability from which on an answer counts.
        hits: how many in a row end the speech; one miss starts the count anew.
        first: patches made before the predictor is asked at all.
    """

    threshold: float = 0.5
    hits: int = 1
    first: int = 0

    @classmethod
    def paper(cls) -> StopRule:
        """The first time p exceeds one half."""
        return cls()

    @classmethod
    def release(cls) -> StopRule:
        """Three times in a row, asked after seven patches: so never before patch nine."""
        return cls(hits=3, first=7)

    @classmethod
    def never(cls) -> StopRule:
        """Run to the limit."""
        return cls(threshold=2.0)


@dataclass
class StopCounter:
    """The state of a stop rule while a request runs."""

    rule: StopRule
    streak: int = 0

    def ends(self, patches: int, probability: float) -> bool:
        """Whether to stop now, after so many patches, given the probability at the current hidden state."""
        if patches < self.rule.first:
            return False
        self.streak = self.streak + 1 if probability >= self.rule.threshold else 0
        return self.streak >= self.rule.hits


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to generate. All latents are normalised.

    Args:
        text_ids: token ids of the text; may be empty where audio is given.
        task: name of a row of the model's task table.
        speaker: (G,) speaker embedding.
        first_motion: (M,) motion of the first frame; not needed for a task without motion.
        seed: decides the noise.
        sampling: how a patch is drawn.
        prefix: (N, P, C) per stream, patches that precede; the text begins with theirs. A stream left out of
            the prefix has no tokens there (the published speech-only prefix).
        given: (T, C) frames of the task's given streams, behind the prefix; they fix the length.
        max_patches: at most so many patches are generated.
        min_patches: the stop rule is not asked before so many.
        stop: when to believe the stop predictor; only asked where no stream is given.
    """

    text_ids: Sequence[int]
    task: str
    speaker: Tensor
    first_motion: Tensor | None = None
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    prefix: Streams | None = None
    given: Streams | None = None
    max_patches: int = 188
    min_patches: int = 0
    stop: StopRule = field(default_factory=StopRule)


def drawn_noise(seed: int) -> Noise:
    """Noise as a function of (seed, patch index, stream) alone, made on the CPU."""

    def noise(patch: int, stream: str, shape: tuple[int, int]) -> Tensor:
        key = struct.pack("<qqq", seed, patch, NAMES.index(stream))
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little", signed=True)
        return torch.randn(shape, generator=torch.Generator().manual_seed(number))

    return noise


def generate(model: TalkerModel, request: Request, noise: Noise | None = None) -> Generation:
    """The patches of a request, made as they are asked for; `noise` replaces the seed's.

    Raises:
        ValueError: the request does not fit the task or the cache.
    """
    return Generation(model, request, noise or drawn_noise(request.seed))


class Generation:
    """Iterator of Streams of (P, C): the streams that the task predicts, one patch each, without the prefix.

    `finish_reason` is None while it runs, then "stop" or "length".
    """

    def __init__(self, model: TalkerModel, request: Request, noise: Noise) -> None:
        self.model, self.request, self.noise = model, request, noise
        self.task = task_named(model.config.tasks, request.task)
        self.plan = model.config.layout.plan(len(request.text_ids), self.task.delay)
        self.finish_reason: str | None = None
        self.hidden: Tensor | None = None
        self._device = model.motion_pad_emb.device
        self._reads = model.reading is not None and len(request.text_ids) > 0
        self._read = torch.zeros((), device=self._device)
        self._known = _known_patches(model, request)
        self._prefix = max((len(x) for _, x in (request.prefix or Streams()).items()), default=0)
        self.limit = request.max_patches
        for name in self.task.given:
            self.limit = min(self.limit, len(self._known[name][0]) - self._prefix)
        self._made: dict[str, list[Tensor]] = {name: [] for name in self.task.predicted}
        self._check()
        self._patches = self._run()

    def __iter__(self) -> Iterator[Streams]:
        return self

    def __next__(self) -> Streams:
        with torch.inference_mode():
            return next(self._patches)

    def _check(self) -> None:
        known = self.task.given + self.task.predicted
        if self.limit < 1:
            raise ValueError("nothing to generate: there are no given frames, or max_patches is 0")
        if "motion" in known and self.request.first_motion is None:
            raise ValueError(f"task {self.task.name!r} needs first_motion, the motion of the first frame")
        if not self.request.text_ids and "audio" not in self.task.given:
            raise ValueError(f"task {self.task.name!r} needs a text")
        length = self.plan.length(self._slots())
        if length > self.model.config.backbone.max_positions:
            raise ValueError(
                f"text and patches take {length} of {self.model.config.backbone.max_positions} positions: "
                "shorten the text or lower max_patches"
            )

    def _slots(self) -> int:
        return self.plan.slots(dict.fromkeys(self._made, self._prefix + self.limit))

    # -- the loop ------------------------------------------------------------------------------------------

    def _run(self) -> Iterator[Streams]:
        model, request = self.model, self.request
        cache = KVCache.empty(model.config.backbone, 1, self._device, model.motion_pad_emb.dtype)
        counter = StopCounter(request.stop)
        first = self._known_slots()
        # The reading of a known slot follows from the hidden state before it: such slots go one by one.
        prefilled = 0 if self._reads else first
        self.hidden = self._prefill(prefilled, cache)
        yielded = 0
        for slot in range(prefilled, self._slots()):
            if self._reads:
                assert model.reading is not None
                read = self._read + model.reading(self.hidden)
                self._read = read.clamp(0, len(request.text_ids))
            asked = self.task.ends_itself and slot - first >= request.min_patches
            if asked and counter.ends(slot - first, float(model.stop_head(self.hidden).sigmoid())):
                self.finish_reason = "stop"
                return
            for group in self.plan.groups:
                if group is not self.plan.groups[0]:
                    self._feed(slot, self.plan.groups[0], cache)
                self._sample(slot, group)
            while yielded < self.limit and all(len(made) > yielded for made in self._made.values()):
                yield Streams(**{name: made[yielded] for name, made in self._made.items()})
                yielded += 1
            if yielded < self.limit:
                self._feed(slot, self.plan.groups[-1], cache)
        self.finish_reason = "length"

    def _known_slots(self) -> int:
        """Slots whose every patch is known before anything is generated."""
        known = min(self.plan.shift(name) for name in self.task.predicted) + self._prefix
        return min(known, self._slots())

    def _prefill(self, slots: int, cache: KVCache) -> Tensor:
        """Task, text and known slots into the cache; the last hidden state (width,)."""
        model = self.model
        ids = torch.as_tensor(list(self.request.text_ids), dtype=torch.int64, device=self._device)
        tokens = list(model.backbone.embed_tokens(ids))
        task = model.task_embedding.weight[self.task.row]
        prepended = model.config.layout.task_token == "prepend"
        if prepended:
            tokens.insert(0, task)
        for slot in range(slots):
            for group in self.plan.groups:
                token = self._token(slot, group)
                added = not prepended and slot == 0 and group is self.plan.groups[0]
                tokens.append(token + task if added else token)
        positions = self.plan.rotary(len(tokens)).to(self._device)
        return model.backbone.prefill(torch.stack(tokens)[None], positions[None], cache, 0)

    def _feed(self, slot: int, group: tuple[str, ...], cache: KVCache) -> None:
        at = self.plan.token(group[0], slot)
        if self._reads:
            positions = self.plan.rotated_at(self._read)[None]
        else:
            positions = self.plan.rotary(at + 1)[-1:].to(self._device)
        token = self._token(slot, group)[None]
        self.hidden = self.model.backbone.step(
            token, positions, torch.tensor([at], device=self._device), cache
        )[0]

    def _sample(self, slot: int, group: tuple[str, ...]) -> None:
        """Draw the patches of this slot's group that are not known, in one call of the heads."""
        wanted = [
            name
            for name in group
            if name in self._made and self._prefix <= self.plan.patch(name, slot) < self._prefix + self.limit
        ]
        if not wanted:
            return
        widths, size = self.model.config.widths, self.model.config.patch_frames
        noise, context = {}, {}
        for name in wanted:
            index = self.plan.patch(name, slot)
            drawn = self.noise(index - self._prefix, name, (size, widths[name]))
            noise[name] = drawn.to(self._device)[None]
            context[name] = self._patch(name, index - 1)[0][None]
        every = {"audio": self.request.speaker, "motion": self.request.first_motion}
        global_ = {name: value.to(self._device)[None] for name, value in every.items() if value is not None}
        assert self.hidden is not None
        condition = Condition(self.hidden[None], Streams(**context), Streams(**global_))
        drawn_patches = self.model.heads.sample(condition, Streams(**noise), self.request.sampling)
        for name in wanted:
            self._made[name].append(drawn_patches[name][0])

    # -- what stands where ---------------------------------------------------------------------------------

    def _patch(self, name: str, index: int) -> tuple[Tensor, Tensor]:
        """Patch `index` of a stream, (P, C), and its real frames (P,); zeros where there is none."""
        size = self.model.config.patch_frames
        data, real = self._known.get(name, (None, None))
        if data is not None and real is not None and 0 <= index < len(data):
            return data[index], real[index]
        made = self._made.get(name, [])
        if 0 <= index - self._prefix < len(made):
            return made[index - self._prefix], torch.ones(size, dtype=torch.bool, device=self._device)
        width = self.model.config.widths[name]
        return (
            torch.zeros(size, width, device=self._device),
            torch.zeros(size, dtype=torch.bool, device=self._device),
        )

    def _token(self, slot: int, group: tuple[str, ...]) -> Tensor:
        """Input embedding (width,) of one position of a slot: the sum of its streams' embeddings."""
        total = torch.zeros_like(self.model.motion_pad_emb[0, 0])
        for name in group:
            index = self.plan.patch(name, slot)
            if name in self.task.absent:
                total = total + self.model.motion_pad_emb[0, 0]
            elif name in self._known or not 0 <= index < self._prefix:
                frames, real = self._patch(name, index)
                total = total + self.model.patch_encoders[name](frames[None], real[None])[0]
        return total


def _known_patches(model: TalkerModel, request: Request) -> dict[str, tuple[Tensor, Tensor]]:
    """Prefix and given patches of each stream that has any: (N, P, C) and their real frames (N, P)."""
    task = task_named(model.config.tasks, request.task)
    device = model.motion_pad_emb.device
    prefix, given = request.prefix or Streams(), request.given or Streams()
    missing = [name for name in task.given if name not in given]
    if missing:
        raise ValueError(f"task {task.name!r} needs the {missing[0]} that is given")
    found = {}
    for name in task.given + task.predicted:
        parts = []
        if name in prefix:
            parts.append((prefix[name], torch.ones(prefix[name].shape[:2], dtype=torch.bool)))
        elif name in task.given and len(list(prefix.items())):
            raise ValueError(f"the prefix must hold the {name} that task {task.name!r} is given")
        if name in task.given:
            parts.append(to_patches(given[name], model.config.patch_frames))
        if parts:
            data, real = (torch.cat([x.to(device) for x in column]) for column in zip(*parts, strict=True))
            found[name] = (data, real)
    return found
