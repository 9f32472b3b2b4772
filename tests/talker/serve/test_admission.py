"""Who gets a place, who gives it away, and when sessions end; with sessions that do nothing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from talker.serve import sessions as sessions_module
from talker.serve.session import Limits
from talker.serve.sessions import NotAdmitted, Sessions

PLACES = 2


@pytest.fixture
def sessions() -> Sessions:
    scheduler = SimpleNamespace(capacity=PLACES, submit=None, failed=False)
    return Sessions(scheduler, Limits(hold_when_full=5.0, drain=2.0))


def add(sessions: Sessions, name: str, **state: Any) -> SimpleNamespace:
    """Add a session that runs, and that a client follows."""
    now = time.monotonic()
    made = SimpleNamespace(
        id=name, owner="local", finished=False, detached=None, began=now, active=now, waits=False,
        needs_priority=False, codes=list[str | None](),
    )  # fmt: skip
    made.stop = lambda code=None: made.codes.append(code)
    vars(made).update(state)
    sessions._sessions[name] = made
    return made


def admitted(sessions: Sessions) -> bool:
    try:
        sessions.check_admission()
    except NotAdmitted:
        return False
    return True


def sample(sessions: Sessions, name: str, **labels: str) -> float | None:
    return sessions.metrics.registry.get_sample_value(name, labels)


# -- places --------------------------------------------------------------------------------------------------


def test_sessions_speeches_and_a_job_take_a_place_each(sessions: Sessions) -> None:
    assert sessions.most == PLACES
    one = add(sessions, "a")
    with sessions.place_for_speech():
        assert not admitted(sessions)
        assert not sessions.take_place_for_job(lambda: None)
        one.finished = True
        assert sessions.take_place_for_job(lambda: None)
        assert sessions.running == 0
        assert not sessions.take_place_for_job(lambda: None)  # one at a time
    assert admitted(sessions)
    sessions.leave_place_of_job()
    assert sessions.take_place_for_job(lambda: None)
    sessions.leave_place_of_job()
    sessions.most = 3
    assert sessions.take_place_for_job(lambda: None)
    assert not sessions.take_place_for_job(lambda: None)  # although places are free
    sessions.leave_place_of_job()
    sessions.draining = True
    assert not sessions.take_place_for_job(lambda: None)


def test_a_job_gives_its_place_away_once(sessions: Sessions) -> None:
    ended: list[int] = []
    add(sessions, "a")
    assert sessions.take_place_for_job(lambda: ended.append(1))
    with sessions.place_for_speech():
        assert ended == [1]
        assert not admitted(sessions)
        assert ended == [1]
    assert sample(sessions, "talker_sessions_rejected_total", code="at_capacity") == 1


def test_the_session_that_has_waited_longest_for_its_client_gives_its_place_away(sessions: Sessions) -> None:
    now = time.monotonic()
    ended = add(sessions, "z", detached=now - 100, finished=True)
    short, long = add(sessions, "b", detached=now - 6), add(sessions, "a", detached=now - 9)
    assert admitted(sessions)
    assert (short.codes, long.codes, ended.codes) == ([], [None], [])
    assert sessions.get("a") is None
    assert sessions.get("b") is short
    short.detached = now - 1
    add(sessions, "c")
    with pytest.raises(NotAdmitted) as refused:
        sessions.check_admission()
    assert refused.value.retry_after == 4
    assert "try again in 4 s" in str(refused.value)
    assert (short.codes, ended.codes) == ([], [])


def test_a_speech_and_a_client_that_waits_have_priority(sessions: Sessions) -> None:
    one = add(sessions, "a")
    assert not sessions.need_priority
    with sessions.place_for_speech():
        assert sessions.need_priority
    assert not sessions.need_priority
    one.needs_priority = True
    assert sessions.need_priority


def test_a_session_belongs_to_its_owner(sessions: Sessions) -> None:
    one = add(sessions, "a", owner="ann")
    assert sessions.get("a", "ann") is one
    assert sessions.get("a", "bob") is sessions.get("a") is sessions.get("b", "ann") is None


def test_sessions_with_one_face_share_its_motion_and_the_last_faces_are_kept(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "MOST_LOOPS", 2)
    monkeypatch.setattr(sessions_module, "IdleLoop", lambda system, portrait, generate: SimpleNamespace())

    def loop(number: float) -> object:
        portrait = SimpleNamespace(motion=torch.full((3,), number))
        return sessions._loop(SimpleNamespace(portrait=portrait, system=None))

    a, b = loop(1), loop(2)
    assert loop(1) is a
    c = loop(3)  # in the place of b, which was used least recently
    assert loop(1) is a
    assert loop(3) is c
    assert loop(2) is not b
    assert len(sessions._loops) == 2


# -- the end -------------------------------------------------------------------------------------------------


def test_the_total_time_counts_from_the_start_and_the_idle_time_from_the_last_activity(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    busy = add(sessions, "a", began=now - 100)
    quiet = add(sessions, "b", began=now - 100, active=now - 60)
    gone = add(sessions, "c", detached=now - 31)
    back = add(sessions, "d", detached=now - 20)

    def watch(**limits: float) -> None:
        async def for_a_while() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(sessions.watch(), 0.05)

        sessions.limits = Limits(**limits)
        asyncio.run(for_a_while())

    monkeypatch.setattr(sessions_module, "TICK", 0.03)
    watch(idle=50, hold=30)
    assert (busy.codes, quiet.codes, gone.codes, back.codes) == ([], ["idle"], [None], [])
    assert sessions.get("c") is None
    watch(total=90)
    assert busy.codes == ["too_long"]
    assert back.codes == []


def drain(sessions: Sessions) -> threading.Thread:
    thread = threading.Thread(target=lambda: asyncio.run(sessions.drain()))
    thread.start()
    return thread


def test_draining_waits_for_speech_and_for_sessions_that_speak(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "TICK", 0.02)
    with sessions.place_for_speech():
        thread = drain(sessions)
        thread.join(0.1)
        assert thread.is_alive()
        with pytest.raises(NotAdmitted) as refused:
            sessions.check_admission()
        assert (refused.value.code, refused.value.retry_after) == ("draining", 30)
    thread.join()
    speaking, waiting = add(sessions, "a"), add(sessions, "b", waits=True)
    add(sessions, "c", detached=1.0)  # whose client is gone
    waiting.stop = lambda code: (waiting.codes.append(code), sessions._sessions.pop("b"))
    thread = drain(sessions)
    thread.join(0.1)
    assert thread.is_alive()
    assert (waiting.codes, speaking.codes) == (["draining"], [])
    del sessions._sessions["a"]
    thread.join(1)
    assert not thread.is_alive()
    add(sessions, "d")
    sessions.limits = Limits(drain=0.1)
    drain(sessions).join(1)  # for a limited time only


def test_closing_ends_sessions_and_the_motion_of_waiting_faces(sessions: Sessions) -> None:
    calls: list[str] = []
    one = add(sessions, "a", join=lambda: calls.append("join"))
    sessions._loops[b""] = SimpleNamespace(close=lambda: calls.append("close"))
    sessions.close()
    assert one.codes == [None]
    assert calls == ["join", "close"]
    assert sessions.draining


def test_ended_sessions_are_counted_and_slow_ones_reported_once(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    position = SimpleNamespace(generated_ms=1000)
    for rtf, first in ((0.5, 0.25), (1.5, 0.5), (2.0, 1.0), (None, None)):
        state = {"rtf": rtf, "first_chunk_seconds": first, "position": position, "stop_code": None}
        sessions._ended(add(sessions, "a", finish_reason="stop", **state))
    assert sample(sessions, "talker_sessions_ended_total", finish_reason="stop") == 4
    assert sample(sessions, "talker_rtf_sum") == 4.0
    assert sample(sessions, "talker_rtf_count") == 3
    assert sample(sessions, "talker_time_to_first_chunk_seconds_sum") == 1.75
    assert caplog.text.count("slower than real time") == 1
    assert "(rtf 1.50)" in caplog.text
