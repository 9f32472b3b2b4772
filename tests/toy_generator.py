"""A small generator that makes a clip as a whole, for tests of the pipeline."""

from __future__ import annotations

from zlib import crc32

import torch

from heads.streams import Streams
from talker.generation.batch import Generation
from talker.generation.generator import Durations
from talker.generation.request import Request
from talker.generation.scheduler import Scheduler
from talker.generation.whole_clip import Made, WholeClipBatch
from talker.model.defaults import Defaults
from talker.text.tokenizer import PhonemeTokenizer

PREDICTED = {"tts": ("audio",), "t2av": ("audio", "motion"), "a2v": ("motion",), "v2a": ("audio",)}
FRAMES_PER_WORD, MOST_FRAMES = 8, 752


class ToyGenerator:
    def __init__(self, widths: dict[str, int], speaker_dim: int) -> None:
        self.tasks, self.tokenizer, self.defaults = tuple(PREDICTED), PhonemeTokenizer(), Defaults()
        self.chunk_frames, self.widths, self.speaker_dim = 4, widths, speaker_dim
        self.scale = Streams.of(widths, lambda name: torch.ones(widths[name]))

    def longest(self, text: str, task: str, prefix_frames: int = 0, said: str = "") -> int:
        return MOST_FRAMES if task in ("a2v", "v2a") else FRAMES_PER_WORD * len(text.split())

    def durations(self, text: str) -> Durations:
        return Durations(fastest=0.0, usual=FRAMES_PER_WORD * len(text.split()) / 25)

    def generate(self, request: Request) -> Generation:
        return Generation(self._batch(1), request)

    def scheduler(self, capacity: int) -> Scheduler:
        return Scheduler(self._batch(capacity))

    def _batch(self, capacity: int) -> WholeClipBatch:
        return WholeClipBatch(lambda requests: [self._made(request) for request in requests], capacity)

    def _made(self, request: Request) -> Made:
        words = enumerate(request.text.split())
        return self.whole(request), [(word, FRAMES_PER_WORD * number) for number, word in words]

    def whole(self, request: Request) -> Streams:
        """Sine waves (T, C) for each predicted stream, which depend on the text, seed and given frames."""
        given = [x.float().mean(1) for _, x in (request.given or Streams()).items()]
        frames = len(given[0]) if given else request.frames or self.longest(request.text, request.task)
        frames += -frames % self.chunk_frames
        phase = torch.arange(frames) * 0.3 + crc32(f"{request.seed} {request.text}".encode()) % 1000
        for x in given:
            phase[: len(x)] += x
        waves = lambda name: torch.sin(phase[:, None] + torch.arange(self.widths[name]))  # noqa: E731
        return Streams.of(PREDICTED[request.task], waves)
