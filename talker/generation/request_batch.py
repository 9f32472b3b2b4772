"""Batches of requests in words and raw latents, for models of token ids and normalised latents."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence as Several

import torch
from torch import Tensor

from heads.streams import Streams
from talker.clock import FRAME_RATE
from talker.generation.guards import Guard, repeated_tokens
from talker.generation.request import Noise, Request, TokenRequest
from talker.generation.running_batch import RunningBatch
from talker.generation.sequence import Sequence
from talker.model.model import TalkerModel
from talker.model.tasks import task_named
from talker.text.tokenizer import Tokenizer


class RequestTokenizer:
    """Converts requests to token ids and normalised latents.

    Attributes:
        stats: statistics of the raw latents, on the CPU.
    """

    def __init__(self, model: TalkerModel, tokenizer: Tokenizer) -> None:
        """The weights of `model` must not change afterwards."""
        self._config, self._tokenizer = model.config, tokenizer
        self._defaults, self._patch_frames = model.config.defaults, model.config.patch_frames
        self._no_speaker = torch.zeros(model.config.global_widths["audio"])
        self.stats = copy.deepcopy(model.stats).cpu()

    def longest(self, text: str, task: str, prefix_frames: int = 0, said: str = "") -> int:
        """See `Generator.longest`."""
        row, config = task_named(self._config.tasks, task), self._config
        plan = config.layout.plan(len(self._prompt(_joined(said, text))), row.delay)
        room = (config.backbone.max_positions - plan.start) // plan.stride - abs(row.delay)
        frames = room * self._patch_frames - prefix_frames
        pace, most = self._defaults.pace, self._defaults.max_frames
        if row.uses_stop_predictor and pace is not None:
            seconds = pace.pauses + pace.slowest * len(self._spoken(text, said))
            frames = min(frames, math.ceil(seconds * FRAME_RATE / self._patch_frames) * self._patch_frames)
        if row.uses_stop_predictor and most is not None:
            frames = min(frames, most)
        return frames

    def __call__(self, request: Request) -> TokenRequest:
        """Convert a request to token ids and normalised latents.

        Raises:
            ValueError: the text cannot be spoken, or the prefix is not a number of whole patches.
        """
        whole, said = _joined(request.said, request.text), request.said
        ids = self._prompt(whole)
        prefix_frames = max((len(x) for _, x in (request.prefix or Streams()).items()), default=0)
        frames = request.frames
        if frames is None:
            frames = self.longest(request.text, request.task, prefix_frames, request.said)
        prefix = None if request.prefix is None else self._normalised(request.prefix).map(self._patches)
        words = self._tokenizer.words(whole)[len(self._tokenizer.words(said)) if said else 0 :] if ids else []
        return TokenRequest(
            text_ids=ids,
            task=request.task,
            speaker=self._no_speaker if request.speaker is None else request.speaker,
            first_motion=self._stream("motion", request.first_motion),
            seed=request.seed,
            sampling=request.sampling or self._defaults.sampling,
            prefix=prefix,
            given=None if request.given is None else self._normalised(request.given),
            max_patches=-(-frames // self._patch_frames),
            min_patches=1,
            stop=request.stop or self._defaults.stop,
            guard=self._guard(request.silence, self._spoken(request.text, said)),
            words=tuple(words),
        )

    def _prompt(self, whole: str) -> list[int]:
        """Token ids of a prompt. It is tokenised as a whole, because a tokenizer may add a template."""
        return self._tokenizer.encode(whole) if whole.strip() else []

    def _spoken(self, text: str, said: str) -> list[int]:
        """Tokens of `text` after `said`, without a template."""
        whole = _joined(said, text)
        if not whole.strip():
            return []
        return self._tokenizer.tokens(whole)[len(self._tokenizer.tokens(said)) if said else 0 :]

    def _guard(self, silence: Tensor | None, ids: Several[int]) -> Guard | None:
        quiet, rule = self._stream("audio", silence), self._defaults.guard
        if quiet is None or rule is None:
            return None
        slowest = 0.0 if self._defaults.pace is None else self._defaults.pace.slowest
        return Guard(quiet=quiet, rule=rule, repeated_seconds=slowest * repeated_tokens(ids))

    def _normalised(self, raw: Streams) -> Streams:
        """Normalised latents, float32 on the CPU. Latents in float64 are normalised in float64.

        See `Sequence.tail`.
        """
        return self.stats.normalise(raw.map(Tensor.cpu)).map(Tensor.float)

    def _stream(self, name: str, raw: Tensor | None) -> Tensor | None:
        return None if raw is None else self._normalised(Streams(**{name: raw}))[name]

    def _patches(self, frames: Tensor) -> Tensor:
        """Split frames (T, C) into patches (N, P, C).

        Raises:
            ValueError: T is not a multiple of P.
        """
        if len(frames) % self._patch_frames:
            raise ValueError(
                f"the prefix has {len(frames)} frames: cut it to whole patches of {self._patch_frames} frames"
            )
        return frames.unflatten(0, (-1, self._patch_frames))


class RequestBatch:
    """A `Batch` of requests in words and raw latents, which wraps a running batch of token requests."""

    def __init__(self, convert: RequestTokenizer, running: RunningBatch, noise: Noise | None = None) -> None:
        """`noise` replaces the noise of the seeds."""
        self._convert, self._running, self._noise = convert, running, noise
        self.capacity = running.capacity

    @property
    def free(self) -> int:
        """See `Batch.free`."""
        return self._running.free

    def prepare(self, request: Request) -> TokenRequest:
        """See `Batch.prepare`."""
        return self._convert(request)

    def join(self, prepared: TokenRequest) -> Sequence:
        """See `Batch.join`."""
        return self._running.join(prepared, self._noise)

    def step(self) -> None:
        """See `Batch.step`."""
        self._running.step()

    def leave(self, running: Sequence) -> None:
        """See `Batch.leave`."""
        self._running.leave(running)


def _joined(said: str, text: str) -> str:
    return f"{said} {text}" if said and text else said or text
