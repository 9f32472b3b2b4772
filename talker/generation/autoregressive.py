"""The generator of the talker: a causal language model with a stop predictor."""

from __future__ import annotations

import threading

from talker.generation.batch import Generation
from talker.generation.generator import Durations
from talker.generation.request import Noise, Request
from talker.generation.request_batch import RequestBatch, RequestTokenizer
from talker.generation.running_batch import RunningBatch
from talker.generation.scheduler import Scheduler
from talker.model.model import TalkerModel
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
        self._convert = RequestTokenizer(model, tokenizer)
        self.scale = self._convert.stats.deviation
        self._idle: list[RunningBatch] = []
        self._lock = threading.Lock()

    def longest(self, text: str, task: str, prefix_frames: int = 0, said: str = "") -> int:
        """See `Generator.longest`."""
        return self._convert.longest(text, task, prefix_frames, said)

    def durations(self, text: str) -> Durations:
        """See `Generator.durations`."""
        pace = self.defaults.pace
        if pace is None:
            return Durations(fastest=0.0, usual=SECONDS_PER_LETTER * len(text))
        tokens = len(self.tokenizer.tokens(text)) if text.strip() else 0
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

        return Generation(RequestBatch(self._convert, running, noise), request, release)

    def scheduler(self, capacity: int) -> Scheduler:
        """A scheduler whose requests are rows of one running batch.

        Raises:
            ValueError: the capacity is not supported, see `running_batch.CAPACITIES`.
        """
        return Scheduler(RequestBatch(self._convert, RunningBatch(self.model, capacity)))
