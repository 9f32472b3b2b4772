"""The generator of the talker: a causal language model with a stop predictor."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence as Several

import torch
from torch import Tensor

from heads.streams import Streams
from talker.clock import FRAME_RATE
from talker.generation.batch import Generation
from talker.generation.generator import Durations
from talker.generation.guards import Guard, repeated_tokens
from talker.generation.request import Noise, Request, TokenRequest
from talker.generation.running_batch import RunningBatch
from talker.generation.scheduler import Scheduler
from talker.generation.sequence import Sequence
from talker.model.model import TalkerModel
from talker.model.tasks import task_named
from talker.text.tokenizer import Tokenizer

IDLE_BATCHES = 2  # batches that are kept with their caches for later requests
SECONDS_PER_LETTER = 1 / 15  # for models without speech rates per token


class AutoregressiveGenerator:
    """An implementation of `talker.generation.generator.Generator`."""

    def __init__(self, model: TalkerModel, tokenizer: Tokenizer) -> None:
        """The weights of `model` must not change afterwards."""
        config = model.config
        self.model, self.tokenizer, self.defaults = model, tokenizer, config.defaults
        self.tasks = tuple(task.name for task in config.tasks)
        self.chunk_frames, self.widths = config.patch_frames, config.widths
        self.speaker_dim = config.global_widths["audio"]
        self._stats = copy.deepcopy(model.stats).cpu()
        self.scale = self._stats.deviation
        self._idle: list[RunningBatch] = []
        self._lock = threading.Lock()

    def longest(self, text: str, task: str, prefix_frames: int = 0, said: str = "") -> int:
        """See `Generator.longest`."""
        row, config = task_named(self.model.config.tasks, task), self.model.config
        tokens, before = len(self._ids(text, said)), len(self._ids(said))
        plan = config.layout.plan(tokens, row.delay)
        room = (config.backbone.max_positions - plan.start) // plan.stride - abs(row.delay)
        frames = room * self.chunk_frames - prefix_frames
        pace, most = self.defaults.pace, self.defaults.max_frames
        if row.uses_stop_predictor and pace is not None:
            seconds = pace.pauses + pace.slowest * (tokens - before)
            frames = min(frames, math.ceil(seconds * FRAME_RATE / self.chunk_frames) * self.chunk_frames)
        if row.uses_stop_predictor and most is not None:
            frames = min(frames, most)
        return frames

    def durations(self, text: str) -> Durations:
        """See `Generator.durations`."""
        pace = self.defaults.pace
        if pace is None:
            return Durations(fastest=0.0, usual=SECONDS_PER_LETTER * len(text))
        tokens = len(self._ids(text))
        return Durations(fastest=pace.fastest * tokens, usual=pace.usual * tokens)

    def generate(self, request: Request, noise: Noise | None = None) -> Generation:
        """Generate one request in a batch of its own. `noise` replaces the noise of the seed.

        Raises:
            ValueError: the request does not match the task or exceeds the cache.
        """
        with self._lock:
            running = self._idle.pop() if self._idle else RunningBatch(self.model)

        def release() -> None:
            with self._lock:
                if len(self._idle) < IDLE_BATCHES:
                    self._idle.append(running)

        return Generation(RequestBatch(self, running, noise), request, release)

    def scheduler(self, capacity: int) -> Scheduler:
        """A scheduler whose requests are rows of one running batch.

        Raises:
            ValueError: the capacity is not supported, see `running_batch.CAPACITIES`.
        """
        return Scheduler(RequestBatch(self, RunningBatch(self.model, capacity)))

    def tokenised(self, request: Request) -> TokenRequest:
        """Convert a request to token ids and normalised latents.

        Raises:
            ValueError: the text cannot be spoken, or the prefix is not a number of whole patches.
        """
        ids, before = self._ids(request.text, request.said), len(self._ids(request.said))
        prefix_frames = max((len(x) for _, x in (request.prefix or Streams()).items()), default=0)
        frames = request.frames
        if frames is None:
            frames = self.longest(request.text, request.task, prefix_frames, request.said)
        prefix = None if request.prefix is None else self._normalised(request.prefix).map(self._patches)
        words = self.tokenizer.words(_joined(request.said, request.text)) if ids else []
        return TokenRequest(
            text_ids=ids,
            task=request.task,
            speaker=torch.zeros(self.speaker_dim) if request.speaker is None else request.speaker,
            first_motion=self._stream("motion", request.first_motion),
            seed=request.seed,
            sampling=request.sampling or self.defaults.sampling,
            prefix=prefix,
            given=None if request.given is None else self._normalised(request.given),
            max_patches=-(-frames // self.chunk_frames),
            min_patches=1,
            stop=request.stop or self.defaults.stop,
            guard=self._guard(request.silence, ids[before:]),
            words=tuple(pair for pair in words if pair[1] >= before),
        )

    def _ids(self, text: str, said: str = "") -> list[int]:
        """Token ids of one prompt. It is tokenised as a whole, because a tokenizer may add a template."""
        whole = _joined(said, text)
        return self.tokenizer.encode(whole) if whole.strip() else []

    def _guard(self, silence: Tensor | None, ids: Several[int]) -> Guard | None:
        quiet = self._stream("audio", silence)
        if quiet is None:
            return None
        slowest = 0.0 if self.defaults.pace is None else self.defaults.pace.slowest
        return Guard(quiet=quiet, repeated_seconds=slowest * repeated_tokens(ids))

    def _normalised(self, raw: Streams) -> Streams:
        """Normalised latents, float32 on the CPU. Latents in float64 are normalised in float64.

        See `Sequence.tail`.
        """
        return self._stats.normalise(raw.map(Tensor.cpu)).map(Tensor.float)

    def _stream(self, name: str, raw: Tensor | None) -> Tensor | None:
        return None if raw is None else self._normalised(Streams(**{name: raw}))[name]

    def _patches(self, frames: Tensor) -> Tensor:
        """Split frames (T, C) into patches (N, P, C).

        Raises:
            ValueError: T is not a multiple of P.
        """
        if len(frames) % self.chunk_frames:
            raise ValueError(
                f"the prefix has {len(frames)} frames: cut it to whole patches of {self.chunk_frames} frames"
            )
        return frames.unflatten(0, (-1, self.chunk_frames))


class RequestBatch:
    """A `Batch` of requests in words and raw latents, which wraps a running batch of token requests."""

    def __init__(
        self, generator: AutoregressiveGenerator, running: RunningBatch, noise: Noise | None = None
    ) -> None:
        self._generator, self._running, self._noise = generator, running, noise
        self.capacity = running.capacity

    @property
    def free(self) -> int:
        """See `Batch.free`."""
        return self._running.free

    def join(self, request: Request) -> Sequence:
        """See `Batch.join`."""
        return self._running.join(self._generator.tokenised(request), self._noise)

    def step(self) -> None:
        """See `Batch.step`."""
        self._running.step()

    def leave(self, running: Sequence) -> None:
        """See `Batch.leave`."""
        self._running.leave(running)


def _joined(said: str, text: str) -> str:
    return f"{said} {text}" if said and text else said or text
