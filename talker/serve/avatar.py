"""An avatar: live sound in, frames of video with their sound out, for programs that run on asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.sampling import Sampling
from talker.clips.animate import LiveAnimation
from talker.clock import FRAME_RATE, HOP
from talker.generation.request import Request
from talker.generation.scheduler import Scheduler, Ticket
from talker.identity import Portrait
from talker.media.readers import StreamResampler
from talker.media.sound import SAMPLE_RATES
from talker.pipeline import Talker
from talker.stages import Cancelled, Channel

WAITING_PIECES = 500  # pieces of sound of a segment that are not read yet
WAITING_SEGMENTS = 8
WAITING_FRAMES = 8


@dataclass(frozen=True)
class Frame:
    """A frame of video with its sound.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        pcm: 16-bit samples, mono at 24 kHz: 40 ms, or less in the last frame of a segment.
    """

    pixels: np.ndarray
    pcm: bytes


@dataclass(frozen=True)
class _Piece:
    """Interleaved 16-bit samples as they were pushed."""

    data: bytes
    rate: int
    channels: int

    def __post_init__(self) -> None:
        low, high = SAMPLE_RATES
        if not low <= self.rate <= high or self.channels < 1 or len(self.data) % (2 * self.channels):
            raise ValueError(
                f"{len(self.data)} bytes of sound with {self.channels} channels at {self.rate} Hz: give "
                f"whole 16-bit samples at {low} to {high} Hz"
            )

    def mono(self) -> np.ndarray:
        """Samples (n,) float32."""
        samples = np.frombuffer(self.data, "<i2").reshape(-1, self.channels)
        return samples.mean(1, dtype=np.float32) / 32768


class _Sound(Channel[Any]):
    """A channel of pieces. Iteration yields samples (n,) float32, mono at 24 kHz."""

    def __iter__(self) -> Iterator[np.ndarray]:
        for rate, pieces in itertools.groupby(super().__iter__(), lambda piece: piece.rate):
            resampler = StreamResampler(rate)
            for piece in pieces:
                yield from (samples.numpy() for samples in resampler.push(piece.mono()))
            rest = resampler.push(np.zeros(0, np.float32), last=True)
            yield from (samples.numpy() for samples in rest)


class Segment:
    """Sound without a pause, such as one answer of an agent, and its video.

    Attributes:
        sound: where the pieces of sound go.
        cancelled: whether `cancel` was called.
    """

    def __init__(self, clip: LiveAnimation, generate: Callable[[Request], Ticket]) -> None:
        """`clip`: the plan, whose channel is replaced; `generate`: starts a generation."""
        self.sound = _Sound(WAITING_PIECES)
        self.cancelled = False
        self._take = dataclasses.replace(clip, sound=self.sound).take()
        self._generate = generate
        self._ticket: Ticket | None = None
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """End the segment: its row of the batch is free at the next patch. Never waits for it."""
        with self._lock:
            self.cancelled = True
            if self._ticket is not None:
                self._ticket.cancel()
        self.sound.cancel()

    def results(self) -> Generator[Frame | Exception | None]:
        """Yield the frames, then None, or the error that ended the segment."""
        try:
            with contextlib.closing(self._take.chunks(self._submit)) as chunks:  # type: ignore[type-var]
                for chunk in chunks:
                    samples = np.rint(chunk.pcm * 32768).clip(-32768, 32767).astype("<i2")
                    for start, pixels in zip(itertools.count(0, HOP), chunk.frames, strict=False):
                        yield Frame(pixels, samples[start : start + HOP].tobytes())
        except Exception as error:
            yield error
        else:
            yield None

    def _submit(self, request: Request) -> Ticket:
        with self._lock:
            if self.cancelled:
                raise Cancelled
            self._ticket = self._generate(request)
            return self._ticket


class Avatar:
    """A portrait that speaks the sound that is pushed, segment after segment, as rows of a shared batch.

    It is an asynchronous iterator over `Frame`s, with None at the end of each segment. It raises the error of
    a segment that failed, and can be continued with the next segment. The frames and their sound are those of
    `Talker.animate_stream`, at the capacity of the scheduler. All methods are called in one event loop and
    never block it: one worker thread generates up to WAITING_FRAMES frames that are not read yet.

    Attributes:
        clears: number of calls of `clear`. A frame that was read before the last one is out of date.
    """

    def __init__(
        self,
        talker: Talker,
        scheduler: Scheduler,
        portrait: Portrait,
        level: float | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> None:
        """Prepare the avatar.

        Args:
            talker: the model.
            scheduler: the batch, `talker.system.generator.scheduler(capacity)`. It is not closed here.
            portrait, level, seed, sampling: see `Talker.animate_stream`.

        Raises:
            UserError: the model encodes only whole recordings, or the level is out of range.
        """
        self._clip = LiveAnimation(talker.system, Channel(1), portrait, level, seed, sampling)
        self._generate = scheduler.submit
        self.clears = 0
        self._open: Segment | None = None  # receives the sound
        self._unfinished: deque[Segment] = deque()  # those whose end was not read
        self._segments: Channel[Segment] = Channel(WAITING_SEGMENTS)
        self._results: asyncio.Queue[tuple[Segment | None, Frame | Exception | None]] = asyncio.Queue(
            WAITING_FRAMES
        )
        self._worker: threading.Thread | None = None

    @property
    def resolution(self) -> int:
        """Width and height of the frames."""
        return self._clip.system.resolution

    async def still(self) -> np.ndarray:
        """Render the portrait as it is before it speaks: (H, W, 3) uint8 RGB."""
        system, portrait = self._clip.system, self._clip.portrait
        return await asyncio.to_thread(
            lambda: next(system.render([portrait.motion[None]], portrait.source))[0]
        )

    async def push(self, data: bytes, rate: int, channels: int) -> None:
        """Append sound to the open segment, or to a new one. Waits while too much is not generated yet.

        Args:
            data: 16-bit samples, channels interleaved.
            rate: samples per second.
            channels: number of channels. Their mean is used.

        Raises:
            ValueError: the format is impossible, or `finish` was called.
        """
        if not data:
            return
        piece = _Piece(data, rate, channels)
        segment = self._open
        if segment is None:
            self._start()
            self._open = segment = Segment(self._clip, self._generate)
            self._unfinished.append(segment)
            await _put(self._segments, segment)
        await _put(segment.sound, piece)

    def end(self) -> None:
        """End the open segment. The following sound belongs to another one."""
        if self._open is not None:
            self._open.sound.close()
            self._open = None

    def clear(self) -> None:
        """Drop all segments. Their frames do not come any more, and their row is free at the next patch."""
        self.clears += 1
        for segment in self._unfinished:
            segment.cancel()
        self._unfinished.clear()
        self._open = None

    def finish(self) -> None:
        """End the open segment and the iteration after it."""
        self.end()
        self._start()
        self._segments.close()

    async def close(self) -> None:
        """Drop all segments, and end the iteration and the thread."""
        self._segments.cancel()
        self.clear()
        while self._worker is not None and self._worker.is_alive():
            self._drop_results()  # the thread may wait for room
            await asyncio.sleep(0.01)
        self._drop_results()
        self._results.put_nowait((None, None))

    def __aiter__(self) -> Avatar:
        return self

    async def __anext__(self) -> Frame | None:
        while True:
            segment, result = await self._results.get()
            if segment is None:
                self._results.put_nowait((None, None))  # for the next call
                raise StopAsyncIteration
            if segment.cancelled:
                continue
            if isinstance(result, Frame):
                return result
            self._unfinished.popleft()
            if result is not None:
                raise result
            return None

    def _drop_results(self) -> None:
        while not self._results.empty():
            self._results.get_nowait()

    def _start(self) -> None:
        if self._worker is None:
            loop = asyncio.get_running_loop()
            self._worker = threading.Thread(target=self._work, args=(loop,), name="avatar", daemon=True)
            self._worker.start()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        def give(segment: Segment | None, result: Frame | Exception | None) -> None:
            asyncio.run_coroutine_threadsafe(self._results.put((segment, result)), loop).result()

        # `close` cancels the channel; the end of the event loop cancels a put, and later ones fail.
        with contextlib.suppress(Cancelled, concurrent.futures.CancelledError, RuntimeError):
            for segment in self._segments:
                with contextlib.closing(segment.results()) as results:
                    for result in results:
                        if segment.cancelled:
                            break
                        give(segment, result)
            give(None, None)


async def _put(channel: Channel[Any], item: Any) -> None:
    """`Channel.put` that waits without blocking the event loop. A cancelled channel drops the item."""
    with contextlib.suppress(Cancelled):
        while not channel.offer(item):
            await asyncio.sleep(1 / FRAME_RATE)
