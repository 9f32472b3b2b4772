"""Parts of the server alone: bodies, errors, uploads in their process, speech in its thread, keys."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import math
import resource
import signal
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from media_files import person, write_sound, write_video
from starlette.datastructures import UploadFile

from talker import UserError
from talker.media.provenance import generated_tags, is_generated
from talker.serve import capacity, opener, server
from talker.serve.app import _bytes_of
from talker.serve.cancellable import Cancellable
from talker.serve.errors import ApiError, on_http_error, on_input_error, on_not_admitted
from talker.serve.events import events_to_stderr, log_event
from talker.serve.forms import save_file
from talker.serve.gate import Gate
from talker.serve.inputs import InputError
from talker.serve.keys import AccessTickets, Keys, add_key
from talker.serve.sessions import NotAdmitted
from talker.serve.speech import SpeechRequest, _in_thread, _plan, encoded
from talker.serve.uploads import checked_consent
from talker.stages import Cancelled

# -- bodies and errors ---------------------------------------------------------------------------------------


def saved(value: Any, path: Path, limit: int) -> bytes | str:
    """What was written, or the code of the error."""
    try:
        asyncio.run(save_file(value, path, limit, "image"))
    except InputError as error:
        return error.code
    return path.read_bytes()


def test_a_file_is_saved_up_to_its_limit_as_a_part_or_a_url(tmp_path: Path) -> None:
    path, data = tmp_path / "x", bytes(range(200))
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"

    def part(read: int = 0, size: int | None = len(data)) -> UploadFile:
        (file := io.BytesIO(data)).read(read)
        return UploadFile(file, size=size)

    for given in (part(), part(100), url, {"image_url": url}):
        assert saved(given, path, 200) == data
    for given in (part(), url):
        assert saved(given, path, 199) == "too_large"
    assert saved(part(size=None), path, 200) == "too_large"
    for wrong in (url + "?", url.replace(";base64", ""), "http://a/b.png", "file:///etc/passwd"):
        assert saved(wrong, path, 10**6) == "unsupported_url"


def test_errors_have_their_status_and_headers() -> None:
    def answer(handler: Any, error: Exception) -> tuple[int, str, str | None, str | None]:
        made = asyncio.run(handler(None, error))
        body = json.loads(made.body)["error"]
        return made.status_code, body["code"], body["param"], made.headers.get("retry-after")

    assert answer(on_not_admitted, NotAdmitted("draining", "", 30)) == (503, "draining", None, "30")
    assert answer(on_not_admitted, NotAdmitted("at_capacity", "", 5)) == (429, "at_capacity", None, "5")
    many = ApiError(429, "too_many_jobs", "", "prompt", headers={"Retry-After": "30"})
    assert answer(on_http_error, many) == (429, "too_many_jobs", "prompt", "30")
    assert answer(on_input_error, InputError("x", "", "seed")) == (400, "x", "seed", None)


def test_a_consent_is_a_short_statement() -> None:
    for refused in (None, " ", "No", "FALSE", "0", "None"):
        with pytest.raises(InputError) as error:
            checked_consent(refused, "face")
        assert error.value.code == "consent_required"
    assert checked_consent(" she said yes ", "face") == "she said yes"
    assert len(checked_consent("y" * 5000, "face")) == 1000


def passed(scope: dict[str, Any], app: Any, keys: Keys | None = None) -> list[dict[str, Any]]:
    """What a gate sends for a request."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 3_000_000}

    base = {"type": "http", "method": "GET", "path": "/v1/models", "query_string": b"", "server": ("::1", 1)}
    scope = base | {"headers": [(b"host", b"localhost")]} | scope
    asyncio.run(Gate(app, keys or Keys({}), AccessTickets())(scope, receive, send))
    return sent


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def test_a_gate_refuses_two_hosts_or_origins_and_paths_that_look_public() -> None:
    def status(path: str = "/", keys: Keys | None = None, **headers: tuple[str, ...]) -> int:
        pairs = [(name.encode(), one.encode()) for name, values in headers.items() for one in values]
        return passed({"path": path, "headers": pairs}, ok, keys)[0]["status"]

    own = "http://localhost"
    assert status(host=("localhost",), origin=(own,)) == 200
    assert status(host=("localhost", "localhost")) == 403
    assert status(host=("localhost",), origin=(own, own)) == 403
    assert status(host=()) == 403
    keys = Keys({"ann": "0" * 64})
    host = {"host": ("localhost",)}
    assert status("/page/app.js", keys, **host) == status("/", keys, **host) == 200
    assert status("/v1/videos/page/x", keys, **host) == status("/pages", keys, **host) == 401


def test_errors_before_the_end_of_an_answer_are_raised_and_later_ones_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def early(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("early")

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await ok(scope, receive, send)
        raise KeyError("late")

    with pytest.raises(KeyError, match="early"):
        passed({}, early)
    assert len(passed({}, late)) == 2
    assert "late" in caplog.text


def test_refusals_have_the_headers_and_the_status_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def reads(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise AssertionError("the body is larger than its limit")

    with caplog.at_level("INFO", "talker"):
        start, *_ = passed({}, reads)
    assert start["status"] == 413
    assert (b"x-content-type-options", b"nosniff") in start["headers"]
    (event,) = [json.loads(record.message) for record in caplog.records]
    assert (event["event"], event["status"], event["owner"]) == ("request", 413, "local")


def test_events_are_written_to_standard_error_only_in_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("talker.serve.events")
    log.setLevel("INFO")
    try:
        with events_to_stderr():
            log_event("inside", seconds=1.0)
            assert not log.propagate
        log_event("outside")
    finally:
        log.setLevel(logging.NOTSET)
    assert log.propagate
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line).items() >= {"event": "inside", "seconds": 1.0}.items()


# -- keys ----------------------------------------------------------------------------------------------------


def test_keys_are_added_on_lines_of_their_own_and_names_are_unique(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    ann = add_key(path, "ann")
    path.write_text(path.read_text().strip())  # an editor has removed the end of the line
    keys = {"ann": ann, "bob": add_key(path, "bob")}
    read = Keys.read(path)
    assert {name: read.owner(key) for name, key in keys.items()} == {"ann": "ann", "bob": "bob"}
    path.write_text(path.read_text() + path.read_text().splitlines()[0])
    with pytest.raises(UserError, match="line 3 is no new name"):
        Keys.read(path)


# -- uploads -------------------------------------------------------------------------------------------------


def test_an_upload_of_sound_keeps_its_gaps_and_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "gap.mkv", tmp_path / "out.wav"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for start in (0.0, 0.75):
            frame = av.AudioFrame.from_ndarray(np.full((1, 2000), 8192, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, round(8000 * start), Fraction(1, 8000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for longest, refused in ((1, False), (0.9, True)):
        monkeypatch.setitem(opener.LONGEST, "sound", longest)
        if refused:
            with pytest.raises(opener.Refused, match=r"longer than 0\.9 s"):
                opener._write_sound(source, target)
            continue
        opener._write_sound(source, target)
        with av.open(str(target)) as container:
            pcm = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert len(pcm) == 8000
        assert not pcm[2000:6000].any()
        assert np.abs(pcm[[0, 1999, 6000, 7999]] - 8192).max() <= 1


def test_an_upload_of_a_video_keeps_its_tags_and_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = write_video(tmp_path / "plain.mp4", [np.resize(person(64), (64, 63, 3))[:, :62]] * 4)
    source, target = tmp_path / "a.mp4", tmp_path / "out.mp4"
    with av.open(str(plain)) as given, av.open(str(source), "w") as container:
        container.metadata.update(generated_tags("s", "generated from the portrait ada"))
        copy = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = copy
                container.mux(packet)
    monkeypatch.setitem(opener.LONGEST, "video", 4 / 25)
    opener._write_video(source, target)
    assert is_generated(target, "Picture")
    with av.open(str(target)) as container:
        shapes = [frame.to_ndarray(format="rgb24").shape for frame in container.decode(video=0)]
    assert shapes == [(64, 62, 3)] * 4
    monkeypatch.setitem(opener.LONGEST, "video", 3 / 25)
    with pytest.raises(opener.Refused, match="longer than"):
        opener._write_video(source, target)
    monkeypatch.setattr(opener, "MAX_VIDEO_PIXELS", 64 * 62 - 1)
    with pytest.raises(UserError, match="above the limit"):
        opener._write_video(source, target)


def test_only_known_containers_are_opened(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nGo.\n")
    with pytest.raises(opener.Refused, match="of a known format"):
        opener._check_format(tmp_path / "a.srt")
    opener._check_format(write_sound(tmp_path / "a.wav", "pcm_s16le", seconds=0.1))


def test_a_limit_of_a_process_is_never_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(opener.resource, "setrlimit", lambda kind, pair: limits.append(pair))
    for hard, expected in ((resource.RLIM_INFINITY, 100), (50, 50), (500, 100)):
        monkeypatch.setattr(opener.resource, "getrlimit", lambda kind, hard=hard: (hard, hard))
        opener._limit(resource.RLIMIT_CPU, 100)
        assert limits.pop() == (expected, hard)


# -- speech and generations ----------------------------------------------------------------------------------


def test_a_generation_that_was_cancelled_is_ended_and_starts_no_other() -> None:
    calls: list[str] = []
    run = Cancellable(lambda request: SimpleNamespace(cancel=lambda: calls.append("cancel")))
    run(None)
    run.cancel()
    assert (calls, run.cancelled) == (["cancel"], True)
    with pytest.raises(Cancelled):
        run(None)


class Place:
    def __init__(self) -> None:
        self.held = 0

    def __enter__(self) -> None:
        self.held += 1

    def __exit__(self, *_: object) -> None:
        self.held -= 1


def test_speech_holds_its_place_until_it_is_generated_and_leaving_cancels_it() -> None:
    place, cancelled = Place(), []

    def produce() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    async def read(most: int) -> list[bytes]:
        found = []
        items = _in_thread(produce, lambda: cancelled.append(1), place)
        async for item in items:
            assert place.held in (0, 1)
            found.append(item)
            if len(found) == most:
                break
        await items.aclose()
        return found

    assert asyncio.run(read(9)) == [b"a", b"b"]
    assert (place.held, cancelled) == (0, [1])
    assert asyncio.run(read(1)) == [b"a"]
    assert cancelled == [1, 1]


def test_speech_has_the_tags_of_its_clip_and_does_not_end_as_if_whole_when_cancelled() -> None:
    run = Cancellable(lambda request: None)
    chunk = SimpleNamespace(pcm=np.zeros(24_000, np.float32))

    def clip(*chunks: Any) -> SimpleNamespace:
        take = SimpleNamespace(chunks=lambda generate: iter(chunks))
        return SimpleNamespace(tags={"comment": "AI-generated"}, take=lambda: take)

    assert b"AI-generated" in b"".join(encoded(clip(chunk), run, "flac"))
    assert len(b"".join(encoded(clip(chunk, chunk), run, "pcm"))) == 96_000
    run.cancel()
    with pytest.raises(Cancelled):
        list(encoded(clip(chunk), run, "pcm"))


def test_the_fields_of_a_request_for_speech_reach_the_clip() -> None:
    calls: list[Any] = []
    studio: Any = SimpleNamespace(
        voices=SimpleNamespace(get=lambda name, owner: (name, owner)),
        talker=SimpleNamespace(say=lambda *given, **more: calls.append((*given, more))),
    )
    _plan(studio, SpeechRequest(input="Go.", voice={"id": "v"}, seed=7), "ann")
    assert calls == [("Go.", ("v", "ann"), {"seed": 7, "audio_only": True})]


# -- the server ----------------------------------------------------------------------------------------------


def test_a_stream_that_is_read_from_its_middle_begins_with_the_init_segment_once() -> None:
    class Running:
        init = b"init"

        def __init__(self, start: int) -> None:
            self.start = start

        def oldest_keyframe(self) -> int:
            return self.start

        async def follow(self, index: int) -> Any:
            for data in (b"init0", b"1", b"2")[index:]:
                yield SimpleNamespace(data=data)

    async def read(start: int) -> bytes:
        return b"".join([part async for part in _bytes_of(Running(start))])

    assert asyncio.run(read(0)) == b"init012"
    assert asyncio.run(read(1)) == b"init12"


def test_the_slowest_of_several_sessions_counts_and_errors_are_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[SimpleNamespace] = []
    rates: list[float | None] = [0.5, 0.75, None]

    def session(clip: Any, feed: Any, generate: Any, loop: Any, limits: Any, on_end: Any) -> SimpleNamespace:
        assert limits.ahead == math.inf
        made.append(SimpleNamespace(rtf=rates[len(made)], error=None, join=lambda: None))
        return made[-1]

    class Scheduler:
        submit = None

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

    for name in ("TextInput", "LiveUtterance", "IdleLoop"):
        monkeypatch.setattr(
            capacity, name, lambda *_, **__: SimpleNamespace(whole=lambda text: None, channel=None)
        )
    monkeypatch.setattr(capacity, "Session", session)
    system = SimpleNamespace(generator=SimpleNamespace(scheduler=lambda rows: Scheduler()))
    assert capacity.slowest_rtf(system, None, None, 4, 3) == 0.75


def test_a_second_signal_ends_the_server_at_once() -> None:
    drained: list[Any] = []
    stopping = SimpleNamespace(
        _stopping=False, should_exit=False, _drain="drain",
        _sessions=SimpleNamespace(limits=SimpleNamespace(drain=30)),
        _loop=SimpleNamespace(call_soon_threadsafe=drained.append),
    )  # fmt: skip
    server.Server.handle_exit(stopping, signal.SIGTERM, None)
    assert (drained, stopping.should_exit) == (["drain"], False)
    server.Server.handle_exit(stopping, signal.SIGTERM, None)
    assert (drained, stopping.should_exit) == (["drain"], True)


def test_the_address_and_the_limits_are_those_of_the_options(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    limits: list[float] = []
    nothing = SimpleNamespace(get=lambda name, owner: None, close=lambda: None)

    class Block:
        capacity, submit = 8, None

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def getsockname(self) -> tuple[Any, ...]:
            return ("::1", 80, 0, 0)

    for name in ("voice_library", "portrait_library"):
        monkeypatch.setattr(server, name, lambda *_: nothing)
    for name in ("share_heaps", "Jobs", "Studio", "events_to_stderr"):
        monkeypatch.setattr(server, name, lambda *_: Block())
    monkeypatch.setattr(server, "measured_capacity", lambda *_: pytest.fail("a capacity was given"))
    monkeypatch.setattr(server, "measured_sessions", lambda *given: given[-1] // 4)
    monkeypatch.setattr(server, "Sessions", lambda scheduler, given, most: limits.append((given.idle, most)))
    monkeypatch.setattr(server, "Server", lambda studio: SimpleNamespace(serve=lambda sockets: None))
    monkeypatch.setattr(server.asyncio, "run", lambda running: None)
    store = SimpleNamespace(close=lambda: None, retained=7200.0, folder=tmp_path)
    talker: Any = SimpleNamespace(
        system=SimpleNamespace(generator=SimpleNamespace(scheduler=lambda rows: Block()))
    )
    with caplog.at_level("INFO", "talker"):
        for idle in (0.0, 90.0):
            server.serve(talker, "m", Block(), store, Keys({}), capacity=8, idle_limit=idle)
    assert limits == [(math.inf, 2), (90.0, 2)]
    assert "up to 2 sessions on http://[::1]:80; uploads and results are kept for 2 h" in caplog.text
