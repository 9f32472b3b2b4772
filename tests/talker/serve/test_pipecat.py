"""The Pipecat adapter in a pipeline that runs as in an application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pytest
from avatars import frames_of, freed, pcm16, run
from takes import QUICK

from talker import Talker
from talker.generation.scheduler import Scheduler
from talker.identity import Portrait

pytest.importorskip("pipecat.frames", reason="the extra 'pipecat' is not installed")

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    FunctionCallResultFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from talker.serve.pipecat import TalkerVideoService


class Sink(FrameProcessor):
    """Keeps the frames that it gets, each with its time."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.times: list[float] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == FrameDirection.DOWNSTREAM:
            self.frames.append(frame)
            self.times.append(time.monotonic())
        await self.push_frame(frame, direction)

    async def until(self, condition: Callable[[Frame], bool]) -> None:
        for _ in range(1000):
            if any(map(condition, self.frames)):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("no such frame within 10 s")


@pytest.fixture
def service(talker: Talker, scheduler: Scheduler, portrait: Portrait) -> TalkerVideoService:
    return TalkerVideoService(talker, scheduler, portrait, seed=2, sampling=QUICK)


async def running(service: TalkerVideoService, sink: Sink, drive: Callable) -> None:
    """Run a pipeline while `drive(queue)` puts frames into it; `queue` is a coroutine function."""
    worker = PipelineWorker(Pipeline([service, sink]), cancel_on_idle_timeout=False, enable_rtvi=False)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)

    async def queue(*frames: Frame) -> None:
        for frame in frames:
            await worker.queue_frame(frame)

    await asyncio.gather(runner.run(), drive(queue))


def spoken(pcm: np.ndarray, rate: int = 24_000) -> list[TTSAudioRawFrame]:
    """Frames of 50 ms."""
    return [
        TTSAudioRawFrame(pcm[i : i + rate // 20].tobytes(), rate, 1) for i in range(0, len(pcm), rate // 20)
    ]


def brief(frames: list[Frame], still: bytes) -> str:
    """A letter per frame: S picture of the portrait, i other picture, a sound; a word for others."""
    short = {OutputImageRawFrame: "i", TTSAudioRawFrame: "a"}
    letters = []
    for frame in frames:
        name = type(frame).__name__.removesuffix("Frame")
        is_still = isinstance(frame, OutputImageRawFrame) and frame.image == still
        letters.append("S" if is_still else short.get(type(frame)) or f"<{name}>")
    return "".join(letters)


def test_sound_becomes_pictures_and_sound_at_media_pace_and_other_frames_keep_their_place(
    service: TalkerVideoService, talker: Talker, scheduler: Scheduler, portrait: Portrait
) -> None:
    pcm, sink = pcm16(0.4), Sink()
    pieces = spoken(pcm)

    async def drive(queue: Callable) -> None:
        await queue(TextFrame("before"), TTSStartedFrame())
        await queue(*pieces[:4], TextFrame("after 0.2 s"), *pieces[4:], TTSStoppedFrame())
        await queue(TTSStartedFrame(), *spoken(pcm[:4000], 16_000), TTSStoppedFrame(), TextFrame("last"))
        await queue(*pieces, EndFrame())  # without an end of the last segment

    run(running(service, sink, drive))
    first, second = "ia" * 5 + "<Text>" + "ia" * 6, "ia" * 7
    assert brief(sink.frames[1:], service._still) == (
        f"S<Text><TTSStarted>{first}S<TTSStopped><TTSStarted>{second}S<TTSStopped><Text>{'ia' * 11}S<End>"
    )
    media = [frame for frame in sink.frames if isinstance(frame, OutputImageRawFrame | TTSAudioRawFrame)]
    sound = [frame.audio for frame in media if isinstance(frame, TTSAudioRawFrame)]
    pictures = [f for f in media if isinstance(f, OutputImageRawFrame) and f.image != service._still]
    assert b"".join(sound[:11]) == b"".join(sound[-11:]) == pcm.tobytes()
    assert len(b"".join(sound[11:18])) == 2 * 6000
    expected = frames_of(talker, scheduler, portrait, pcm)
    assert [picture.image for picture in pictures[:11]] == expected
    assert [picture.image for picture in pictures[18:]] == expected
    assert {(picture.size, picture.format) for picture in pictures} == {((32, 32), "RGB")}
    assert np.diff([picture.pts for picture in pictures[:11]]).min() >= 40_000_000
    taken = dict(zip(map(id, sink.frames), sink.times, strict=True))
    assert taken[id(pictures[10])] - taken[id(pictures[0])] >= 10 * 0.04 - 0.01


def test_after_an_interruption_the_row_is_free_and_only_later_sound_is_spoken(
    service: TalkerVideoService, talker: Talker, scheduler: Scheduler, portrait: Portrait
) -> None:
    pcm, sink = pcm16(0.2), Sink()

    async def drive(queue: Callable) -> None:
        kept = FunctionCallResultFrame("f", "1", {}, {})
        assert not kept.interruptible
        await queue(*spoken(pcm16(2.0)), TextFrame("not heard"), kept, TTSStoppedFrame())
        await sink.until(lambda frame: isinstance(frame, TTSAudioRawFrame))
        await queue(InterruptionFrame())
        await sink.until(lambda frame: isinstance(frame, InterruptionFrame))
        await freed(scheduler)
        await asyncio.sleep(0.1)
        await queue(*spoken(pcm), TTSStoppedFrame(), EndFrame())

    run(running(service, sink, drive))
    before, after = brief(sink.frames[1:], service._still).split("<Interruption>")
    assert before.startswith("Sia")
    assert "<" not in before
    assert after == "<FunctionCallResult>S" + "ia" * 6 + "S<TTSStopped><End>"
    pictures = [frame.image for frame in sink.frames if isinstance(frame, OutputImageRawFrame)]
    assert pictures[-7:-1] == frames_of(talker, scheduler, portrait, pcm)


def test_cancelling_and_cleaning_up_twice_end_the_avatar_at_once(
    service: TalkerVideoService, scheduler: Scheduler
) -> None:
    sink = Sink()

    async def drive(queue: Callable) -> None:
        await queue(*spoken(pcm16(2.0)))
        await sink.until(lambda frame: isinstance(frame, TTSAudioRawFrame))
        await queue(CancelFrame())

    async def program() -> None:
        await running(service, sink, drive)
        await service.cancel(CancelFrame())
        await service.cleanup()
        await service.stop(EndFrame())
        await freed(scheduler)

    run(program())
    assert isinstance(sink.frames[-1], CancelFrame)


def test_an_error_is_reported_upstream_and_the_pipeline_continues(
    service: TalkerVideoService, scheduler: Scheduler
) -> None:
    sink, errors = Sink(), []
    service.add_event_handler("on_error", lambda _, frame: errors.append(frame))

    async def drive(queue: Callable) -> None:
        scheduler.close()
        await queue(*spoken(pcm16(0.9)), TTSStoppedFrame(), TextFrame("after"), EndFrame())

    run(running(service, sink, drive))
    assert brief(sink.frames[1:], service._still) == "SS<TTSStopped><Text><End>"
    (error,) = errors
    assert isinstance(error, ErrorFrame)
    assert error.error == "no video of this speech: this scheduler is closed"
