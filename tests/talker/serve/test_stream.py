"""The events of a stream, in order, and how messages reach the session; without a network and a model."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from starlette.websockets import WebSocketDisconnect

from talker import Talker, UserError
from talker.clips.animate import lookahead_seconds
from talker.serve import stream as stream_module
from talker.serve.captions import Caption, milliseconds
from talker.serve.inputs import LONGEST_SOUND, InputError, SoundInput, TextInput
from talker.serve.protocol import (
    AudioAppend,
    Interrupt,
    Playback,
    SessionPing,
    SessionResume,
    SessionStart,
    TextAppend,
    TextCommit,
)
from talker.serve.session import Fragment, FragmentLost, Position
from talker.serve.sessions import NotAdmitted
from talker.serve.stream import (
    Refused,
    _clip,
    _feed,
    _first_message,
    _handle,
    _opened,
    _run,
    _send_stream,
)

STUDIO = SimpleNamespace(
    system=SimpleNamespace(resolution=32, patch_frames=4, audio_vae=SimpleNamespace(encoder_lookahead=5))
)


class Sent:
    """A connection: what is sent on it, and what it receives."""

    def __init__(self, *received: Any) -> None:
        self.events: list[Any] = []
        self.received = list(received)

    async def send(self, event: Any, data: bytes = b"") -> None:
        self.events.append(event)

    async def send_error(self, error: InputError) -> None:
        self.events.append(error)

    async def receive(self) -> Any:
        if not self.received:
            await asyncio.sleep(60)
        return self.received.pop(0)


class Followed:
    """A session with given fragments."""

    id, codecs, is_behind, error = "s", "avc1", False, None

    def __init__(self, *parts: Fragment, **state: Any) -> None:
        self.parts, self.clip = parts, SimpleNamespace(generates_audio=True)
        self.finish_reason, self.stopped, self.stop_code = "stop", False, None
        self.first_chunk_seconds, self.rtf = 0.25, 0.5
        self.reported: list[int] = []
        vars(self).update(state)

    async def follow(self, index: int) -> AsyncIterator[Fragment]:
        for one in self.parts[index:]:
            if one.index == 99:
                raise FragmentLost("lost")
            yield one

    def report_sent(self, fragment: Fragment) -> None:
        self.reported.append(fragment.index)


def parts(speaks: str) -> list[Fragment]:
    """A fragment of four frames for each letter: "s" speech, "w" waiting, "." the end of the sound."""
    return [
        Fragment(k, b"x" * (k + 1), 4 * k, 0 if kind == "." else 4, speaks=kind != "w")
        for k, kind in enumerate(speaks)
    ]


def stream(session: Followed, index: int = 0) -> list[Any]:
    connection = Sent()
    asyncio.run(_send_stream(connection, session, index, STUDIO))
    return connection.events


def speech(speaks: str, index: int = 0) -> list[tuple[str, int]]:
    """The events of speech, each with its time in frames."""
    times = {milliseconds(frame): frame for frame in range(100)}
    return [
        (event.type, times[event.start_ms if event.type == "speech.started" else event.end_ms])
        for event in stream(Followed(*parts(speaks)), index)
        if event.type.startswith("speech.")
    ]


def test_speech_starts_and_ends_at_its_first_and_after_its_last_frame() -> None:
    started, ended = "speech.started", "speech.ended"
    assert speech("ss.") == speech("ss") == [(started, 0), (ended, 8)]
    assert speech("wssw.") == [(started, 4), (ended, 12)]
    assert speech("wsws.") == [(started, 4), (ended, 8), (started, 12), (ended, 16)]
    assert speech("w.") == speech(".") == speech("") == []
    assert speech("sssw.", 2) == [(started, 8), (ended, 12)]  # after a lost connection


def test_every_fragment_is_described_before_its_captions_and_the_end_comes_last() -> None:
    captions = (Caption("Go", 1, 2), Caption("on.", 2, 3))
    session = Followed(*(media := parts("ss.")), is_behind=True)
    session.parts = (dataclasses.replace(media[0], captions=captions), *media[1:])
    events = stream(session)
    assert [event.type for event in events] == [
        "video.start", "speech.started", "video.chunk_metadata", "caption", "caption", "warning",
        "video.chunk_metadata", "video.chunk_metadata", "speech.ended", "session.done",
    ]  # fmt: skip
    chunks = [event for event in events if event.type == "video.chunk_metadata"]
    assert [(one.kind, one.first_frame, one.num_frames, one.byte_length) for one in chunks] == [
        ("media", 0, 4, 1), ("media", 4, 4, 2), ("trailer", 8, 0, 3)
    ]  # fmt: skip
    assert [one.transport_chunk_index for one in chunks] == [0, 1, 2] == session.reported
    assert [(event.text, event.start_ms, event.end_ms) for event in events[3:5]] == [
        ("Go", 1, 2),
        ("on.", 2, 3),
    ]
    done = events[-1]
    assert (done.chunks, done.time_to_first_audio, done.time_to_first_frame, done.rtf) == (3, 0.25, 0.25, 0.5)
    assert stream(session, 1)[-1].chunks == 3
    assert stream(session, 3)[-1].chunks == 3


def test_a_stream_of_given_sound_names_how_much_of_it_is_needed() -> None:
    assert stream(Followed())[0].config.lookahead_ms == 0
    given = Followed(clip=SimpleNamespace(generates_audio=False))
    assert stream(given)[0].config.lookahead_ms == round(1000 * lookahead_seconds(STUDIO.system)) == 960


@pytest.mark.parametrize(
    ("state", "code", "message"),
    [
        ({"stop_code": "idle", "stopped": True}, "idle", "nothing was sent"),
        ({"error": UserError("give mono samples")}, "server_error", "give mono samples"),
        ({"error": KeyError("/secret")}, "server_error", "see the log of the server"),
    ],
)
def test_a_session_that_ends_early_says_why(state: dict[str, Any], code: str, message: str) -> None:
    *_, error, done = stream(Followed(*parts("s"), **state))
    assert (error.code, error.request_id, done.type) == (code, "s", "session.done")
    assert message in error.message
    assert "secret" not in error.message
    assert done.stopped == state.get("stopped", False)


def test_a_fragment_that_is_lost_ends_the_connection() -> None:
    with pytest.raises(Refused) as refused:
        stream(Followed(Fragment(99, b"", 0, 4)))
    assert refused.value.event.code == "chunk_lost"


class Attached(Followed):
    """A session that takes clients, and waits after its last fragment."""

    def __init__(self, *parts: Fragment, **state: Any) -> None:
        super().__init__(*parts, **state)
        self.calls: list[str] = []
        self.replaced: Any = None

    def attach(self, on_replaced: Any) -> None:
        self.replaced = on_replaced

    def detach(self) -> None:
        self.calls.append("detach")

    async def follow(self, index: int) -> AsyncIterator[Fragment]:
        async for one in super().follow(index):
            yield one
        if not self.stopped:
            await asyncio.sleep(60)


def test_a_session_waits_for_a_client_that_is_gone_and_not_for_one_that_was_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "CLOSING", 0.02)

    async def run(session: Attached, connection: Sent, then: Any) -> None:
        asyncio.get_running_loop().call_later(0.02, then)
        await _run(connection, session, 0, studio)

    ended: list[Any] = []
    studio = SimpleNamespace(system=STUDIO.system, sessions=SimpleNamespace(end=ended.append))
    session = Attached(*parts("s"))
    with pytest.raises(Refused, match="another connection"):
        asyncio.run(run(session, Sent(), lambda: session.replaced()))
    assert session.calls == []

    class Gone(Sent):
        async def receive(self) -> Any:
            raise WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect):
        asyncio.run(run(session, Gone(), lambda: None))
    assert (session.calls, ended) == (["detach"], [])

    class Closing(Sent):
        closed: list[int]

        def __init__(self) -> None:
            super().__init__()
            self.closed = []
            self.websocket = SimpleNamespace(close=self.close)

        async def close(self, code: int) -> None:
            self.closed.append(code)

    for stopped in (False, True):
        session = Attached(stopped=stopped)
        session.follow = Followed.follow.__get__(session)  # it ends at once
        connection = Closing()
        asyncio.run(run(session, connection, lambda: None))
        assert connection.events[-1].type == "session.done"
        assert connection.closed == [1000]
        assert ended == [session] * stopped  # nothing is left to continue


# -- the first message ---------------------------------------------------------------------------------------


def test_a_ping_is_answered_before_the_start_and_other_messages_are_not_used() -> None:
    start = SessionStart(type="session.start")
    connection = Sent(SessionPing(type="session.ping"), TextCommit(type="input_text.commit"), start)
    assert asyncio.run(_first_message(connection, 5.0)) is start
    pong, error = connection.events
    assert (pong.type, error.code) == ("session.pong", "unexpected_message")
    with pytest.raises(Refused, match=r"within 0\.01 s"):
        asyncio.run(_first_message(Sent(), 0.01))


def resume(index: int) -> SessionResume:
    return SessionResume(type="session.resume", request_id="s", transport_chunk_index=index)


def test_a_session_continues_up_to_the_next_fragment() -> None:
    session = SimpleNamespace(count=3)
    found = {("s", "ann"): session}
    studio = SimpleNamespace(sessions=SimpleNamespace(get=lambda name, owner: found.get((name, owner))))
    for index in (0, 3):
        assert asyncio.run(_opened(resume(index), studio, "ann")) == (session, index)
    for index, owner, code in ((4, "ann", "chunk_lost"), (0, "bob", "not_found")):
        with pytest.raises(Refused) as refused:
            asyncio.run(_opened(resume(index), studio, owner))
        assert refused.value.event.code == code


def test_nothing_is_prepared_for_a_client_that_is_not_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise NotAdmitted("at_capacity", "full", 7)

    monkeypatch.setattr(stream_module, "_clip", lambda *_: pytest.fail("a clip was prepared"))
    studio = SimpleNamespace(sessions=SimpleNamespace(check_admission=refuse))
    with pytest.raises(Refused) as refused:
        asyncio.run(_opened(SessionStart(type="session.start"), studio, "ann"))
    assert (refused.value.event.retry_after, refused.value.close) == (7, 1013)
    assert refused.value.reason == "at_capacity; Retry-After: 7"


def test_the_fields_of_a_start_reach_the_clip(talker: Talker, voice, portrait) -> None:
    def item(kind: str, value: Any) -> SimpleNamespace:
        return SimpleNamespace(get=lambda name, owner: (asked.append((kind, name, owner)), value)[1])

    asked: list[tuple[str, str | None, str]] = []
    studio = SimpleNamespace(
        system=talker.system, model="m", voices=item("voice", voice), portraits=item("portrait", portrait)
    )
    fields = {"type": "session.start", "seed": 7, "width": 32, "height": 32, "fps": 25, "model": "m"}
    reference = {"file_id": "r"}
    clip, feed = _clip(SessionStart(**fields, prompt="Go. On.", voice="v", portrait="p"), studio, "ann")
    assert (clip.seed, clip.voice, clip.portrait, clip.sentences) == (7, voice, portrait, feed.channel)
    assert list(feed.channel) == ["Go.", "On."]
    clip, feed = _clip(SessionStart(**fields, input="audio", image_reference=reference), studio, "bob")
    assert (clip.seed, clip.level, clip.portrait, clip.sound) == (7, None, portrait, feed.channel)
    assert asked == [("portrait", "p", "ann"), ("voice", "v", "ann"), ("portrait", "r", "bob")]
    for name, value in (("width", 64), ("height", 16), ("fps", 30), ("model", "x")):
        with pytest.raises(InputError, match=f"{name} must be"):
            _clip(SessionStart(**fields | {name: value}), studio, "ann")
    for more in ({"prompt": "Go."}, {"voice": "v"}):
        with pytest.raises(InputError, match="leave them out"):
            _clip(SessionStart(**fields, input="audio", **more), studio, "ann")


# -- later messages ------------------------------------------------------------------------------------------


def test_messages_reach_the_session(talker: Talker) -> None:
    calls: list[Any] = []

    def called(name: str) -> Any:
        return lambda *values: calls.append((name, *values))

    names = ("report_playback", "interrupt", "wait_for_interruption", "report_input")
    session = SimpleNamespace(
        stopped=False,
        position=Position(3, 2, 1),
        feed=TextInput(talker.system),
        **{n: called(n) for n in names},
    )
    connection = Sent()

    def handle(message: Any) -> list[Any]:
        calls.clear()
        asyncio.run(_handle(message, connection, session, None))
        return list(calls)

    assert handle(Playback(type="playback", position_ms=5)) == [("report_playback", 5)]
    assert handle(TextAppend(type="input_text.append", text="Go. ")) == [("report_input",)]
    interrupt = [("interrupt",), ("wait_for_interruption",)]
    assert handle(Interrupt(type="interrupt", event_id="e")) == interrupt
    answer = connection.events.pop()
    assert (answer.event_id, answer.generated_ms, answer.sent_ms, answer.played_ms) == ("e", 3, 2, 1)
    assert handle(Interrupt(type="interrupt", audio_end_ms=0)) == [("report_playback", 0), *interrupt]
    session.stopped = True  # nothing else will come
    assert handle(Interrupt(type="interrupt")) == interrupt[:1]
    with pytest.raises(InputError, match="open another connection"):
        handle(resume(0))


# -- input ---------------------------------------------------------------------------------------------------


def sound(samples: int) -> str:
    return base64.b64encode(bytes(2 * samples)).decode()


def test_sound_that_was_taken_makes_room_for_more() -> None:
    feed, minute = SoundInput(), sound(60 * 24_000)
    session = SimpleNamespace(feed=feed, idle=SimpleNamespace(taken=0))
    message = AudioAppend(type="input_audio.append", audio=minute)
    for _ in range(LONGEST_SOUND // 60):
        _feed(message, session)
    with pytest.raises(InputError, match="are waiting"):
        _feed(message, session)
    session.idle.taken = 60 * 24_000
    _feed(message, session)
    session.idle.taken = 0
    feed.clear()  # a new clip has taken nothing
    for _ in range(LONGEST_SOUND // 60):
        _feed(message, session)
    with pytest.raises(InputError, match="does not fit"):
        _feed(TextCommit(type="input_text.commit"), session)


def test_sound_is_passed_on_in_blocks_of_a_frame_or_more() -> None:
    feed = SoundInput()
    first = feed.channel
    feed.append(sound(959), 0)
    assert not first.wait(0)
    feed.append(sound(1), 0)
    assert len(next(iter(first))) == 960
    feed.append(base64.b64encode(np.full(100, -32768, "<i2").tobytes()).decode(), 0)
    feed.clear()  # the rest of the old sound, too
    assert first.cancelled
    feed.append(sound(960), 0)
    feed.end()
    assert np.concatenate(list(feed.channel)).tolist() == [0] * 960


def test_clearing_a_text_drops_what_is_incomplete_and_the_length_of_all_text_is_limited(
    talker: Talker,
) -> None:
    feed = TextInput(talker.system)
    feed.append("Go. Not ")
    old = feed.channel
    feed.clear()
    assert old.cancelled
    feed.append("On. And ")
    feed.end()
    assert list(feed.channel) == ["On.", "And"]
    feed = TextInput(talker.system)
    for _ in range(10):
        feed.append(" " * 9_999)
    with pytest.raises(InputError, match="at most 100,000"):
        feed.append(" " * 11)
    feed.append(" " * 10)
