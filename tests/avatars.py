"""Helpers for tests of avatars: sound, and what live animation makes of it on the same batch."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import numpy as np
from takes import QUICK, joined

from talker import Talker
from talker.clips.animate import LiveAnimation
from talker.generation.scheduler import Scheduler
from talker.identity import Portrait
from talker.stages import Channel

FormatOf = tuple[bytes, int, int]  # samples, rate, channels
Result = TypeVar("Result")


def run(program: Coroutine[object, object, Result]) -> Result:
    """Run a program in an event loop. TimeoutError after 20 s."""
    return asyncio.run(asyncio.wait_for(program, 20))


def pcm16(seconds: float) -> np.ndarray:
    """Noise whose level changes: int16 samples (n,) for `seconds` at 24 kHz, not a whole number of frames."""
    n = round(seconds * 24_000) + 123
    level = 3000 * (1.2 + np.sin(np.arange(n) / 1500))
    return (level * np.random.default_rng(0).standard_normal(n)).clip(-32768, 32767).astype("<i2")


def live(
    talker: Talker, scheduler: Scheduler, portrait: Portrait, sound: np.ndarray, seed: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Samples (n,) and frames of `LiveAnimation` for samples (n,) float32."""
    channel: Channel[np.ndarray] = Channel(1)
    channel.put(sound)
    channel.close()
    clip = LiveAnimation(talker.system, channel, portrait, None, seed, QUICK)
    return joined(clip.take().chunks(scheduler.submit))


def frames_of(talker: Talker, scheduler: Scheduler, portrait: Portrait, pcm: np.ndarray) -> list[bytes]:
    """The frames of `live` for samples (n,) int16."""
    return [frame.tobytes() for frame in live(talker, scheduler, portrait, pcm / np.float32(32768))[1]]


async def freed(scheduler: Scheduler) -> None:
    """Wait until no row of the batch is in use."""
    for _ in range(200):
        if not scheduler._active and scheduler._batch.free == scheduler.capacity:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a row was not freed within 2 s")
