"""LiveKit: a `VideoGenerator` for `AvatarRunner`. Needs the extra `livekit`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from heads.sampling import Sampling
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.generation.scheduler import Scheduler
from talker.identity import Portrait
from talker.pipeline import Talker
from talker.serve.avatar import Avatar

try:
    from livekit import rtc
    from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarOptions, VideoGenerator
except ModuleNotFoundError as error:
    raise ImportError(
        "livekit-agents is missing: install the extra livekit, `pip install 'talker[livekit]'`"
    ) from error


class TalkerVideoGenerator(VideoGenerator):
    """A portrait that speaks the sound of a LiveKit agent.

    Iteration yields each video frame followed by its sound, and `AudioSegmentEnd` after each segment that was
    not interrupted. While no segment is spoken, it repeats the picture of the portrait 25 times a second, so
    that participants who join see it.
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
        """See `Avatar`."""
        self._avatar = Avatar(talker, scheduler, portrait, level, seed, sampling)

    @property
    def options(self) -> AvatarOptions:
        """Sizes and rates of what the iteration yields, for `AvatarRunner`."""
        side = self._avatar.resolution
        return AvatarOptions(side, side, FRAME_RATE, SAMPLE_RATE, 1)

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Append sound of any sample rate and number of channels, or end the segment."""
        if isinstance(frame, AudioSegmentEnd):
            self._avatar.end()
        else:
            samples = frame.data[: frame.samples_per_channel * frame.num_channels]
            await self._avatar.push(samples.tobytes(), frame.sample_rate, frame.num_channels)

    def clear_buffer(self) -> None:
        """Interrupt: drop all sound and frames. The row of the batch is free at the next patch."""
        self._avatar.clear()

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        still = _video_frame(await self._avatar.still())
        yield still
        speaks, clears = False, self._avatar.clears
        while True:
            try:
                frame = await asyncio.wait_for(anext(self._avatar), 1 / FRAME_RATE)
            except TimeoutError:
                if not speaks or clears != self._avatar.clears:
                    yield still
                continue
            except StopAsyncIteration:
                return
            speaks, clears = frame is not None, self._avatar.clears
            if frame is None:
                yield AudioSegmentEnd()
                continue
            yield _video_frame(frame.pixels)
            if clears == self._avatar.clears:
                yield rtc.AudioFrame(frame.pcm, SAMPLE_RATE, 1, len(frame.pcm) // 2)

    async def aclose(self) -> None:
        """End the iteration and the thread, and free the row of the batch."""
        await self._avatar.close()


def _video_frame(pixels: np.ndarray) -> rtc.VideoFrame:
    height, width, _ = pixels.shape
    return rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, pixels.tobytes())
