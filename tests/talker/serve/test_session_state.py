"""The state of a session at chosen times. Its thread does not run, and its clock stands still."""

from __future__ import annotations

import math
import threading
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from takes import QUICK

from talker import Talker
from talker.clips.animate import LiveAnimation
from talker.clips.clip import Chunk
from talker.clips.continuation import part_seed
from talker.clips.idle import IdleLoop
from talker.clips.record import Record
from talker.clips.say import LiveUtterance
from talker.serve import session as session_module
from talker.serve.inputs import SoundInput, TextInput
from talker.serve.session import Fragment, FragmentLost, Limits, Session
from talker.stages import Cancelled


class Clock(SimpleNamespace):
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    still = SimpleNamespace(start=lambda: None, join=lambda: None)
    monkeypatch.setattr(session_module, "time", clock)
    monkeypatch.setattr(
        session_module,
        "threading",
        SimpleNamespace(Condition=threading.Condition, Thread=lambda **_: still),
    )
    return clock


def generate(request: object) -> SimpleNamespace:
    ticket = SimpleNamespace(finish_reason=None, calls=list[str]())
    for name in ("pause", "resume", "cancel"):
        setattr(ticket, name, lambda name=name: ticket.calls.append(name))
    return ticket


@pytest.fixture
def session(talker: Talker, voice, portrait, clock: Clock) -> Session:
    feed = TextInput(talker.system)
    clip = LiveUtterance(talker.system, feed.channel, voice, portrait, 3, QUICK)
    loop = IdleLoop(talker.system, portrait, generate)
    return Session(clip, feed, generate, loop, Limits(), lambda _: None)


def part(index: int, first: int, frames: int = 4) -> Fragment:
    return Fragment(index, b"", first, frames, motion=torch.full((6,), float(index)) if frames else None)


# -- positions -----------------------------------------------------------------------------------------------


def test_positions_do_not_go_back(session: Session, clock: Clock) -> None:
    clock.now = 101.0
    session.report_playback(500)
    session.report_playback(200)  # of a connection that was replaced
    session.report_sent(part(3, 12))
    session.report_sent(part(0, 0))  # sent again, to a client that connects again
    assert (session.position.played_ms, session.position.sent_ms) == (500, 640)
    assert session._reported == 101
    clock.now = 109.0
    session.attach(lambda: None)
    assert session._reported == 109  # the time without a connection does not count as slow reading
    session._samples = 24_000
    assert session._ahead() == pytest.approx(0.5)
    session.report_playback(10**6)
    assert session._ahead() == pytest.approx(0.36)  # what was not sent cannot have been played


def test_only_a_client_that_was_replaced_is_told(session: Session) -> None:
    told: list[str] = []
    session.attach(lambda: told.append("a"))
    session.detach()
    session.attach(lambda: told.append("b"))
    assert told == []
    session.attach(lambda: told.append("c"))
    assert told == ["b"]


def test_fragments_that_are_kept_can_be_read_and_decoding_starts_at_a_keyframe(session: Session) -> None:
    session._fragments, session.count = deque(part(k, 4 * k) for k in range(5, 14)), 14
    assert session.oldest_keyframe() == 6  # frames 24..27 hold frame 25
    assert session._fragment(5).index == 5
    assert session._fragment(13).index == 13
    assert session._fragment(14) is None
    with pytest.raises(FragmentLost, match="the oldest one is 5"):
        session._fragment(4)
    session._fragments = deque([part(12, 48, 2), part(13, 50, 0)])
    assert session.oldest_keyframe() == 14


# -- work ----------------------------------------------------------------------------------------------------


def test_waiting_for_input_is_no_work_and_a_waiting_face_is_no_speech(session: Session, clock: Clock) -> None:
    request = SimpleNamespace(text="Go.")
    session._keep = lambda *_: None
    session._take = SimpleNamespace(patches=0, record=Record(4))
    assert (session.rtf, session.is_behind) == (None, False)

    def add(asked: float, now: float) -> None:
        def encode(pcm: np.ndarray, frames: np.ndarray) -> bytes:
            clock.now = now
            return b""

        session._encoder = SimpleNamespace(encode=encode)
        session._add(Chunk(0, np.zeros(3840, np.float32), np.zeros((4, 2, 2, 3), np.uint8)), asked)

    add(100.0, 101.0)  # a patch of the waiting face
    assert (session.busy_seconds, session.first_chunk_seconds, session.active) == (0, None, 100)
    session._take.patches = 1 + session._lag
    for clock.now in (130.0, 130.125):  # a text of two short sentences arrives
        session._submit(request)
    session._take.record.starts.append(1)
    add(101.0, 130.25)
    assert (session.busy_seconds, session.first_chunk_seconds, session.active) == (0.125, 0.25, 130.25)
    session._take.patches = 3 + session._lag  # the decoder is two patches behind: the next sentence is work
    clock.now = 131.0
    session._submit(request)
    add(130.5, 132.0)
    assert (session.busy_seconds, session.first_chunk_seconds, session.active) == (1.625, 0.25, 132)
    assert session.rtf == pytest.approx(1.625 / 0.32)
    assert session.samples == 3 * 3840
    session.busy_seconds = 1.3
    assert not session.is_behind
    session.busy_seconds = 1.33
    assert session.is_behind
    clock.now = 140.0
    session.report_input()
    assert session.active == 140


def test_the_last_patches_that_were_generated_say_whether_the_face_waits(session: Session) -> None:
    session._take = SimpleNamespace(patches=0, record=Record(4))
    assert session.waits
    session._take.record.starts.append(0)
    assert not session.waits  # the first patch is generated
    session._take.patches = 3
    assert not session.waits
    session._take.record.ends.append(3)
    assert not session.waits  # the last patch is speech
    session._take.patches = 4
    assert session.waits


def test_a_client_waits_for_a_running_generation_unless_it_is_gone_or_ahead(session: Session) -> None:
    assert not session.needs_priority
    session._ticket = generate(None)
    session._samples = 24_000
    assert session.needs_priority
    session.detached = 1.0
    assert not session.needs_priority
    session.detached, session._ticket.finish_reason = None, "stop"
    assert not session.needs_priority
    session._ticket.finish_reason, session._samples = None, 72_001
    assert not session.needs_priority


def test_a_row_is_paused_while_nobody_is_connected(session: Session) -> None:
    session.detach()
    ticket = session._submit(SimpleNamespace(text="Go."))
    assert ticket.calls == ["pause"]
    session.attach(lambda: None)
    assert ticket.calls == ["pause", "resume"]
    session.detach()
    session.interrupt()
    assert ticket.calls == ["pause", "resume", "pause", "cancel"]
    with pytest.raises(Cancelled):
        session._submit(SimpleNamespace(text="Go."))


def test_the_decoder_holds_patches_back_only_if_speech_is_generated(
    talker: Talker, portrait, session: Session
) -> None:
    system = talker.system
    assert session._lag == math.ceil(system.audio_vae.lookahead / system.patch_frames) > 0
    feed = SoundInput()
    live = LiveAnimation(system, feed.channel, portrait, None, 2, QUICK)
    sounds = Session(live, feed, generate, IdleLoop(system, portrait, generate), Limits(), lambda _: None)
    assert sounds._lag == 0


# -- waiting -------------------------------------------------------------------------------------------------


def test_a_patch_is_due_when_what_was_generated_will_soon_have_been_played(
    session: Session, clock: Clock
) -> None:
    session._take = SimpleNamespace(patches=9 + session._lag)
    session._first = 25  # frames of takes before an interruption
    session._sent, session._played, session._reported = 2000, 1000, 100.0
    # 61 frames were made: 2.44 s. At 100.5 the client is at 1.5 s.
    for now, due in ((100.5, False), (100.8, False), (100.9, True), (130.0, True)):
        clock.now = now
        assert session._is_dry() == due, now
    session._sent = 1500  # a client cannot play what it has not got
    assert not session._is_dry()
    session._sent = 2000
    session.detached = 1.0
    assert not session._is_dry()
    session.detached, session.stopped = None, True
    assert not session._is_dry()


def test_before_anything_is_sent_a_session_without_input_shows_little_and_not_at_once(
    session: Session, clock: Clock
) -> None:
    session._take = SimpleNamespace(patches=session._lag)
    for now, patches, due in ((100.5, 0, False), (100.7, 0, True), (100.7, 3, True), (100.7, 4, False)):
        clock.now, session._take.patches = now, patches + session._lag
        assert session._is_dry() == due, (now, patches)


class Waits:
    """A condition whose `wait` lets the time pass; `report` is called at its time in between."""

    def __init__(self, session: Session, clock: Clock, reports: list[float]) -> None:
        self.session, self.clock, self.reports = session, clock, reports
        self.waited: list[float | None] = []

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
    def notify_all(self) -> None: ...

    def wait(self, seconds: float | None = None) -> None:
        self.waited.append(seconds)
        if seconds is None:
            self.session.detached = None  # a client has come back
            return
        end = self.clock.now + seconds
        if self.reports and self.reports[0] < end:
            self.clock.now = self.reports.pop(0)
            self.session.report_playback(0)
        else:
            self.clock.now = end


@pytest.mark.parametrize(("reports", "end"), [([], 160.0), ([110.0, 169.0], 229.0)])
def test_a_client_is_slow_a_minute_after_its_last_report_or_after_the_wait_began(
    session: Session, clock: Clock, reports: list[float], end: float
) -> None:
    session._reported, session._samples = 10.0, 11 * 24_000  # nothing was asked of the client before
    session._changed = waits = Waits(session, clock, reports)
    session._wait_for_room()
    assert (session.stop_code, clock.now) == ("slow_reader", pytest.approx(end))
    assert None not in waits.waited


def test_a_client_that_is_gone_is_waited_for_without_this_limit(session: Session, clock: Clock) -> None:
    session._reported, session._samples, session.detached = 10.0, 11 * 24_000, 100.0
    clock.now = 500.0
    session._changed = waits = Waits(session, clock, [])
    session._wait_for_room()
    assert waits.waited == [None, 60.0]


# -- interruption --------------------------------------------------------------------------------------------


def test_after_an_interruption_the_face_moves_on_from_the_last_frame_that_was_seen(session: Session) -> None:
    session._fragments = deque([*(part(k, 4 * k) for k in range(4)), part(4, 16, 0)])
    session._encoder = SimpleNamespace(frames=16)
    for played, seen in ((0, 0), (159, 0), (160, 1), (10**6, 3)):
        session._played, session._interrupted, session._ticket = played, True, generate(None)
        before, session.idle.frame = session.idle, 7
        session.feed.clear()
        assert session._begin_again()
        assert session.idle.shown[0] == seen
        assert (session.idle.loop, session.idle.frame) == (before.loop, 7)
        assert session.clip.idle is session.idle
        assert session.clip.sentences is session.feed.channel
        assert (session._first, session._captions._first, session._done) == (16, 16, 0)
        assert (session._interrupted, session._ticket) == (False, None)
    assert session.clip.seed == part_seed(part_seed(part_seed(part_seed(3, 16), 16), 16), 16)
    session._fragments.clear()
    assert session._begin_again()
    assert session.idle.shown is None
    session.stop()
    assert not session._begin_again()


def test_a_session_whose_input_has_ended_is_stopped_by_an_interruption(session: Session) -> None:
    session.feed.end()
    session.interrupt()
    assert (session.stopped, session.stop_code, session._interrupted) == (True, None, False)
    session.stop("idle")
    assert session.stop_code is None  # the first reason counts
