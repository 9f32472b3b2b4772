"""A live clip that waits for input shows a face that moves in a loop, silently, without using a row."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from takes import QUICK
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from heads.streams import Streams
from talker import Talker
from talker.clips.animate import LiveAnimation, _with_silence
from talker.clips.clip import Clip, Piece
from talker.clips.continuation import SEAM_FRAMES
from talker.clips.idle import BLENDED_FRAMES, LOOP_SECONDS, Idle, IdleLoop, looped
from talker.clips.record import Record
from talker.clips.say import LiveUtterance
from talker.generation.request import Request
from talker.identity import Portrait, Voice
from talker.stages import Channel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav")
    return folder


@pytest.fixture
def loop(talker: Talker, portrait: Portrait) -> IdleLoop:
    """A loop of three poses, one a frame."""
    loop = IdleLoop(talker.system, portrait, talker.system.generator.generate)
    loop.close()  # nothing is generated
    loop._motion = torch.tensor([[0.5], [-0.5], [0.0]]).expand(3, len(portrait.motion)).contiguous()
    return loop


def made(clip: Clip) -> tuple[Record, list[Request], Iterator[Piece]]:
    """The record, the requests and the patches of a clip."""
    record, requests = Record(clip.system.patch_frames), list[Request]()

    def generate(request: Request):
        requests.append(request)
        return clip.system.generator.generate(request)

    def counted() -> Iterator[Piece]:
        for piece in clip.make(record, generate):
            record.patches += 1
            yield piece

    return record, requests, counted()


def limited(count: int, then: Callable[[], object]) -> Callable[[], bool]:
    """True `count` times; then `then` is called."""
    left = itertools.count(count, -1)

    def is_due() -> bool:
        if (number := next(left)) == 0:
            then()
        return number > 0

    return is_due


# -- the loop ------------------------------------------------------------------------------------------------


def test_a_loop_follows_its_motion_and_its_end_leads_to_its_start() -> None:
    motion = torch.arange(20.0)[:, None]
    loop = looped(motion, 4)
    assert len(loop) == 16
    assert loop[4:, 0].tolist() == list(range(4, 16))
    assert loop[0] == motion[16]  # which follows the last one
    steps = loop[:5].diff(dim=0)
    assert torch.allclose(steps, steps[:1].expand(4, 1))  # a straight way from 16 to 4


def test_a_loop_is_generated_once_from_silence(talker: Talker, portrait: Portrait) -> None:
    requests: list[Request] = []

    def generate(request: Request):
        requests.append(request)
        return talker.system.generator.generate(request)

    loop = IdleLoop(talker.system, portrait, generate)
    assert torch.equal(loop.frames(3, 2), portrait.motion.expand(2, -1))  # still, until it is there
    loop._thread.join()
    length = -(-(LOOP_SECONDS * 25 + BLENDED_FRAMES) // 4) * 4 - BLENDED_FRAMES
    frames = loop.frames(length - 1, 3)
    assert torch.equal(frames[1:], loop.frames(0, 2))
    assert not torch.equal(frames[0], frames[1])
    (request,) = requests
    assert (request.task, request.text) == ("a2v", "")
    assert torch.equal(request.first_motion, portrait.motion)
    assert torch.equal(request.given["audio"], talker.system.silence.expand(length + BLENDED_FRAMES, -1))


def test_a_loop_is_still_if_it_cannot_be_generated(
    talker: Talker, portrait: Portrait, caplog: pytest.LogCaptureFixture
) -> None:
    def generate(request: Request):
        raise ValueError("no silence")

    loop = IdleLoop(talker.system, portrait, generate)
    loop.frames(0, 1)
    loop._thread.join()
    assert "no silence" in caplog.text
    assert torch.equal(loop.frames(7, 3), portrait.motion.expand(3, -1))


def test_closing_a_loop_ends_its_generation_and_starts_no_other(talker: Talker, portrait: Portrait) -> None:
    started, closed = threading.Event(), threading.Event()

    class Endless:
        def __iter__(self) -> Iterator[Streams]:
            started.set()
            closed.wait()
            yield Streams(motion=torch.ones(4 * BLENDED_FRAMES, len(portrait.motion)))

        def close(self) -> None:
            closed.set()

    loop = IdleLoop(talker.system, portrait, lambda request: Endless())
    loop.frames(0, 1)
    started.wait()
    loop.close()
    assert not loop._thread.is_alive()
    assert torch.equal(loop.frames(0, 3), portrait.motion.expand(3, -1))  # what was cut off is not shown
    other = IdleLoop(talker.system, portrait, lambda request: Endless())
    other.close()
    other.frames(0, 1)
    assert other._thread is None


def test_a_model_that_animates_no_sound_has_a_still_face(talker: Talker, portrait: Portrait) -> None:
    generator = SimpleNamespace(tasks=("t2av",))
    loop = IdleLoop(SimpleNamespace(generator=generator), portrait, talker.system.generator.generate)
    assert torch.equal(loop.frames(2, 3), portrait.motion.expand(3, -1))
    assert loop._thread is None


# -- text ----------------------------------------------------------------------------------------------------


def test_a_face_waits_before_and_between_sentences(
    talker: Talker, voice: Voice, portrait: Portrait, loop: IdleLoop
) -> None:
    system, sentences = talker.system, Channel[str](10)
    idle = Idle(loop, limited(2, lambda: sentences.put("Go on.")))
    record, requests, pieces = made(LiveUtterance(system, sentences, voice, portrait, 3, QUICK, idle=idle))
    first = [next(pieces).latents for _ in range(2)]
    for number, patch in enumerate(first):
        assert torch.equal(patch["audio"], system.silence.expand(4, -1))
        assert torch.equal(patch["motion"], loop.frames(4 * number, 4))
    assert (record.starts, requests) == ([], [])
    speech = [next(pieces)]
    assert torch.equal(requests[0].prefix["motion"], first[1]["motion"])
    while not record.ends:
        idle.is_due = limited(5, sentences.close)
        speech.append(next(pieces))
    *speech, waiting = speech
    rest = [waiting, *pieces]
    assert len(rest) == 5
    assert record.starts == [2]
    assert record.ends == [2 + len(speech)]
    assert [record.speaks(k) for k in range(record.patches)] == [False] * 2 + [True] * len(speech) + [
        False
    ] * 5
    # The motion moves on from the last frame of the speech, and reaches the loop within SEAM_FRAMES.
    motion = torch.cat([piece.latents["motion"] for piece in rest])
    last = speech[-1].latents["motion"][-1]
    assert torch.allclose(motion[0], last, atol=1e-6)
    assert torch.equal(motion[SEAM_FRAMES:], loop.frames(8 + SEAM_FRAMES, 20 - SEAM_FRAMES))


def test_text_that_is_there_is_spoken_without_a_pause(
    talker: Talker, voice: Voice, portrait: Portrait, loop: IdleLoop
) -> None:
    def spoken(idle: Idle | None) -> list[Streams]:
        sentences = Channel[str](10)
        for sentence in ("Go on.", "Oh no!"):
            sentences.put(sentence)
        sentences.close()
        clip = LiveUtterance(talker.system, sentences, voice, portrait, 3, QUICK, idle=idle)
        return list(clip.take().latents())

    waiting = spoken(Idle(loop, lambda: True))
    for a, b in zip(waiting, spoken(None), strict=True):
        assert torch.equal(a["audio"], b["audio"])
        assert torch.equal(a["motion"], b["motion"])


def test_the_motion_begins_at_what_was_shown_before(
    talker: Talker, voice: Voice, portrait: Portrait, loop: IdleLoop
) -> None:
    sentences, shown = Channel[str](10), torch.full_like(portrait.motion, 0.25)
    sentences.put("Go on.")
    clip = LiveUtterance(
        talker.system, sentences, voice, portrait, 3, QUICK, idle=Idle(loop, lambda: False, shown)
    )
    _, _, pieces = made(clip)
    assert torch.allclose(next(pieces).latents["motion"][0], shown, atol=1e-6)
    assert clip.idle.shown is None  # before the first sentence only
    pieces.close()


# -- sound ---------------------------------------------------------------------------------------------------


def test_silence_fills_a_pause_of_live_sound_without_a_request(
    talker: Talker, portrait: Portrait, loop: IdleLoop
) -> None:
    sound = Channel[np.ndarray](10)
    pcm = np.sin(np.arange(8 * 3840, dtype=np.float32) / 10) / 4
    sound.put(pcm)
    idle = Idle(loop, limited(8 + 1, sound.close))  # one for the lookahead of the encoder
    clip = LiveAnimation(talker.system, sound, portrait, None, 2, QUICK, idle)
    _, requests, pieces = made(clip)
    pieces = list(pieces)
    heard = np.concatenate([piece.pcm for piece in pieces])
    assert np.array_equal(heard[: len(pcm)], pcm)
    assert not heard[len(pcm) :].any()
    assert len(heard) == 17 * 3840
    assert idle.taken == len(pcm)
    assert len(requests) == 2  # of four patches each
    motion = torch.cat([piece.latents["motion"] for piece in pieces[8:]])
    assert torch.allclose(motion[0], pieces[7].latents["motion"][-1], atol=1e-6)
    assert torch.equal(motion[SEAM_FRAMES:], loop.frames(SEAM_FRAMES, 36 - SEAM_FRAMES))


def test_every_pause_of_live_sound_follows_the_motion_before_it(
    toy: Talker, portrait: Portrait, loop: IdleLoop
) -> None:
    sound = Channel[np.ndarray](10)
    tone = np.sin(np.arange(4 * 3840, dtype=np.float32) / 10) / 4
    for _ in range(2):
        sound.put(tone)
        sound.put(np.zeros(8 * 3840, np.float32))
    sound.close()
    idle = Idle(loop, lambda: False)
    clip = LiveAnimation(toy.system, sound, portrait, None, 2, QUICK, idle)
    pieces = list(clip.make(Record(4), toy.system.generator.generate))
    motion = torch.cat([piece.latents["motion"] for piece in pieces])
    for pause in (16, 64):
        assert torch.allclose(motion[pause], motion[pause - 1], atol=1e-5)
    assert idle.frame == 64
    assert torch.equal(motion[16 + SEAM_FRAMES : 48], loop.frames(SEAM_FRAMES, 32 - SEAM_FRAMES))
    assert torch.equal(motion[64 + SEAM_FRAMES : 96], loop.frames(32 + SEAM_FRAMES, 32 - SEAM_FRAMES))


def test_sound_that_is_a_little_late_is_waited_for(talker: Talker, loop: IdleLoop) -> None:
    sound, late = Channel[np.ndarray](10), np.ones(960, np.float32)
    threading.Timer(0.1, sound.put, (late,)).start()
    assert next(_with_silence(sound, Idle(loop, lambda: True), talker.system)) is late
