"""The page of `talker serve` in real browsers: latency, gaps, sound and lips as a viewer gets them.

    python benchmarks/page.py

Needs Debian's packages chromium and firefox-esr. A server with the default model runs in a process; Chromium
opens the page, types a text of about ten seconds and presses the button, like a person. Printed are

- the time from the click to the first frame, and until two seconds have been played;
- the longest gap between two presented frames while it plays;
- the correlation of the sound that the browser plays with the sound of the server;
- the correlation of the mouth's opening in the presented frames with the loudness of the sound, without shift
  and the largest one at shifts of 0.5 to 3 s;
- the delay between a flash and a click, in Chromium and in Firefox, of a stream made for this.

Run it on a quiet machine; the load before the measurement is printed.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from firefox import Firefox

from evaluation.sync import mouth_opening, sync_net
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.media.fragments import LEAD, FragmentEncoder

TEXT = (
    "The train to the coast leaves at seven in the morning. We should meet at the station a little earlier, "
    "so that nobody has to run. Please bring something to read."
)
SIDE = 128  # pixels per side of the recorded frames
FLASHES = 4  # one a second

# Records the presented frames and the sound of a video element.
RECORD = """
globalThis.record = (video, side) => {
  const canvas = new OffscreenCanvas(side, side);
  const picture = canvas.getContext("2d", { willReadFrequently: true });
  const found = { frames: [], pixels: [], sound: [], start: null, rate: 0 };
  const frame = (now, { mediaTime }) => {
    picture.drawImage(video, 0, 0, side, side);
    const { data } = picture.getImageData(0, 0, side, side);
    found.pixels.push(data.filter((_, k) => k % 4 !== 3));
    found.frames.push([mediaTime, now]);
    video.requestVideoFrameCallback(frame);
  };
  video.requestVideoFrameCallback(frame);
  const context = new AudioContext(); // Firefox does not connect a stream of another rate
  found.rate = context.sampleRate;
  const node = context.createScriptProcessor(1024, 1, 1);
  node.onaudioprocess = ({ inputBuffer, playbackTime }) => {
    // The input was captured one buffer before it is handed over.
    const seconds = performance.now() / 1000 - context.currentTime + playbackTime - 2 * 1024 / found.rate;
    found.start ??= seconds;
    found.sound.push(inputBuffer.getChannelData(0).slice());
  };
  node.connect(context.destination);
  video.addEventListener("playing", () => {
    const stream = video.captureStream?.() ?? video.mozCaptureStream();
    context.createMediaStreamSource(stream).connect(node);
    context.resume();
  }, { once: true });
  return found;
};
globalThis.encoded = (arrays, Kind) => {
  const whole = new Kind(arrays.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const one of arrays) { whole.set(one, at); at += one.length; }
  const bytes = new Uint8Array(whole.buffer);
  let text = "";
  for (let k = 0; k < bytes.length; k += 32768) text += String.fromCharCode(...bytes.subarray(k, k + 32768));
  return btoa(text);
};
"""
# Plays a stream, given as base64, by the page's own player, and records it.
PLAY = """(async () => {
  const { Player } = await import(new URL("page/player.js", document.baseURI));
  const video = document.getElementById("video");
  video.hidden = false;
  globalThis.found = record(video, %d);
  const player = new Player(video);
  player.open("%s");
  player.append(Uint8Array.from(atob("%s"), (c) => c.charCodeAt(0)));
  player.end();
  return "";
})()"""


@contextmanager
def served() -> Iterator[str]:
    """Address of `talker serve` with the default model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "talker", "serve", "--port", str(port), "--data", data]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            while server.poll() is None:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def until(evaluate: Callable[[str], Any], condition: str, seconds: float = 120) -> None:
    """Wait until a condition in JavaScript holds."""
    end = time.monotonic() + seconds
    while not evaluate(condition):
        if time.monotonic() > end:
            raise TimeoutError(f"this does not hold in {seconds:g} s: {condition}")
        time.sleep(0.02)


def recorded(evaluate: Callable[[str], Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(media time, time) of the presented frames, pixels (T, S, S, 3), sound (n,), its start in seconds."""
    times = np.array(json.loads(evaluate("JSON.stringify(found.frames)")))
    pixels = base64.b64decode(evaluate("encoded(found.pixels, Uint8Array)"))
    sound = np.frombuffer(base64.b64decode(evaluate("encoded(found.sound, Float32Array)")), np.float32)
    rate, start = float(evaluate("found.rate")), float(evaluate("found.start"))
    count = int(len(sound) * SAMPLE_RATE / rate)
    sound = np.interp(np.arange(count) / SAMPLE_RATE, np.arange(len(sound)) / rate, sound)
    frames = np.frombuffer(pixels, np.uint8).reshape(len(times), SIDE, SIDE, 3)
    return times, frames, sound, start


def speech(address: str, chromium: Any) -> None:
    """Type a text and measure what is played."""
    page = chromium.new_page()
    page.goto(address)
    until(page.evaluate, "!document.getElementById('talk').disabled")
    page.evaluate(f"{RECORD}; globalThis.found = record(document.getElementById('video'), {SIDE}); 0")
    page.get_by_label("Text", exact=True).fill(TEXT)
    clicked = time.monotonic()
    page.get_by_role("button", name="Talk", exact=True).click()
    until(page.evaluate, "document.getElementById('video').currentTime > 2")
    print(f"two seconds played {time.monotonic() - clicked:.2f} s after the click")
    until(page.evaluate, "!document.getElementById('download').hidden")
    until(page.evaluate, "document.getElementById('status').textContent === ''")
    first = page.locator("#first").text_content()
    print(f"first frame {first} after the click, speed {page.locator('#speed').text_content()}")
    ranges = page.evaluate("document.getElementById('video').buffered.length")
    times, frames, heard, _ = recorded(page.evaluate)
    with tempfile.TemporaryDirectory() as folder:
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        download.value.save_as(path := Path(folder) / "clip.mp4")
        with av.open(str(path)) as container:
            sent = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    page.close()
    last = times[:, 0] <= len(sent) / SAMPLE_RATE
    gaps = np.diff(times[last, 1])
    print(f"frames presented {last.sum()}, longest gap {gaps.max():.0f} ms, buffered ranges: {ranges}")
    print(f"sound: correlation with the server's {_aligned(heard, sent):.3f}")
    _lips(times[last, 0], frames[last], sent)


def _aligned(heard: np.ndarray, sent: np.ndarray) -> float:
    """Correlation of what was heard with what was sent, at the best shift."""
    size = 1 << (len(heard) + len(sent)).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(sent, size).conj(), size)
    shift = int(product.argmax())
    part = heard[shift : shift + len(sent)]
    return float(np.corrcoef(part, sent[: len(part)])[0, 1])


def _lips(media: np.ndarray, frames: np.ndarray, sent: np.ndarray) -> None:
    """Print the correlation of the mouth's opening with the loudness, by shift."""
    numbers = np.rint((media - LEAD / SAMPLE_RATE) * FRAME_RATE).clip(0).astype(int)
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    opening = mouth_opening(sync_net(), pictures).numpy().reshape(-1)
    pcm = sent[LEAD:]
    loudness = np.sqrt(np.square(pcm[: len(pcm) // HOP * HOP].reshape(-1, HOP)).mean(1))
    loudness = np.log(loudness + 1e-3)

    def correlation(shift: int) -> float:
        at = numbers + shift
        inside = (at >= 0) & (at < len(loudness))
        return float(np.corrcoef(opening[inside], loudness[at[inside]])[0, 1])

    shifts = [k for k in range(-75, 76) if abs(k) >= 12]
    best = max(shifts, key=correlation)
    print(
        f"lips: correlation {correlation(0):.2f}; at other shifts at most {correlation(best):.2f} "
        f"(at {best / FRAME_RATE:+.1f} s)"
    )


def flashes() -> tuple[str, str]:
    """Codecs and bytes (base64) of a stream with a white frame and a click at the start of each second."""
    encoder = FragmentEncoder(256, {})
    data = encoder.init
    for number in range(FLASHES + 1):
        for part in range(0, FRAME_RATE, 5):
            frames, pcm = np.zeros((5, 256, 256, 3), np.uint8), np.zeros(5 * HOP, np.float32)
            if part == 0 and number:
                frames[0], pcm[:HOP:8] = 255, 0.9
            data += encoder.encode(pcm, frames)
    data += encoder.finish()
    return encoder.codecs, base64.b64encode(data).decode()


def flash_and_click(evaluate: Callable[[str], Any], name: str) -> None:
    """Play the flashes and print the delay of the clicks."""
    evaluate(f"{RECORD}; 0")
    evaluate(PLAY % (SIDE, *flashes()))
    until(evaluate, "document.getElementById('video').ended", 60)
    if not evaluate("found.sound.length"):
        print(f"{name}: its AudioContext does not run on this machine, so nothing was recorded")
        return
    times, frames, heard, start = recorded(evaluate)
    bright = frames.reshape(len(frames), -1).mean(1) > 128
    shown = [times[k, 1] / 1000 for k in np.flatnonzero(bright[1:] & ~bright[:-1]) + 1]
    loud = np.flatnonzero(np.abs(heard) > 0.2)
    clicks = [start + k / SAMPLE_RATE for k in loud[np.diff(loud, prepend=-SAMPLE_RATE) > SAMPLE_RATE // 2]]
    delays = [1000 * min((click - flash for click in clicks), key=abs) for flash in shown]
    print(f"{name}: clicks {', '.join(f'{delay:+.0f}' for delay in delays)} ms after their flashes")


def main() -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with served() as address:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"))
            speech(address, chromium)
            page = chromium.new_page()
            page.goto(address)
            page.get_by_label("Text", exact=True).click()  # sound needs a gesture
            flash_and_click(page.evaluate, "chromium")
            chromium.close()
        with Firefox() as firefox:
            firefox.open(address)
            firefox.click("#text")
            flash_and_click(firefox.evaluate, "firefox")


if __name__ == "__main__":
    main()
