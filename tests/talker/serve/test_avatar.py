"""An avatar gives the frames of live animation, segment after segment, and nothing after an interruption."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from avatars import FormatOf, freed, live, pcm16, run
from takes import QUICK

from talker import Talker
from talker.errors import UserError
from talker.generation.scheduler import Scheduler
from talker.identity import Portrait
from talker.media.readers import resample
from talker.serve.avatar import WAITING_PIECES, Avatar, Frame


@pytest.fixture
def avatar(talker: Talker, scheduler: Scheduler, portrait: Portrait) -> Iterator[Avatar]:
    avatar = Avatar(talker, scheduler, portrait, seed=2, sampling=QUICK)
    yield avatar
    run(avatar.close())
    assert not {thread.name for thread in threading.enumerate()} & {"avatar"}


async def segment(avatar: Avatar) -> tuple[bytes, np.ndarray]:
    """Sound and frames up to the end of a segment."""
    found: list[Frame] = []
    while (frame := await anext(avatar)) is not None:
        found.append(frame)
    return b"".join(frame.pcm for frame in found), np.stack([frame.pixels for frame in found])


def test_segments_give_the_frames_of_live_animation_whatever_their_format(
    avatar: Avatar, talker: Talker, scheduler: Scheduler, portrait: Portrait
) -> None:
    """Each segment begins anew; another avatar in the batch changes nothing."""
    pcm = pcm16(0.9)
    stereo = np.stack([pcm[:10_000], pcm[10_000:20_000]], 1)
    mean = torch.from_numpy(stereo.astype(np.float32).mean(1) / 32768)

    async def speak() -> list[tuple[bytes, np.ndarray]]:
        other = Avatar(talker, scheduler, portrait, seed=7, sampling=QUICK)
        await other.push(pcm.tobytes(), 24_000, 1)
        for part in np.array_split(pcm, 7):
            await avatar.push(part.tobytes(), 24_000, 1)
        avatar.end()
        first = await segment(avatar)
        for part in np.array_split(stereo, 3):
            await avatar.push(part.tobytes(), 44_100, 2)
        avatar.finish()
        second = await segment(avatar)
        with pytest.raises(StopAsyncIteration):
            await anext(avatar)
        other.clear()
        await other.close()
        await other.close()
        return [first, second]

    first, second = run(speak())
    assert first[0] == pcm.tobytes()
    assert np.array_equal(first[1], live(talker, scheduler, portrait, pcm / np.float32(32768))[1])
    sound, frames = live(talker, scheduler, portrait, resample(mean, 44_100).numpy())
    assert second[0] == np.rint(sound * 32768).astype("<i2").tobytes()
    assert np.array_equal(second[1], frames)


def test_after_an_interruption_the_row_is_free_and_only_later_sound_is_spoken(
    avatar: Avatar, talker: Talker, scheduler: Scheduler, portrait: Portrait
) -> None:
    pcm = pcm16(0.5)

    async def speak() -> tuple[bytes, np.ndarray]:
        for _ in range(3):
            await avatar.push(pcm16(2.0).tobytes(), 24_000, 1)
            avatar.end()
        await avatar.push(pcm16(2.0).tobytes(), 24_000, 1)  # stays open
        await anext(avatar)
        avatar.clear()
        await freed(scheduler)
        await avatar.push(bytes(1920), 24_000, 1)
        await asyncio.sleep(0.05)
        avatar.clear()  # while it waits for more sound
        await avatar.push(pcm.tobytes(), 24_000, 1)
        avatar.end()
        return await segment(avatar)

    sound, frames = run(speak())
    assert avatar.clears == 2
    assert sound == pcm.tobytes()
    assert np.array_equal(frames, live(talker, scheduler, portrait, pcm / np.float32(32768))[1])


def test_an_interruption_frees_the_row_after_the_step_that_runs(
    avatar: Avatar, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = scheduler._batch.step, 0
    runs, cleared = threading.Event(), threading.Event()

    def counted() -> None:
        nonlocal steps
        steps += 1
        runs.set()
        cleared.wait()
        step()

    monkeypatch.setattr(scheduler._batch, "step", counted)

    async def speak() -> None:
        await avatar.push(pcm16(2.0).tobytes(), 24_000, 1)
        await asyncio.to_thread(runs.wait)
        avatar.clear()
        cleared.set()
        await freed(scheduler)

    run(speak())
    assert steps == 1


def test_pushing_waits_while_too_much_sound_is_not_generated_and_an_interruption_ends_the_waiting(
    avatar: Avatar,
) -> None:
    async def speak() -> None:
        async def push() -> None:
            for _ in range(4 * WAITING_PIECES):
                await avatar.push(bytes(1920), 24_000, 1)

        pushing = asyncio.create_task(push())
        await anext(avatar)
        await asyncio.sleep(0.1)
        assert not pushing.done()
        avatar.clear()
        await asyncio.sleep(0.1)
        pushing.cancel()

    run(speak())


def test_an_error_ends_its_segment_and_is_raised_to_the_reader(avatar: Avatar, scheduler: Scheduler) -> None:
    async def speak() -> None:
        scheduler.close()
        for _ in range(2):
            await avatar.push(bytes(48_000), 24_000, 1)
            avatar.end()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="closed"):
                await anext(avatar)

    run(speak())


@pytest.mark.parametrize(
    "wrong", [(b"abc", 24_000, 1), (b"ab", 24_000, 2), (b"ab", 0, 1), (b"ab", 24_000, 0)]
)
def test_sound_in_an_impossible_format_is_refused(avatar: Avatar, wrong: FormatOf) -> None:
    with pytest.raises(ValueError, match="16-bit samples"):
        run(avatar.push(*wrong))


def test_an_impossible_level_is_refused(talker: Talker, scheduler: Scheduler, portrait: Portrait) -> None:
    with pytest.raises(UserError, match="level"):
        Avatar(talker, scheduler, portrait, level=2.0)


def test_an_avatar_without_sound_ends(avatar: Avatar) -> None:
    async def speak() -> None:
        avatar.end()
        await avatar.push(b"", 24_000, 1)
        avatar.finish()
        assert [frame async for frame in avatar] == []
        assert (await avatar.still()).shape == (avatar.resolution, avatar.resolution, 3)

    run(speak())


@pytest.mark.parametrize("name", ["livekit", "pipecat"])
def test_an_adapter_without_its_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in list(sys.modules):
        if module.startswith((f"{name}.", f"talker.serve.{name}")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)  # not installed
    with pytest.raises(ImportError, match=rf"^{name}-\w+ is missing: .*`pip install 'talker\[{name}\]'`$"):
        importlib.import_module(f"talker.serve.{name}")
