"""Pipecat: a service that follows the speech synthesis of a pipeline. Needs the extra `pipecat`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from heads.sampling import Sampling
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.generation.scheduler import Scheduler
from talker.identity import Portrait
from talker.pipeline import Talker
from talker.serve.avatar import Avatar

try:
    from pipecat.frames import frames
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
    from pipecat.services.ai_service import AIService
    from pipecat.services.settings import ServiceSettings
except ModuleNotFoundError as error:
    raise ImportError(
        "pipecat-ai is missing: install the extra pipecat, `pip install 'talker[pipecat]'`"
    ) from error

PERIOD = 1_000_000_000 // FRAME_RATE  # nanoseconds, as the clock of a pipeline counts


class TalkerVideoService(AIService):
    """A portrait that speaks the sound of the speech synthesis before it in the pipeline.

    Each `TTSAudioRawFrame` is replaced by frames of video with their sound, at the pace of playback. Other
    frames keep their place between them: a frame that follows 2 s of sound is pushed after these 2 s.
    System frames and frames that go upstream do not wait. While nothing is spoken, the last picture is that
    of the portrait.
    """

    def __init__(
        self,
        talker: Talker,
        scheduler: Scheduler,
        portrait: Portrait,
        level: float | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        **kwargs: Any,
    ) -> None:
        """See `Avatar`; `kwargs`: options of `AIService`."""
        super().__init__(settings=ServiceSettings(model=None), **kwargs)
        self._avatar = Avatar(talker, scheduler, portrait, level, seed, sampling)
        self._player: asyncio.Task | None = None
        self._still = b""  # pixels of the portrait
        self._pushing = asyncio.Lock()  # an interruption does not come between a check and its push
        # Number of ended segments and seconds of the open one: of the sound that came and of the played one.
        self._received = self._played = (0, 0.0)
        self._waiting: deque[tuple[tuple[int, float], frames.Frame]] = deque()

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Render the portrait."""
        await super().setup(setup)
        self._still = (await self._avatar.still()).tobytes()

    async def start(self, frame: frames.StartFrame) -> None:
        """Show the portrait."""
        await super().start(frame)
        if self._player is None:
            self._player = self.create_task(self._play())

    async def stop(self, frame: frames.EndFrame) -> None:
        """Play the rest, and close."""
        await super().stop(frame)
        if self._player is not None:
            self._avatar.finish()
            await asyncio.wait([self._player])
        await self._close()

    async def cancel(self, frame: frames.CancelFrame) -> None:
        """Close at once."""
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        """Close at once."""
        await super().cleanup()
        await self._close()

    async def _close(self) -> None:
        player, self._player = self._player, None
        if player is not None:
            await self.cancel_task(player)
        await self._avatar.close()

    async def process_frame(self, frame: frames.Frame, direction: FrameDirection) -> None:
        """See the class."""
        await super().process_frame(frame, direction)
        if isinstance(frame, frames.InterruptionFrame):
            await self._interrupt(frame, direction)
        elif isinstance(frame, frames.SystemFrame | frames.EndFrame) or direction == FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        elif isinstance(frame, frames.TTSAudioRawFrame):
            ended, seconds = self._received
            self._received = ended, seconds + frame.num_frames / frame.sample_rate
            await self._avatar.push(frame.audio, frame.sample_rate, frame.num_channels)
        else:
            if isinstance(frame, frames.TTSStoppedFrame) and self._received[1]:
                self._avatar.end()
                self._received = self._received[0] + 1, 0.0
            async with self._pushing:
                self._waiting.append((self._received, frame))
                await self._push_due()

    async def _interrupt(self, frame: frames.InterruptionFrame, direction: FrameDirection) -> None:
        async with self._pushing:
            self._avatar.clear()
            self._received = self._played = (0, 0.0)
            kept = [waiting for _, waiting in self._waiting if not waiting.interruptible]
            self._waiting.clear()
            await self.push_frame(frame, direction)
            for waiting in kept:
                await self.push_frame(waiting)
            await self._push_picture(self._still)

    async def _play(self) -> None:
        """Push the frames of the avatar, each at its time."""
        await self._push_picture(self._still)
        due = 0
        while True:
            try:
                spoken = await anext(self._avatar)
            except StopAsyncIteration:
                return
            except Exception as error:
                await self.push_error(f"no video of this speech: {error}", exception=error)
                spoken = None
            clears = self._avatar.clears
            now = self.get_clock().get_time()
            due = max(due + PERIOD, now)
            await asyncio.sleep((due - now) / 1e9)
            async with self._pushing:
                if clears != self._avatar.clears:
                    continue
                ended, seconds = self._played
                if spoken is None:
                    self._played = ended + 1, 0.0
                    await self._push_picture(self._still)
                else:
                    self._played = ended, seconds + 1 / FRAME_RATE
                    await self._push_picture(spoken.pixels.tobytes(), due)
                    await self.push_frame(frames.TTSAudioRawFrame(spoken.pcm, SAMPLE_RATE, 1))
                await self._push_due()

    async def _push_picture(self, image: bytes, pts: int | None = None) -> None:
        side = self._avatar.resolution
        frame = frames.OutputImageRawFrame(image, (side, side), "RGB")
        frame.pts = pts
        await self.push_frame(frame)

    async def _push_due(self) -> None:
        """Push the waiting frames up to the one whose sound is played."""
        ended, seconds = self._played
        while self._waiting and self._waiting[0][0] <= (ended, seconds + 0.5 / FRAME_RATE):
            await self.push_frame(self._waiting.popleft()[1])
