"""The page in real browsers, against a real server with tiny weights: what a visitor can do on it."""

from __future__ import annotations

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
