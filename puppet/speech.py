"""Speech with phoneme times: espeak-ng through the library that the wheel `espeakng-loader` brings."""

import atexit
import json
import math
import os
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly

from puppet.voices import VoiceParameters
from talker.text.tokenizer import split_phones, spoken

SAMPLE_RATE = 24_000
ESPEAK_RATE = 22_050
PAUSE = "_"
_LEVEL = 0.075
_PEAK = 0.95


@dataclass(frozen=True)
class Phoneme:
    """One phone: `symbol` in IPA without stress and length marks (or PAUSE), `start` and `end` in seconds,
    `stress` 0 none, 1 secondary, 2 primary (on the vowel), `word` counts the words of the text from 0."""

    symbol: str
    start: float
    end: float
    stress: int = 0
    word: int = 0


@dataclass(frozen=True)
class Speech:
    """`pcm`: (samples,) float32 at 24 kHz in [-1, 1]; `phonemes` cover it in order, pauses included."""

    pcm: NDArray[np.float32]
    phonemes: list[Phoneme]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.pcm) / SAMPLE_RATE


class _Server:
    """The speaking process of this process: started on first use, ends with it."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise ImportError(
                "Making corpus speech needs espeak-ng: install the extra 'data' (pip install -e '.[data]')."
            ) from error
        script = Path(__file__).with_name("espeak_server.py")
        command = [sys.executable, "-I", "-S", str(script)]
        command += [espeakng_loader.get_library_path(), espeakng_loader.get_data_path()]
        self.owner = os.getpid()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lock = threading.Lock()
        atexit.register(self.close)

    def close(self) -> None:
        if self.owner == os.getpid():
            self.process.kill()  # a closed pipe would not end it while forked workers hold it open too
            self.process.wait()

    def ask(self, request: dict[str, Any]) -> tuple[NDArray[np.float32], list[tuple[int, str, str]]]:
        """PCM (samples at ESPEAK_RATE,) and events. Raises RuntimeError when espeak-ng fails."""
        block = json.dumps(request).encode()
        with self.lock:
            assert self.process.stdin
            self.process.stdin.write(struct.pack("<I", len(block)) + block)
            self.process.stdin.flush()
            header = json.loads(self._read())
            if "error" in header:
                raise RuntimeError(f"espeak-ng: {header['error']}")
            pcm = np.frombuffer(self._read(), dtype="<i2")
        return pcm.astype(np.float32) / np.float32(32768), header["events"]

    def _read(self) -> bytes:
        assert self.process.stdout
        head = self.process.stdout.read(4)
        if len(head) < 4:
            raise RuntimeError("espeak-ng: the speaking process ended; see its message above.")
        return self.process.stdout.read(struct.unpack("<I", head)[0])


_server: _Server | None = None


def _ask(request: dict[str, Any]) -> tuple[NDArray[np.float32], list[tuple[int, str, str]]]:
    global _server
    if _server is None or _server.owner != os.getpid():  # a forked worker starts its own
        _server = _Server()
    return _server.ask(request)


def _phonemes(events: list[tuple[int, str, str]], samples: int, rate: float) -> list[Phoneme]:
    """Phones with times in seconds from espeak's events; `rate` is the samples a second they count in."""
    phonemes: list[Phoneme] = []
    word, index = -1, 0
    starts = [sample for sample, kind, _ in events if kind == "phoneme"] + [samples]
    for sample, kind, text in events:
        if kind == "word":
            word += 1
            continue
        index += 1
        start, end, phones = float(sample), float(max(starts[index], sample)), split_phones(text) or [PAUSE]
        if end == start:  # a dark l, which espeak speaks within the vowel before it
            if phones == [PAUSE] or not phonemes or phonemes[-1].symbol == PAUSE:
                continue
            end = phonemes[-1].end * rate
            start = end - 0.4 * (end - phonemes[-1].start * rate)
            phonemes[-1] = replace(phonemes[-1], end=start / rate)
        for part, phone in enumerate(phones):
            first, last = (start + (end - start) * k / len(phones) for k in (part, part + 1))
            stress = max(" ˌˈ".find(phone[0]), 0)
            phonemes.append(Phoneme(phone.lstrip("ˌˈ"), first / rate, last / rate, stress, max(word, 0)))
    return phonemes


def _timbre(pcm: NDArray[np.float32], voice: VoiceParameters) -> NDArray[np.float32]:
    """Tilt above 2 kHz and one broad peak (biquads of R. Bristow-Johnson's audio EQ cookbook)."""
    gain = 10 ** (voice.tilt / 20)
    pole = math.exp(-2 * math.pi * 2000 / SAMPLE_RATE)
    low = lfilter([1 - pole], [1, -pole], pcm)
    pcm = gain * pcm + (1 - gain) * low
    amplitude, omega = 10 ** (voice.presence / 40), 2 * math.pi * voice.presence_hz / SAMPLE_RATE
    alpha, cosine = math.sin(omega) / (2 * 0.7), math.cos(omega)
    numerator = [1 + alpha * amplitude, -2 * cosine, 1 - alpha * amplitude]
    denominator = [1 + alpha / amplitude, -2 * cosine, 1 - alpha / amplitude]
    return lfilter(numerator, denominator, pcm)


def _level(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Speech RMS (over its louder 20 ms pieces) to a common level, peaks below full scale."""
    pieces = pcm[: len(pcm) // 480 * 480].reshape(-1, 480)
    power = (pieces**2).mean(1)
    loud = power[power > 0.02 * power.max()] if power.size else power
    rms = math.sqrt(float(loud.mean())) if loud.size else 0.0
    scale = min(_LEVEL / max(rms, 1e-6), _PEAK / max(float(np.abs(pcm).max(initial=0)), 1e-6))
    return (pcm * scale).astype(np.float32)


def speak(text: str, voice: VoiceParameters) -> Speech:
    """Speak a text in a voice: the same samples on every call, in any process and order.

    Numbers, dates and abbreviations are read as talker.text reads them, so that the tokens a model sees
    and the sound it learns agree. Raises ImportError (naming the extra) without the wheel, ValueError for
    an empty text, RuntimeError when espeak-ng fails.
    """
    words = spoken(text)
    request = {
        "text": words,
        "voice": f"en-us+{voice.variant}",
        "rate": voice.espeak_rate,
        "pitch": voice.espeak_pitch,
        "range": voice.range,
    }
    raw, events = _ask(request)
    pcm = resample_poly(raw.astype(np.float64), 160, voice.tract_down)
    phonemes = _phonemes(events, len(raw), ESPEAK_RATE * voice.tract)
    return Speech(_level(_timbre(pcm, voice)), phonemes)
