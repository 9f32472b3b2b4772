"""The page in real browsers, against a real server with tiny weights: what a visitor can do on it."""

from __future__ import annotations

import base64
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from firefox import FIREFOX, Firefox
from PIL import Image
from serve_sessions import CAPACITY
from takes import pcm_of

from talker import Talker
from talker.media.fragments import LEAD

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra `dev`)")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium"),
]

TEXT = "So we go on. Oh no!"
LONG = "So we go on and on and on and on. " * 20
QUIET = (
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
# On an iPhone only ManagedMediaSource exists, and it opens only where remote playback is disabled.
IPHONE = """
const Desktop = MediaSource;
class ManagedMediaSource extends Desktop {
  constructor() {
    super();
    this.addEventListener("sourceopen", () => this.dispatchEvent(new Event("startstreaming")));
  }
}
globalThis.ManagedMediaSource = ManagedMediaSource;
delete globalThis.MediaSource;
const create = URL.createObjectURL;
URL.createObjectURL = (object) => {
  const refused = object instanceof Desktop && !document.getElementById("video").disableRemotePlayback;
  if (refused) throw new Error("refused");
  return create(object);
};
"""


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of `talker serve` with the tiny model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "talker", "serve", "--model", str(folder), "--capacity", str(CAPACITY)]
    server = subprocess.Popen([*command, "--port", str(port), "--data", str(data)], stderr=subprocess.DEVNULL)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}/readyz", server)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def _wait_until_ready(url: str, server: subprocess.Popen) -> None:
    for _ in range(1200):
        assert server.poll() is None, f"the server ended with exit code {server.returncode}"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server was not ready within two minutes")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """The page, opened; a test fails if the page logs an error or asks for anything from elsewhere."""
    yield from _opened(chromium, address)


def _opened(chromium: Any, address: str, script: str = "", **options: Any) -> Iterator[Any]:
    context = chromium.new_context(permissions=["microphone"], **options)
    if script:
        context.add_init_script(script)
    page, faults = context.new_page(), list[str]()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda asked: _own(asked.url, address) or faults.append(asked.url))
    page.goto(address)
    until(page, "!document.getElementById('talk').disabled")
    yield page
    context.close()
    assert faults == []


def _own(url: str, address: str) -> bool:
    return url.startswith((address, address.replace("http", "ws"), "blob:", "data:"))


def until(page: Any, condition: str) -> None:
    """Wait until a condition in JavaScript holds. The page forbids what `page.wait_for_function` does."""
    end = time.monotonic() + 150
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"this does not hold in 150 s: {condition}"
        page.wait_for_timeout(50)


def talk(page: Any, text: str) -> None:
    """Type a text and press the button, as a person does."""
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Talk", exact=True).click()


def wait_for_end(page: Any) -> dict[str, Any]:
    """Wait until the speech has been played. Returns the state of the video."""
    until(page, "!document.getElementById('download').hidden")
    until(page, "document.getElementById('status').textContent === ''")
    state: dict[str, Any] = page.evaluate(
        """() => {
          const video = document.getElementById("video");
          return { ended: video.ended, time: video.currentTime, ranges: video.buffered.length };
        }"""
    )
    return state


def downloaded(page: Any, path: Path) -> np.ndarray:
    """Save the download, and return its sound without the silence before time 0."""
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    download.value.save_as(path)
    with av.open(str(path)) as container:
        pcm = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return pcm[LEAD:]


def offline(talker: Talker, text: str) -> np.ndarray:
    (take,) = talker.map([talker.say(text, "ada", "ada")], capacity=CAPACITY)
    return pcm_of(take)


def test_text_is_spoken_to_its_end_with_captions_and_a_download(
    page: Any, talker: Talker, tmp_path: Path
) -> None:
    captions = page.evaluate_handle(
        """() => {
          const seen = new Set();
          const caption = document.getElementById("caption");
          new MutationObserver(() => caption.childNodes.forEach((word) => seen.add(word.textContent.trim())))
            .observe(caption, { childList: true });
          return seen;
        }"""
    )
    talk(page, TEXT)
    state = wait_for_end(page)
    expected = offline(talker, TEXT)
    assert state["ranges"] == 1
    assert state["time"] >= (len(expected) + LEAD) / 24_000 - 0.05
    assert set(captions.evaluate("seen => [...seen]")) <= {"So", "we", "go", "on", "Oh", "no"}
    found = downloaded(page, tmp_path / "clip.mp4")[: len(expected)]
    assert np.corrcoef(found, expected[: len(found)])[0, 1] > 0.9
    assert re.fullmatch(r"\d+\.\d\d s", page.locator("#first").text_content())
    assert page.get_by_text("AI-generated", exact=True).is_visible()


def test_after_speech_or_an_interruption_the_face_waits_and_speaks_again(page: Any) -> None:
    time_of = "document.getElementById('video').currentTime"
    talk(page, "Go.")
    first = wait_for_end(page)["time"]
    until(page, f"{time_of} > {first + 1}")  # the face waits
    talk(page, LONG)
    until(page, "document.getElementById('status').textContent === 'Speaking'")
    page.get_by_role("button", name="Interrupt").click()
    until(page, "document.getElementById('status').textContent === 'Interrupted'")
    assert page.get_by_role("button", name="Interrupt").is_disabled()
    interrupted = page.evaluate(time_of)
    until(page, f"{time_of} > {interrupted + 1} && !document.getElementById('video').paused")
    talk(page, "Go.")
    until(page, "document.getElementById('status').textContent === 'Speaking'")
    state = wait_for_end(page)
    assert not state["ended"]
    assert state["ranges"] == 1


def test_the_microphone_is_animated(page: Any) -> None:
    """The fake device beeps once a second."""
    page.get_by_role("button", name="Microphone").click()
    page.get_by_role("button", name="Start speaking").click()
    until(page, "document.getElementById('video').currentTime > 1")
    page.get_by_role("button", name="Stop speaking").click()
    state = wait_for_end(page)
    assert state["ranges"] == 1
    assert state["time"] > 1


def test_a_picture_is_cropped_and_used_by_keyboard(page: Any, folder: Path) -> None:
    page.locator("#file").set_input_files(folder / "face.png")
    view, use = page.locator("#crop-view"), page.get_by_role("button", name="Use", exact=True)
    before = view.evaluate("canvas => canvas.toDataURL()")
    view.focus()
    for key in ("+", "+", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    assert view.evaluate("canvas => canvas.toDataURL()") != before
    assert use.is_disabled()  # without consent
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    use.focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#portraits input').length === 7")
    chosen = page.locator("#portraits label").last
    assert chosen.locator("input").is_checked()
    assert chosen.text_content().startswith("picture ")
    talk(page, "Go.")
    wait_for_end(page)


def test_a_file_that_is_no_picture_is_named(page: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    page.locator("#file").set_input_files(tmp_path / "a.png")
    page.get_by_text("This picture cannot be opened").wait_for()


def test_an_iphone_plays_by_managed_media_source(chromium: Any, address: str) -> None:
    for page in _opened(chromium, address, IPHONE, viewport={"width": 390, "height": 844}, has_touch=True):
        talk(page, TEXT)
        assert wait_for_end(page)["ranges"] == 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_continues_after_a_lost_connection(
    chromium: Any, address: str, talker: Talker, tmp_path: Path
) -> None:
    """The first connection ends after its third fragment, without a closing handshake."""
    lose = """
    const Plain = WebSocket;
    let number = 0;
    globalThis.WebSocket = class extends Plain {
      constructor(...all) {
        super(...all);
        if (number++) return;
        let fragments = 0;
        this.addEventListener("message", ({ data }) => {
          if (typeof data === "string" || ++fragments < 3) return;
          const closed = this.onclose;
          this.onclose = this.onmessage = null;
          this.close();
          closed(new CloseEvent("close", { code: 1006 }));
        });
      }
    };
    """
    for page in _opened(chromium, address, lose):
        talk(page, LONG[:68])
        assert wait_for_end(page)["ranges"] == 1
        expected = offline(talker, LONG[:68])
        found = downloaded(page, tmp_path / "clip.mp4")[: len(expected)]
        assert np.corrcoef(found, expected[: len(found)])[0, 1] > 0.9


# -- modules of the page -------------------------------------------------------------------------------------

FAKE_SOCKET = """
globalThis.sockets = [];
globalThis.Fake = class {
  static OPEN = 1;
  constructor(url, protocols) {
    Object.assign(this, { url: String(url), protocols, readyState: 0, sent: [] });
    sockets.push(this);
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.readyState = 3; }
  open() { this.readyState = 1; this.onopen(); }
  event(event) { this.onmessage({ data: JSON.stringify(event) }); }
  fragment(index) {
    this.event({ type: "video.chunk_metadata", transport_chunk_index: index });
    this.onmessage({ data: new ArrayBuffer(index + 1) });
  }
  lose(code, reason = "") { this.readyState = 3; this.onclose({ code, reason }); }
};
globalThis.pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
globalThis.connected = async (position, key, names) => {
  globalThis.WebSocket = Fake;
  const { Session } = await import("/page/session.js");
  const seen = [];
  const session = new Session({ voice: "v" }, position, key);
  for (const name of names) session.addEventListener(name, ({ detail }) => seen.push([name, detail]));
  return { session, seen };
};
"""
NAMES = ["start", "fragment", "caption", "speech", "silence", "interrupted", "done", "failed"]


@pytest.fixture
def faked(chromium: Any, address: str) -> Iterator[Any]:
    """The page with a WebSocket that the test controls."""
    yield from _opened(chromium, address, FAKE_SOCKET)


def test_messages_wait_for_the_session_and_its_events_are_passed_on(faked: Any) -> None:
    found = faked.evaluate(
        """async (names) => {
          let now = 1.2345;
          const { session, seen } = await connected(() => now, "secret", names);
          session.send({ type: "a" });
          const [socket] = sockets;
          socket.open();
          session.send({ type: "b" });
          const first = structuredClone(socket.sent);
          socket.event({ type: "video.start", request_id: "r", config: { codecs: "c" } });
          session.send({ type: "c" });
          for (const type of ["caption", "speech.started", "speech.ended", "session.interrupted"])
            socket.event({ type, text: type });
          socket.fragment(0);
          session.interrupt();
          await pause(1200);
          const sent = socket.sent.slice(1);
          now = 2;
          socket.event({ type: "session.done", rtf: 0.5 });
          const count = socket.sent.length;
          session.send({ type: "late" });
          await pause(600);
          const late = socket.sent.length - count;
          const { url, protocols } = socket;
          socket.lose(1000);
          return { first, sent, late, url, protocols, over: session.over, sockets: sockets.length,
            seen: seen.map(([name, detail]) => [name, detail.text ?? detail.codecs ?? detail.rtf ?? null]) };
        }""",
        NAMES,
    )
    assert found["first"] == [{"type": "session.start", "voice": "v"}]
    assert found["protocols"] == ["talker", "key.secret"]
    assert found["url"].startswith("ws://")
    assert found["url"].endswith("/v1/realtime/video")
    assert found["sent"][:4] == [
        {"type": "a"}, {"type": "b"}, {"type": "c"}, {"type": "interrupt", "audio_end_ms": 1235}
    ]  # fmt: skip
    assert found["sent"][4:] == [{"type": "playback", "position_ms": 1235}] * 2  # twice a second
    assert found["seen"] == [
        ["start", "c"], ["caption", "caption"], ["speech", "speech.started"], ["silence", "speech.ended"],
        ["interrupted", "session.interrupted"], ["fragment", None], ["done", 0.5],
    ]  # fmt: skip
    assert (found["over"], found["sockets"]) == (True, 1)
    assert found["late"] <= 1  # no more reports


def test_a_lost_session_is_resumed_from_the_fragment_after_the_last_one(faked: Any) -> None:
    found = faked.evaluate(
        """async (names) => {
          const { session, seen } = await connected(() => 0, "", names);
          const start = { type: "video.start", request_id: "r", config: {} };
          sockets[0].open();
          sockets[0].event(start);
          for (const index of [0, 1, 2]) sockets[0].fragment(index);
          sockets[0].lose(1006);
          session.send({ type: "typed meanwhile" });
          await pause(700);
          sockets[1].open();
          sockets[1].event(start);
          sockets[1].fragment(3);
          for (let k = 1; k < 6; k++) {
            sockets[k].lose(1001);
            await pause(500 * k + 200);
            if (k < 5) sockets[k + 1].open();
            if (k === 1) sockets[2].event(start);
          }
          return { sent: sockets.map(({ sent }) => sent.filter(({ type }) => type !== "playback")),
            protocols: sockets[0].protocols, over: session.over,
            seen: seen.map(([name, of]) => [name, of.bytes?.byteLength ?? of.finish_reason ?? null]) };
        }""",
        NAMES,
    )
    resumes = [
        {"type": "session.resume", "request_id": "r", "transport_chunk_index": k} for k in (3, 4, 4, 4, 4)
    ]
    assert found["sent"][1] == [resumes[0], {"type": "typed meanwhile"}]
    assert found["sent"][2] == [resumes[1]]  # what was sent is not sent again
    assert [sent[0] for sent in found["sent"][1:]] == resumes  # three tries after a lost connection
    assert found["protocols"] == []
    assert [name for name, _ in found["seen"]] == ["start", *["fragment"] * 4, "done"]
    assert [size for name, size in found["seen"] if name == "fragment"] == [1, 2, 3, 4]
    assert found["seen"][-1] == ["done", "the connection was closed"]
    assert found["over"]


def test_a_server_that_refuses_or_is_not_there_is_no_lost_session(faked: Any) -> None:
    found = faked.evaluate(
        """async (names) => {
          const facts = [];
          for (const [code, started] of [[1006, false], [1008, true], [1000, true]]) {
            const { session, seen } = await connected(() => 0, "", names);
            const socket = sockets.at(-1);
            socket.open();
            if (started) socket.event({ type: "video.start", request_id: "r", config: {} });
            socket.lose(code, code === 1008 ? "replaced" : "");
            await pause(700);
            facts.push([sockets.at(-1) === socket, session.over,
              seen.map(([name, detail]) => [name, detail.code ?? detail.finish_reason ?? null])]);
          }
          const { session, seen } = await connected(() => 0, "", names);
          const socket = sockets.at(-1);
          socket.open();
          session.close();
          socket.lose(1006);
          await pause(700);
          facts.push([sockets.at(-1) === socket, session.over, seen, socket.sent.at(-1).type]);
          const left = await connected(() => 0, "", names); // the user leaves before the next try
          const last = sockets.at(-1);
          last.open();
          last.event({ type: "video.start", request_id: "r", config: {} });
          last.lose(1006);
          left.session.close();
          await pause(700);
          facts.push([sockets.at(-1) === last, left.session.over, left.seen.length]);
          return facts;
        }""",
        NAMES,
    )
    assert found == [
        [True, True, [["failed", "unreachable"], ["done", "the connection was closed"]]],
        [True, True, [["start", None], ["done", "replaced"]]],
        [True, True, [["start", None], ["done", "the connection was closed"]]],
        [True, True, [], "session.stop"],
        [True, True, 1],
    ]


def test_a_session_speaks_further_texts_until_face_or_voice_change(chromium: Any, address: str) -> None:
    for page in _opened(chromium, address, FAKE_SOCKET + "globalThis.WebSocket = Fake;"):
        interrupt, status = page.get_by_role("button", name="Interrupt"), page.locator("#status")

        def sockets() -> list[list[dict[str, Any]]]:
            sent = "sockets.map(({ sent }) => sent.filter(({ type }) => type !== 'playback'))"
            return page.evaluate(sent)  # noqa: B023 - it is used at once

        def events(*events: dict[str, Any]) -> None:
            page.evaluate("events => events.forEach((event) => sockets.at(-1).event(event))", list(events))  # noqa: B023

        def started() -> None:
            page.evaluate("sockets.at(-1).open()")  # noqa: B023
            config = {"codecs": "avc1.64000D, mp4a.40.2"}
            events({"type": "video.start", "request_id": "r", "config": config})

        def spoken(text: str) -> list[dict[str, Any]]:
            return [{"type": "input_text.append", "text": text}, {"type": "input_text.commit"}]

        talk(page, " ")
        assert (status.text_content(), sockets()) == ("Type a text first.", [])
        talk(page, " One. ")
        started()
        ada = {"type": "session.start", "portrait": "ada", "voice": "ada"}
        assert sockets() == [[ada, *spoken("One.")]]
        assert interrupt.is_disabled()
        events({"type": "speech.started", "start_ms": 40})
        interrupt.click()
        assert sockets()[0][3:] == [{"type": "interrupt", "audio_end_ms": 0}]
        events({"type": "session.interrupted", "generated_ms": 500})
        assert (status.text_content(), interrupt.is_disabled()) == ("Interrupted", True)
        # The rest of the speech is not played: playback goes on at its end.
        until(page, "sockets[0].sent.some(({ position_ms }) => position_ms === 500)")
        events({"type": "speech.ended", "end_ms": 500, "rtf": 0.5})
        assert page.locator("#speed").text_content() == "2.0 × real time"
        assert page.locator("#download").is_visible()
        talk(page, "Two.")
        assert sockets()[0][4:] == spoken("Two.")
        events({"type": "error", "code": "input_full", "message": "too much"})
        assert status.text_content() == "too much"
        events({"type": "error", "code": "idle", "message": "nothing was sent"})
        assert status.text_content() == ""
        page.get_by_label("Voice").select_option("ben")
        talk(page, "Three.")
        started()
        assert sockets()[0][-1] == {"type": "session.stop"}
        assert sockets()[1] == [ada | {"voice": "ben"}, *spoken("Three.")]
        assert page.locator("#download").is_hidden()
        events({"type": "session.done", "finish_reason": "stop"})
        talk(page, "Four.")
        started()
        assert len(sockets()) == 3
        events({"type": "speech.started", "start_ms": 40})
        page.locator("#portraits input").nth(1).check()
        assert sockets()[2][-1] != {"type": "session.stop"}  # it is speaking
        interrupt.click()
        events({"type": "session.interrupted", "generated_ms": 500})
        page.locator("#portraits input").nth(2).check()
        assert sockets()[2][-1] == {"type": "session.stop"}
        shown = page.evaluate("document.querySelector('#portraits input:checked + img').src")
        assert page.locator("#still").get_attribute("src") == shown
        assert page.locator("#video").get_attribute("src") is None


def test_the_microphone_is_sent_in_tenths_of_a_second_up_to_the_second_press(
    chromium: Any, address: str
) -> None:
    for page in _opened(chromium, address, FAKE_SOCKET + "globalThis.WebSocket = Fake;"):
        page.get_by_role("button", name="Microphone").click()
        page.get_by_role("button", name="Start speaking").click()
        until(page, "sockets.length === 1")
        page.evaluate("sockets[0].open()")
        config = {"codecs": "avc1.64000D, mp4a.40.2"}
        page.evaluate(
            "event => sockets[0].event(event)", {"type": "video.start", "config": config, "request_id": "r"}
        )
        until(page, "sockets[0].sent.filter(({ type }) => type === 'input_audio.append').length > 12")
        page.get_by_role("button", name="Stop speaking").click()
        page.wait_for_timeout(300)
        sent = [message for message in page.evaluate("sockets[0].sent") if message["type"] != "playback"]
        assert sent[0] == {"type": "session.start", "portrait": "ada", "input": "audio"}
        *pieces, end = sent[1:]
        assert end == {"type": "input_audio.end"}
        sizes = [len(base64.b64decode(piece["audio"])) for piece in pieces]
        assert set(sizes[:-1]) == {4800}
        assert 0 < sizes[-1] <= 4800
        pcm = np.frombuffer(b"".join(base64.b64decode(piece["audio"]) for piece in pieces), "<i2")
        assert np.abs(pcm.astype(int)).max() > 1000  # the beep of the fake device
        assert page.get_by_role("button", name="Start speaking").is_visible()


PLAYER = """
globalThis.played = async (ranges, currentTime, state) => {
  const { Player } = await import("/page/player.js");
  const log = [];
  const video = {
    currentTime, buffered: { length: ranges.length, start: (k) => ranges[k][0], end: (k) => ranges[k][1] },
    play: async () => log.push("play"), pause: () => log.push("pause"), load() {}, removeAttribute() {},
  };
  const player = new Player(video);
  const buffer = { updating: false, appendBuffer: (data) => log.push(["append", data]),
    remove: (...span) => log.push(["remove", ...span]) };
  const source = { readyState: "open", endOfStream: () => log.push("end") };
  Object.assign(player, { buffer, source, wanted: true }, state);
  return { player, video, log };
};
"""


def test_the_player_starts_skips_and_forgets(chromium: Any, address: str) -> None:
    for page in _opened(chromium, address, PLAYER):
        facts = page.evaluate(
            """async () => {
              const facts = {};
              const note = (name, { player, video, log }) => {
                facts[name] = [[...log], video.currentTime, player.position, player.ahead, player.target];
              };
              let made = await played([[0.05, 0.3]], 0, {});
              made.player.append("a");
              note("too little", made);
              made.player.append("b");
              made.player.end();
              note("all of a short one", made);
              made = await played([[0.05, 0.4]], 0, {});
              made.player.append("a");
              note("enough", made);
              made = await played([[0, 5]], 1, { started: true });
              made.player.skip(4.8);
              note("skip waits", made);
              made = await played([[0, 5.2]], 1, { started: true });
              made.player.skip(4.8);
              note("skip", made);
              made.player.skip(9);
              made.player.close();
              note("closed", made);
              made = await played([[0, 2], [2.4, 5]], 2, { started: true });
              made.player.append("a");
              note("gap", made);
              made = await played([[0, 2], [2.4, 5]], 1.9, { started: true });
              made.player.append("a");
              note("before the gap", made);
              made = await played([[0, 2], [2.6, 5]], 2, { started: true });
              made.player.append("a");
              note("long gap", made);
              made = await played([[3, 50]], 40, { started: true });
              made.player.end();
              note("forget", made);
              made = await played([[9.5, 50]], 40, { started: true });
              made.player.end();
              note("end", made);
              made = await played([[0, 9]], 3, { started: true, wanted: false });
              made.player.append("a");
              note("not wanted", made);
              return facts;
            }"""
        )
        close = lambda value: pytest.approx(value, abs=1e-6)  # noqa: E731
        assert facts["too little"] == [[["append", "a"]], 0, 0, close(0.25), None]
        log, now, *_ = facts["all of a short one"]
        assert (log, now) == ([["append", "a"], ["append", "b"], "play", "end"], 0.05)
        assert facts["enough"] == [["play", ["append", "a"]], 0.05, 0.05, close(0.35), None]
        assert facts["skip waits"] == [["pause"], 1, 4.8, 4, 4.8]
        assert facts["skip"] == [["pause", "play"], 4.8, 4.8, close(0.4), None]
        assert facts["closed"][1:3] == [4.8, 4.8]  # the next stream starts without a target
        assert facts["gap"] == [[["append", "a"]], 2.4, 2.4, close(2.6), None]
        assert (facts["before the gap"][1], facts["long gap"][1]) == (1.9, 2)
        assert facts["forget"][0] == [["remove", 3, 10]]
        assert facts["end"][0] == ["end"]
        assert facts["not wanted"][0] == []


def test_the_crop_moves_with_the_picture_and_stays_inside(page: Any, tmp_path: Path) -> None:
    """A picture of 64 x 32 whose columns and rows are coded in red and green."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = 4 * np.arange(64), 8 * np.arange(32)[:, None]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    page.locator("#file").set_input_files(tmp_path / "a.png")
    view = page.locator("#crop-view")
    view.wait_for()

    def corner() -> tuple[int, int]:
        """Column and row of the picture at the upper left corner of the crop."""
        red, green = view.evaluate("canvas => [...canvas.getContext('2d').getImageData(4, 4, 1, 1).data]")[:2]
        return round(red / 4), round(green / 8)

    def press(key: str, times: int) -> tuple[int, int]:
        view.focus()
        for _ in range(times):
            page.keyboard.press(key)
        return corner()

    assert corner() == (16, 0)  # the square in the middle
    assert press("ArrowRight", 10)[0] == pytest.approx(16 + 0.2 * 32, abs=1)
    assert press("ArrowRight", 60) == (32, 0)
    assert press("ArrowLeft", 200) == (0, 0)
    column, row = press("+", 10)  # half of the side, around its centre
    assert (column, row) == (pytest.approx(8, abs=1), pytest.approx(8, abs=1))
    assert press("ArrowDown", 60)[1] == pytest.approx(16, abs=1)
    assert press("ArrowUp", 100)[1] == 0
    assert press("-", 30)[0] == pytest.approx(0, abs=1)
    consent, use = page.locator("#consent"), page.get_by_role("button", name="Use", exact=True)
    consent.check()
    assert use.is_enabled()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#file").set_input_files(tmp_path / "a.png")
    view.wait_for()
    assert not consent.is_checked()  # each picture needs its own
    assert use.is_disabled()
    assert corner() == (16, 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_no_accessibility_violation(
    chromium: Any, address: str, folder: Path, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    for page in _opened(chromium, address, color_scheme=scheme):
        assert axe.Axe().run(page).response["violations"] == []
        talk(page, "Go.")
        wait_for_end(page)
        page.locator("#file").set_input_files(folder / "face.png")
        page.locator("#crop").wait_for()
        assert axe.Axe().run(page).response["violations"] == []


@pytest.mark.skipif(FIREFOX is None, reason="needs Debian's package firefox-esr")
def test_firefox_plays_the_same_stream_in_one_range(address: str) -> None:
    state = """(() => {
      const [status, video] = ["status", "video"].map((id) => document.getElementById(id));
      const over = !document.getElementById("download").hidden && !status.textContent;
      return `${over} ${video.buffered.length}`;
    })()"""
    with Firefox() as firefox:
        firefox.open(address)
        end = time.monotonic() + 150
        while firefox.evaluate("document.getElementById('talk').disabled"):
            assert time.monotonic() < end
        firefox.evaluate(f"document.getElementById('text').value = {TEXT!r}")
        firefox.click("#talk")
        while firefox.evaluate(state) != "true 1":
            assert time.monotonic() < end, firefox.evaluate("document.getElementById('status').textContent")
            time.sleep(0.1)
