"""Keys, tickets, foreign ids and hostile files. None of them changes the bytes of a running session."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from serve_running import Running, until
from serve_sessions import CAPACITY, studio_of
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from talker import Talker, UserError
from talker.cli import main
from talker.media.provenance import is_generated
from talker.media.readers import read_audio
from talker.serve import keys as keys_module
from talker.serve import uploads
from talker.serve.gate import LARGEST_BODY
from talker.serve.inputs import InputError
from talker.serve.keys import AccessTickets, Keys, add_key
from talker.serve.server import listen
from talker.serve.session import Limits
from talker.serve.sessions import Sessions
from talker.serve.store import Store
from talker.serve.uploads import open_upload

TEXT = "Go."
LIMITS = dataclasses.replace(Limits(), ahead=0.3)  # so that a session runs while it is attacked


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keys, str, str]:
    """Keys of two owners, with the secrets of ann and bob."""
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    ann, bob = add_key(path, "ann"), add_key(path, "bob")
    assert path.stat().st_mode & 0o777 == 0o600
    assert ann not in path.read_text()
    return Keys.read(path), ann, bob


@pytest.fixture(scope="module")
def server(
    talker: Talker, voice, portrait, secrets, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    store = Store(tmp_path_factory.mktemp("data"))
    with talker.system.generator.scheduler(CAPACITY) as scheduler:
        studio = studio_of(talker, voice, portrait, Sessions(scheduler, LIMITS), store, secrets[0])
        with Running(studio) as running:
            yield running
    store.close()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def form(fields: dict[str, str], name: str, content: bytes) -> tuple[bytes, str]:
    """A multipart body with one file, and its content type."""
    parts = [f'name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()]
    parts.append(f'name="{name}"; filename="../../x.png"\r\n\r\n'.encode() + content)
    body = b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
    return body + b"--b--\r\n", "multipart/form-data; boundary=b"


def stream_of(connection: ClientConnection, during: object = None) -> bytes:
    """The stream of TEXT. `during`: called after the first fragment."""
    connection.send(json.dumps({"type": "session.start", "prompt": TEXT, "seed": 3}))
    data = b""
    while (event := json.loads(connection.recv(timeout=20)))["type"] != "session.done":
        assert event["type"] != "error", event
        if event["type"] == "video.chunk_metadata":
            data += connection.recv(timeout=20)
            if callable(during) and event["transport_chunk_index"] == 0:
                during()
            with contextlib.suppress(ConnectionClosed):  # after the last fragment
                connection.send(json.dumps({"type": "playback", "position_ms": 10**6}))
    return data


# -- keys ----------------------------------------------------------------------------------------------------


def test_every_route_needs_a_key_except_those_of_health_and_of_the_page(server: Running, secrets) -> None:
    _, ann, _ = secrets
    paths = json.loads(server.get("/openapi.json")[1])["paths"]
    for path in (*paths, "/nothing"):
        public = path in ("/healthz", "/readyz")
        for headers in ({}, bearer("talker-wrong"), {"Authorization": f"Basic {ann}"}):
            status, answer, body = server.request("GET", path, **headers)
            assert status == (200 if public else 401), path
            assert answer["content-security-policy"].startswith("default-src 'none'")
            if not public:
                assert json.loads(body)["error"]["code"] == "invalid_api_key"
                assert answer["www-authenticate"] == "Bearer"
    assert server.get("/v1/models", **bearer(ann))[0] == 200
    assert server.get(f"/v1/models?ticket={ann}")[0] == 401


def test_a_websocket_needs_a_key_or_a_ticket_as_subprotocol(server: Running, secrets) -> None:
    _, ann, _ = secrets
    path = {"path": "/v1/realtime/video"}
    ticket = server.json("POST", "/v1/tickets", path, **bearer(ann))["ticket"]
    for secret in (f"key.{ann}", f"ticket.{ticket}"):
        with server.connect(subprotocols=["talker", secret]) as connection:
            assert connection.subprotocol == "talker"
    other = server.json("POST", "/v1/tickets", {"path": "/v1/stream/x.mp4"}, **bearer(ann))["ticket"]
    for wrong in (None, ["talker"], ["talker", "key.x"], ["talker", f"ticket.{other}"]):
        with pytest.raises(InvalidStatus, match="403"):
            server.connect(subprotocols=wrong)
    with pytest.raises(InvalidStatus, match="403"):
        server.connect(origin="http://evil.example", subprotocols=["talker", f"key.{ann}"])


def test_ids_of_others_do_not_exist(server: Running, secrets, folder: Path) -> None:
    _, ann, bob = secrets
    with server.connect(subprotocols=["talker", f"key.{ann}"]) as connection:
        connection.send(json.dumps({"type": "session.start"}))
        session = json.loads(connection.recv())["request_id"]
        body, kind = form({"name": "me", "consent": "mine"}, "image", (folder / "face.png").read_bytes())
        status, _, answer = server.request("POST", "/v1/portraits", body, Content_Type=kind, **bearer(ann))
        portrait = json.loads(answer)["id"]
        assert status == 200
        video = server.json("POST", "/v1/videos", {"prompt": "Go."}, **bearer(ann))["id"]
        for path in (f"/v1/stream/{session}.mp4", f"/v1/videos/{video}", f"/v1/videos/{video}/content"):
            assert server.get(path, **bearer(bob))[0] == 404
            ticket = server.json("POST", "/v1/tickets", {"path": path}, **bearer(bob)).get("ticket", "")
            assert server.get(f"{path}?ticket={ticket}")[0] in (401, 404)
        for path in (f"/v1/videos/{video}", f"/v1/portraits/{portrait}", "/v1/audio/voices/v"):
            assert server.request("DELETE", path, **bearer(bob))[0] == 404
        assert len(server.json("GET", "/v1/portraits", **bearer(bob))["data"]) == 1
        assert server.json("GET", "/v1/videos", **bearer(bob))["data"] == []
        for start in (
            {"type": "session.resume", "request_id": session, "transport_chunk_index": 0},
            {"type": "session.start", "portrait": portrait},
        ):
            with server.connect(subprotocols=["talker", f"key.{bob}"]) as other:
                other.send(json.dumps(start))
                assert json.loads(other.recv())["code"] == "not_found"
        until(lambda: server.json("GET", f"/v1/videos/{video}", **bearer(ann))["status"] == "completed")
        path = f"/v1/videos/{video}/content"
        ticket = server.json("POST", "/v1/tickets", {"path": path}, **bearer(ann))["ticket"]
        status, headers, content = server.request("GET", f"{path}?ticket={ticket}", Range="bytes=4-7")
        assert (status, content, headers["content-type"]) == (206, b"ftyp", "video/mp4")
        assert server.request("DELETE", f"/v1/videos/{video}?ticket={ticket}")[0] == 401
        assert server.request("DELETE", f"/v1/portraits/{portrait}", **bearer(ann))[0] == 200


def test_a_ticket_is_valid_for_a_minute_and_one_path(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(keys_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(keys_module, "MOST_TICKETS", 3)
    tickets = AccessTickets()
    first = tickets.issue("ann", "/a")
    assert tickets.owner(first, "/b") is None
    assert tickets.owner("x", "/a") is None
    clock[0] = 59.9
    assert tickets.owner(first, "/a") == "ann"
    clock[0] = 60.0
    assert tickets.owner(first, "/a") is None
    for _ in range(5):
        last = tickets.issue("bob", "/a")
    assert tickets.owner(last, "/a") == "bob"
    assert len(tickets._tickets) == 3


def test_a_file_of_keys_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.txt"
    assert main(["key", str(path), "--name", "ann"]) == 0
    key = capsys.readouterr().out.strip()
    assert (Keys.read(path).owner(key), Keys.read(path).owner("x")) == ("ann", None)
    assert main(["key", str(path), "--name", "ann"]) == 2
    assert main(["key", str(path), "--name", "no spaces"]) == 2
    with listen("0.0.0.0", 0, Keys.read(path)):
        pass
    path.write_text("ann\n")
    for wrong in (path, tmp_path / "none.txt"):
        assert main(["serve", "--keys", str(wrong)]) == 2
    path.write_text("# nobody\n")
    with pytest.raises(UserError, match="has no key"):
        Keys.read(path)
    assert key not in caplog.text


def test_the_log_holds_no_content(server: Running, secrets, caplog: pytest.LogCaptureFixture) -> None:
    _, ann, _ = secrets
    with caplog.at_level("INFO", "talker"):
        ticket = server.json("POST", "/v1/tickets", {"path": "/v1/realtime/video"}, **bearer(ann))["ticket"]
        with server.connect(subprotocols=["talker", f"ticket.{ticket}"]) as connection:
            stream_of(connection)
        server.get(f"/v1/stream/x.mp4?ticket={ticket}")
        server.json(
            "POST", "/v1/audio/speech", {"input": "Secret words.", "voice": "Bob Smith"}, **bearer(ann)
        )
        until(lambda: '"session_ended"' in caplog.text)
    events = [json.loads(record.message) for record in caplog.records if "events" in record.name]
    assert {event["event"] for event in events} == {"request", "session_started", "session_ended"}
    (ended,) = [event for event in events if event["event"] == "session_ended"]
    assert (ended["owner"], ended["finish_reason"]) == ("ann", "length")
    assert ended["time_to_first_chunk"] > 0
    for secret in (ann, ticket, "Secret", "Go.", "Smith"):
        assert secret not in caplog.text


# -- hostile bodies ------------------------------------------------------------------------------------------


def pixel_bomb() -> bytes:
    """A PNG file of 900 megapixels in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zip_bomb() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("face.png", bytes(10**7))
    return data.getvalue()


def test_hostile_requests_are_refused_and_change_no_session(server: Running, secrets, tmp_path: Path) -> None:
    _, ann, _ = secrets
    outside = tmp_path / "outside.wav"
    outside.write_bytes(b"RIFF")
    playlist = f"#EXTM3U\n#EXTINF:1,\nfile://{outside}\n".encode()

    def attack() -> None:
        for content, field in ((playlist, "image"), (zip_bomb(), "image"), (pixel_bomb(), "image")):
            body, kind = form({"consent": "yes", "name": "x"}, field, content)
            status, _, answer = server.request(
                "POST", "/v1/portraits", body, Content_Type=kind, **bearer(ann)
            )
            error = json.loads(answer)["error"]
            assert (status, error["code"], error["param"]) == (400, "invalid_file", "image")
            assert str(server.studio.store.folder) not in error["message"]
        body, kind = form({"consent": "yes", "name": "x"}, "audio_sample", playlist)
        path = "/v1/audio/voices"
        assert server.request("POST", path, body, Content_Type=kind, **bearer(ann))[0] == 400
        huge = b" " * (LARGEST_BODY + 1)
        assert server.request("POST", "/v1/audio/speech", huge, **bearer(ann))[0] == 413
        chunked = {"Transfer_Encoding": "chunked", "Content_Type": "application/json", **bearer(ann)}
        big = b"%x\r\n" % len(huge) + huge + b"\r\n0\r\n\r\n"
        assert server.request("POST", "/v1/audio/speech", big, **chunked)[0] == 413
        json_headers = {"Content_Type": "application/json", **bearer(ann)}
        for garbage in (b"{", b"[]", b"\xff", b"[" * 100_000):
            assert server.request("POST", "/v1/videos", garbage, **json_headers)[0] == 400
        for name in ("a[b][c][d][e]", "a[", "[a]", "a b"):
            body, kind = form({name: "1"}, "input_reference", b"x")
            assert server.request("POST", "/v1/videos", body, Content_Type=kind, **bearer(ann))[0] == 400

    with server.connect(subprotocols=["talker", f"key.{ann}"]) as connection:
        alone = stream_of(connection)
    with server.connect(subprotocols=["talker", f"key.{ann}"]) as connection:
        assert stream_of(connection, attack) == alone
    assert not list((server.studio.store.folder / "incoming").iterdir())


def test_consent_is_required_for_a_face(server: Running, secrets, folder: Path) -> None:
    _, ann, _ = secrets
    for consent in ({}, {"consent": ""}, {"consent": "false"}):
        body, kind = form(consent, "image", (folder / "face.png").read_bytes())
        status, _, answer = server.request("POST", "/v1/portraits", body, Content_Type=kind, **bearer(ann))
        assert (status, json.loads(answer)["error"]["code"]) == (400, "consent_required")


def test_an_upload_keeps_its_samples_and_the_tag_that_it_is_generated(
    talker: Talker, voice, tmp_path
) -> None:
    talker.say("Go.", voice, audio_only=True).save(path := tmp_path / "generated.wav")
    assert open_upload(path, target := tmp_path / "target.wav", "any", "audio_sample") == "sound"
    assert is_generated(target, "Speech")
    assert torch.equal(read_audio(target), read_audio(path))


def test_modules_beside_those_of_a_library_do_not_hide_others(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "typing.py").write_text(
        ""
    )  # OpenCV adds its own folder, with a package `typing`, to sys.path
    monkeypatch.syspath_prepend(tmp_path)
    assert open_upload(folder / "face.png", tmp_path / "target", "image", "image") == "image"


def test_a_decoder_that_fails_is_logged(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('damaged installation')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError, match="see the log of the server"):
        open_upload(folder / "face.png", tmp_path / "target", "image", "image")
    assert "damaged installation" in caplog.text


def test_a_file_that_takes_too_long_or_too_much_memory_is_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    monkeypatch.setitem(uploads.CPU_SECONDS, "image", 0.01)  # the process is killed after three times this
    with pytest.raises(InputError, match="too much time or memory"):
        open_upload(folder / "face.png", target, "image", "image")
