"""The LiveKit adapter, with LiveKit's own runner and synchronizer, without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from avatars import frames_of, freed, pcm16, run
from takes import QUICK

from talker import Talker
from talker.generation.scheduler import Scheduler
from talker.identity import Portrait

pytest.importorskip("livekit.agents", reason="the extra 'livekit' is not installed")

from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarRunner, QueueAudioOutput

from talker.serve.livekit import TalkerVideoGenerator

Item = rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd


@pytest.fixture
def generator(talker: Talker, scheduler: Scheduler, portrait: Portrait) -> Iterator[TalkerVideoGenerator]:
    generator = TalkerVideoGenerator(talker, scheduler, portrait, seed=2, sampling=QUICK)
    yield generator
    run(generator.aclose())
    run(generator.aclose())


def parts(pcm: np.ndarray, rate: int = 24_000, channels: int = 1) -> list[rtc.AudioFrame]:
    """Frames of 100 ms."""
    step = rate // 10 * channels
    cut = [pcm[start : start + step] for start in range(0, len(pcm), step)]
    return [rtc.AudioFrame(part.tobytes(), rate, channels, len(part) // channels) for part in cut]


async def push(generator: TalkerVideoGenerator, frames: list[rtc.AudioFrame]) -> None:
    for frame in frames:
        await generator.push_audio(frame)
    await generator.push_audio(AudioSegmentEnd())


async def until_end(items: AsyncIterator[Item], still: Item) -> tuple[bytes, list[bytes]]:
    """Sound and frames up to the end of a segment; a frame of video and its sound alternate."""
    kinds, sound, frames = [], b"", []
    async for item in items:
        if item is still:
            assert not kinds  # it is not repeated while the portrait speaks
            continue
        kinds.append(type(item))
        if isinstance(item, AudioSegmentEnd):
            break
        if isinstance(item, rtc.AudioFrame):
            assert (item.sample_rate, item.num_channels) == (24_000, 1)
            sound += bytes(item.data)
        else:
            assert (item.width, item.height, item.type) == (32, 32, rtc.VideoBufferType.RGB24)
            frames.append(bytes(item.data))
    assert kinds == [rtc.VideoFrame, rtc.AudioFrame] * len(frames) + [AudioSegmentEnd]
    assert len(frames) == -(-len(sound) // 2 // 960)
    return sound, frames


def test_segments_come_as_frames_each_with_its_sound(
    generator: TalkerVideoGenerator, talker: Talker, scheduler: Scheduler, portrait: Portrait
) -> None:
    pcm = pcm16(0.7)

    async def program() -> None:
        items = aiter(generator)
        still = await anext(items)
        await push(generator, parts(pcm))
        assert await until_end(items, still) == (pcm.tobytes(), spoken)
        await push(generator, parts(np.repeat(pcm[:14_000], 2), 16_000, 2))  # two equal channels
        sound, _ = await until_end(items, still)
        assert len(sound) == 2 * 14_000 * 24 // 16
        await generator.aclose()
        async for item in items:
            assert item is still

    spoken = frames_of(talker, scheduler, portrait, pcm)
    run(program())


@pytest.mark.parametrize("read", [2, 3], ids=["after a picture", "after its sound"])
def test_after_an_interruption_only_the_portrait_and_later_sound_come(
    generator: TalkerVideoGenerator,
    talker: Talker,
    scheduler: Scheduler,
    portrait: Portrait,
    read: int,
) -> None:
    pcm = pcm16(0.3)

    async def program() -> None:
        other = TalkerVideoGenerator(talker, scheduler, portrait, seed=2, sampling=QUICK)
        await push(other, parts(pcm))
        items = aiter(generator)
        still = await anext(items)
        await push(generator, parts(pcm16(2.0)))
        while await anext(items) is still:
            pass  # the loop ends with the first picture
        for _ in range(read - 2):
            await anext(items)
        generator.clear_buffer()
        await generator.push_audio(AudioSegmentEnd())  # LiveKit sends the end of an interrupted segment
        assert [await anext(items) for _ in range(3)] == [still] * 3
        others = aiter(other)
        assert await until_end(others, await anext(others)) == (pcm.tobytes(), spoken)
        await other.aclose()
        await freed(scheduler)
        await push(generator, parts(pcm))
        assert await until_end(items, still) == (pcm.tobytes(), spoken)

    spoken = frames_of(talker, scheduler, portrait, pcm)
    run(program())


class Publication:
    async def wait_for_subscription(self) -> None:
        pass


class Room:
    """A room without a server: connected, and everything that is published is subscribed at once."""

    def __init__(self) -> None:
        self.local_participant, self.published = self, []

    def isconnected(self) -> bool:
        return True

    def on(self, event: str, callback: object) -> None:
        pass

    off = on

    async def publish_track(self, track: rtc.Track, options: object) -> Publication:
        self.published.append(track.name)
        return Publication()


def test_livekits_runner_plays_a_segment_in_real_time_and_reports_its_end(
    generator: TalkerVideoGenerator,
    talker: Talker,
    scheduler: Scheduler,
    portrait: Portrait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pcm = pcm16(0.6)
    shown: list[rtc.VideoFrame] = []
    heard: list[bytes] = []
    monkeypatch.setattr(rtc.VideoSource, "capture_frame", lambda self, frame: shown.append(frame))
    capture = rtc.AudioSource.capture_frame

    async def hear(self: rtc.AudioSource, frame: rtc.AudioFrame) -> None:
        heard.append(bytes(frame.data))
        await capture(self, frame)

    monkeypatch.setattr(rtc.AudioSource, "capture_frame", hear)

    async def program() -> None:
        room, output = Room(), QueueAudioOutput(sample_rate=24_000)
        finished = asyncio.get_running_loop().create_future()
        output.on("playback_finished", finished.set_result)
        runner = AvatarRunner(room, audio_recv=output, video_gen=generator, options=generator.options)
        await runner.start()
        for frame in parts(pcm):
            await output.capture_frame(frame)
        output.flush()
        began = time.monotonic()
        event = await asyncio.wait_for(finished, 10)
        assert time.monotonic() - began > 0.4  # all but the 100 ms in the queue, and what came meanwhile
        assert not event.interrupted
        assert event.playback_position == pytest.approx(len(pcm) / 24_000)
        assert room.published == ["avatar_audio", "avatar_video"]
        await asyncio.sleep(0.2)  # for what is in the queues of the synchronizer
        await runner.aclose()
        await generator.aclose()

    run(program())
    assert b"".join(heard) == pcm.tobytes()
    portrait_shown, *frames = [bytes(frame.data) for frame in shown]
    while frames[0] == portrait_shown:
        frames.pop(0)
    spoken = frames_of(talker, scheduler, portrait, pcm)
    assert frames[: len(spoken)] == spoken
    assert set(frames[len(spoken) :]) <= {portrait_shown}
