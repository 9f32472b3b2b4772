"""The WebSocket and the HTTP routes, with a real server on a free port."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import io
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from serve_running import Running, until
from serve_sessions import CAPACITY, studio_of
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection

from talker import Talker, UserError
from talker.cli import main
from talker.identity import Portrait, Voice
from talker.serve import capacity
from talker.serve.captions import milliseconds
from talker.serve.keys import Keys
from talker.serve.protocol import LONGEST_MESSAGE, SessionPong
from talker.serve.server import listen
from talker.serve.session import Limits, Session
from talker.serve.sessions import Sessions
from talker.serve.store import Store
from talker.serve.stream import Connection

TEXT = "Go on. Oh no!"
LONG = "So we go on and on and on and on. " * 20
LIMITS = dataclasses.replace(Limits(), start=1.0, hold=1.0)


@contextlib.contextmanager
def serving(talker: Talker, voice: Voice, portrait: Portrait, folder: Path) -> Iterator[Running]:
    before = threading.active_count()
    store = Store(folder)
    with talker.system.generator.scheduler(CAPACITY) as scheduler:
        studio = studio_of(talker, voice, portrait, Sessions(scheduler, LIMITS), store)
        with Running(studio) as running:
            yield running
    store.close()
    assert threading.active_count() == before


@pytest.fixture(scope="module")
def running(talker: Talker, voice, portrait, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(talker, voice, portrait, tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def server(running: Running) -> Iterator[Running]:
    """The server, without sessions of other tests."""
    yield running
    for session in list(running.sessions._sessions.values()):
        running.sessions.end(session)
        session.join()


class Client:
    """One connection: its events, and the fragments of its stream."""

    def __init__(self, socket: ClientConnection, plays: bool = True) -> None:
        self.socket, self.plays = socket, plays
        self.events: list[dict[str, Any]] = []
        self.fragments: list[bytes] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def next(self, wanted: str) -> dict[str, Any]:
        """Read up to the next event of this type."""
        while True:
            event = json.loads(self.socket.recv(timeout=10))
            self.events.append(event)
            if event["type"] == "video.chunk_metadata":
                data = self.socket.recv(timeout=10)
                assert isinstance(data, bytes)
                assert len(data) == event["byte_length"]
                self.fragments.append(data)
                if self.plays:
                    with contextlib.suppress(ConnectionClosed):  # after the last fragment
                        self.send("playback", position_ms=10**6)
            if event["type"] == wanted:
                return event

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with server.connect() as connection:
        yield Client(connection)


def say(server: Running, text: str = TEXT, **fields: Any) -> bytes:
    """The stream of a text."""
    with server.connect() as connection:
        client = Client(connection)
        client.send("session.start", prompt=text, **fields)
        client.next("session.done")
    return b"".join(client.fragments)


@pytest.fixture(scope="module")
def spoken(running: Running) -> bytes:
    """The stream of TEXT with seed 3."""
    return say(running, seed=3)


def frames_of(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as container:
        return sum(1 for _ in container.decode(video=0))


# -- the stream ----------------------------------------------------------------------------------------------


def test_a_prompt_is_streamed_to_its_end(client: Client, spoken: bytes) -> None:
    client.send("session.start", prompt=TEXT, seed=3, fps=25, format="m4s")
    start = client.next("video.start")
    done = client.next("session.done")
    chunks = client.of("video.chunk_metadata")
    assert [chunk["transport_chunk_index"] for chunk in chunks] == list(range(len(chunks)))
    assert frames_of(b"".join(client.fragments)) == sum(chunk["num_frames"] for chunk in chunks)
    assert chunks[-1]["kind"] == "trailer"
    assert start["config"]["codecs"].startswith("avc1.")
    assert (done["chunks"], done["stopped"], done["finish_reason"]) == (len(chunks), False, "length")
    assert 0 < done["time_to_first_frame"] == done["time_to_first_audio"] < 5
    assert done["rtf"] > 0
    assert client.of("caption")
    with pytest.raises(ConnectionClosedOK):
        client.next("nothing")
    assert spoken == b"".join(client.fragments)


def test_text_in_pieces_is_streamed_like_a_prompt(client: Client, spoken: bytes) -> None:
    client.send("session.start", seed=3)
    for piece in TEXT.split(" "):
        client.send("input_text.append", text=f"{piece} ")
    client.send("input_text.commit")
    client.next("video.chunk_metadata")
    client.send("input_text.end")
    client.next("session.done")
    assert b"".join(client.fragments) == spoken


def test_sound_is_animated(client: Client) -> None:
    client.send("session.start", input="audio")
    assert client.next("video.start")["config"]["lookahead_ms"] == 800
    pcm = (8000 * np.sin(np.arange(24_000) / 30)).astype("<i2").tobytes()
    for k in range(0, len(pcm), 9600):
        client.send("input_audio.append", audio=base64.b64encode(pcm[k : k + 9600]).decode())
    client.send("input_audio.end")
    client.next("session.done")
    assert frames_of(b"".join(client.fragments)) == 25


def test_a_running_stream_can_be_read_by_http(server: Running, client: Client) -> None:
    client.send("session.start")
    name = client.next("video.start")["request_id"]
    client.send("input_text.append", text="Go on. And ")
    client.next("video.chunk_metadata")
    body: list[bytes] = []
    reader = threading.Thread(target=lambda: body.append(server.get(f"/v1/stream/{name}.mp4")[1]))
    reader.start()
    client.send("input_text.end")
    client.next("session.done")
    reader.join()
    assert body == [b"".join(client.fragments)]
    assert server.get("/v1/stream/other.mp4")[0] == 404


# -- leaving and coming back ---------------------------------------------------------------------------------


def test_an_interrupted_session_with_open_input_speaks_again(server: Running, client: Client) -> None:
    client.send("session.start")
    client.send("input_text.append", text=LONG)
    started = client.next("speech.started")
    client.next("video.chunk_metadata")
    client.send("interrupt", event_id="e", audio_end_ms=120)
    interrupted = client.next("session.interrupted")
    ended = client.next("speech.ended")  # before the first fragment in which the face waits
    assert started["start_ms"] == milliseconds(0)
    assert ended["end_ms"] == interrupted["generated_ms"] + milliseconds(0)
    client.send("input_text.append", text="Go.")
    client.send("input_text.end")
    again = client.next("speech.started")
    done = client.next("session.done")
    assert again["start_ms"] > ended["end_ms"]
    assert client.events[-2]["type"] == "speech.ended"
    assert (done["stopped"], done["finish_reason"]) == (False, "length")
    sent = sum(chunk["num_frames"] for chunk in client.of("video.chunk_metadata"))
    assert client.events[-2]["end_ms"] == milliseconds(sent)
    assert frames_of(b"".join(client.fragments)) == sent


def test_interrupt_reports_what_was_generated_sent_and_played(server: Running, client: Client) -> None:
    client.plays = False
    client.send("session.start", prompt=LONG)
    client.next("video.chunk_metadata")
    client.send("playback", position_ms=40)
    client.send("interrupt", event_id="e", audio_end_ms=120)
    answer = client.next("session.interrupted")
    done = client.next("session.done")
    sent = sum(chunk["num_frames"] for chunk in client.of("video.chunk_metadata"))
    assert (answer["event_id"], answer["played_ms"], answer["sent_ms"]) == ("e", 120, 40 * sent)
    assert answer["generated_ms"] >= answer["sent_ms"]
    assert (done["finish_reason"], done["stopped"]) == ("interrupted", True)
    until(lambda: server.sessions.running == 0)


def test_a_client_that_lost_its_connection_continues_with_the_missing_fragments(
    server: Running, spoken: bytes
) -> None:
    with server.connect() as connection:
        first = Client(connection)
        first.send("session.start", prompt=TEXT, seed=3)
        name = first.next("video.start")["request_id"]
        for _ in range(3):
            first.next("video.chunk_metadata")
        first.socket.socket.shutdown(socket.SHUT_RDWR)
    with server.connect() as connection:
        second = Client(connection)
        second.send("session.resume", request_id=name, transport_chunk_index=2)
        assert second.next("video.start")["request_id"] == name
        second.next("session.done")
    assert b"".join(first.fragments[:2] + second.fragments) == spoken


def test_a_newer_connection_replaces_the_older_one(server: Running, client: Client) -> None:
    client.send("session.start")
    name = client.next("video.start")["request_id"]
    with server.connect() as connection:
        newer = Client(connection)
        newer.send("session.resume", request_id=name, transport_chunk_index=0)
        assert client.next("error")["code"] == "replaced"
        newer.send("input_text.append", text=TEXT)
        newer.send("input_text.end")
        newer.next("session.done")


def test_a_session_ends_when_its_client_does_not_come_back(server: Running) -> None:
    with server.connect() as connection:
        client = Client(connection)
        client.send("session.start")
        name = client.next("video.start")["request_id"]
    assert server.sessions.running == 1
    until(lambda: server.sessions.get(name) is None)
    assert server.sessions.running == 0
    with server.connect() as connection:
        client = Client(connection)
        client.send("session.resume", request_id=name, transport_chunk_index=0)
        assert client.next("error")["code"] == "not_found"


def test_stop_ends_a_session_at_once(server: Running, client: Client) -> None:
    client.send("session.start")
    name = client.next("video.start")["request_id"]
    client.send("session.stop")
    assert client.next("session.done")["stopped"]
    assert server.sessions.get(name) is None


# -- errors --------------------------------------------------------------------------------------------------

MALFORMED = [
    ("", "invalid_message"),
    ("[" * 100_000, "invalid_message"),
    ("7", "invalid_message"),
    ("{}", "unknown_type"),
    ('{"type": "session.interaction"}', "unknown_type"),
    ('{"type": 3}', "unknown_type"),
    ('{"type": "playback"}', "invalid_message"),
    ('{"type": "playback", "position_ms": -1}', "invalid_message"),
    ('{"type": "playback", "position_ms": 1e400}', "invalid_message"),
    ('{"type": "session.ping", "x": 1}', "unsupported_field"),
    ('{"type": "input_text.append", "text": "' + "a" * LONGEST_MESSAGE + '"}', "message_too_large"),
    (b"\x00\xff", "invalid_message"),
    ('{"type": "input_audio.append", "audio": "AAAA"}', "unexpected_message"),
    ('{"type": "session.start"}', "unexpected_message"),
]


def test_a_session_that_is_slower_than_real_time_says_so_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "is_behind", True)
    client.send("session.start", prompt=TEXT)
    client.next("session.done")
    assert [event["code"] for event in client.of("warning")] == ["slower_than_real_time"]


def test_garbage_gets_an_error_with_a_code_and_the_session_goes_on(client: Client, spoken: bytes) -> None:
    for early in ("{", '{"type": "input_text.commit"}'):
        client.socket.send(early)
    client.send("session.start", seed=3)
    client.next("video.start")
    for text, code in MALFORMED:
        client.socket.send(text)
        assert client.next("error")["code"] == code, text[:80]
    client.send("input_text.append", text="Je ne sais pas où vous êtes, merci beaucoup.")
    client.send("input_text.commit")
    assert client.next("error")["code"] == "invalid_text"
    client.send("session.ping")
    client.next("session.pong")
    client.send("input_text.append", text=TEXT)
    client.send("input_text.end")
    client.next("session.done")
    assert b"".join(client.fragments) == spoken
    assert [event["code"] for event in client.events[:2]] == ["invalid_message", "unexpected_message"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"voice": "/etc/passwd"}, "not_found"),
        ({"portrait": "face.png"}, "not_found"),
        ({"image_reference": {"file_id": "face.png"}}, "not_found"),
        ({"model": "other"}, "unsupported_field"),
        ({"fps": 30}, "unsupported_field"),
        ({"input": "audio", "prompt": "Hi"}, "unsupported_field"),
        ({"prompt": "Je ne sais pas où vous êtes, merci beaucoup."}, "invalid_text"),
    ],
)
def test_a_session_that_cannot_start_is_refused_with_a_code(client: Client, fields, code: str) -> None:
    client.send("session.start", **fields)
    assert client.next("error")["code"] == code
    with pytest.raises(ConnectionClosed):
        client.next("nothing")


def test_a_field_that_is_not_supported_is_named_and_the_start_can_be_repeated(client: Client) -> None:
    client.send("session.start", prompt="Go.", guidance_scale=3)
    assert "guidance_scale" in client.next("error")["message"]
    client.send("session.start", prompt="Go.")
    client.next("session.done")


def test_a_connection_that_says_nothing_is_closed(client: Client) -> None:
    assert client.next("error")["code"] == "start_timeout"


def test_more_sessions_than_rows_are_refused_with_a_time_to_try_again(server: Running) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(CAPACITY):
            client = Client(stack.enter_context(server.connect()))
            client.send("session.start")
            client.next("video.start")
        refused = Client(stack.enter_context(server.connect()))
        refused.send("session.start", prompt="Go.")
        event = refused.next("error")
        assert (event["code"], event["retry_after"]) == ("at_capacity", 5)
        with pytest.raises(ConnectionClosed) as closed:
            refused.next("nothing")
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "at_capacity; Retry-After: 5")
        assert b"talker_sessions 4.0" in server.get("/metrics")[1]
        assert b'talker_sessions_rejected_total{code="at_capacity"} 1.0' in server.get("/metrics")[1]


def test_requests_of_foreign_origins_and_host_names_are_refused(server: Running) -> None:
    own = f"http://{server.address}"
    for headers, status in (
        ({}, 200),
        ({"Origin": own}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": own.replace("http", "https")}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "localhost:1"}, 200),
    ):
        for path in ("/healthz", "/readyz", "/v1/models", "/metrics", "/openapi.json"):
            assert server.get(path, **headers)[0] == status, (path, headers)
    with server.connect(origin=own):
        pass
    for wrong in ("http://evil.example", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            server.connect(origin=wrong)


def test_errors_have_the_shape_of_openai(server: Running) -> None:
    for path in ("/v1/stream/x.mp4", "/nothing"):
        status, body = server.get(path)
        assert status == 404
        assert set(json.loads(body)["error"]) == {"message", "type", "code", "param"}


def test_a_server_whose_generation_failed_is_neither_healthy_nor_ready(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [server.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    monkeypatch.setattr(Sessions, "failed", True)
    assert [server.get(path)[0] for path in ("/healthz", "/readyz")] == [503, 503]


def test_browsers_ask_again_for_every_file_of_the_page(server: Running) -> None:
    for path in ("/", "/page/app.js"):
        _, headers, _ = server.request("GET", path)
        assert headers["cache-control"] == "no-cache"


# -- the server ----------------------------------------------------------------------------------------------


def test_a_signal_lets_running_sessions_end_and_admits_no_others(
    talker: Talker, voice, portrait, tmp_path: Path
) -> None:
    with serving(talker, voice, portrait, tmp_path) as server, server.connect() as connection:
        server.sessions.limits = dataclasses.replace(LIMITS, ahead=0.5)
        client = Client(connection, plays=False)
        client.send("session.start")
        client.send("input_text.append", text="So we go on and on and on and on. And ")
        client.next("video.chunk_metadata")
        server.server.handle_exit(15, None)
        until(lambda: server.sessions.draining)
        for path in ("/readyz", "/v1/audio/speech"):
            method = "GET" if path == "/readyz" else "POST"
            assert server.json(method, path, {"input": "Go."})["error"]["code"] == "draining"
        with server.connect() as other_connection:
            other = Client(other_connection)
            other.send("session.start")
            assert other.next("error")["code"] == "draining"
        client.plays = True
        client.send("playback", position_ms=10**6)
        client.send("input_text.end")
        assert client.next("session.done")["finish_reason"] == "length"
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_only_the_own_machine_is_served() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(UserError, match="--host"):
            listen(host, 0, Keys({}))
    with listen("localhost", 0, Keys({})) as listener, pytest.raises(UserError, match="--port"):
        listen("localhost", listener.getsockname()[1], Keys({}))
    for port in (-5, 70_000):
        with pytest.raises(UserError, match=f"--port {port} is no port"):
            listen("localhost", port, Keys({}))


def test_the_capacity_is_the_largest_at_which_a_lone_session_is_fast_enough(
    talker: Talker, voice, portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "TEXT", "Go.")
    assert capacity.slowest_rtf(talker.system, voice, portrait, 1) > 0
    for rtfs, expected in (((0.5, 0.85, 0.9), 4), ((0.9,), 1), ((0.1, 0.2, 0.3, 0.4), 16)):
        measures = iter(rtfs)
        monkeypatch.setattr(capacity, "slowest_rtf", lambda *_, measures=measures: next(measures))
        assert capacity.measured_capacity(talker.system, voice, portrait) == expected
        assert next(measures, None) is None


def test_so_many_sessions_are_admitted_that_the_slowest_is_fast_enough(
    talker: Talker, voice, portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "TEXT", "Go.")
    assert capacity.slowest_rtf(talker.system, voice, portrait, CAPACITY, 2) > 0
    for rows, rtfs, expected in ((1, (), 1), (4, (0.96,), 1), (8, (0.5, 0.95, 1.1), 4), (4, (0.1, 0.2), 4)):
        measures = iter(rtfs)
        monkeypatch.setattr(capacity, "slowest_rtf", lambda *_, measures=measures: next(measures))
        assert capacity.measured_sessions(talker.system, voice, portrait, rows) == expected
        assert next(measures, None) is None


def test_a_client_that_does_not_read_counts_as_gone() -> None:
    class Stuck:
        async def send_text(self, text: str) -> None:
            await asyncio.sleep(60)

    async def send() -> None:
        await Connection(Stuck(), patience=0.05).send(SessionPong())  # type: ignore[arg-type]

    with pytest.raises(WebSocketDisconnect):
        asyncio.run(send())


def test_the_command_names_the_missing_extra_and_the_refused_option(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "--host 0.0.0.0" in caplog.text
    monkeypatch.delitem(sys.modules, "talker.serve.server")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "talker.serve.app")
    assert main(["serve"]) == 2
    assert "pip install 'talker[serve]'" in caplog.text
