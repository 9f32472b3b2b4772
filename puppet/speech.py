"""Synthetic speech with phoneme times, by the espeak-ng library from the package `espeakng-loader`."""

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
from talker.clock import SAMPLE_RATE
from talker.text.phonemes import split_phones
from talker.text.spoken import spoken

ESPEAK_RATE = 22_050  # samples per second of espeak-ng's output
PAUSE = "_"
_RMS = 0.075  # of speech, full scale 1
_PEAK = 0.95  # the largest absolute sample


@dataclass(frozen=True)
class Phoneme:
    """One phoneme of an utterance.

    Attributes:
        symbol: IPA without stress and length marks, or PAUSE.
        start, end: in seconds.
        stress: of a vowel: 0 none, 1 secondary, 2 primary.
        word: index of the word in the text, from 0.
    """

    symbol: str
    start: float
    end: float
    stress: int = 0
    word: int = 0


@dataclass(frozen=True)
class Speech:
    """`pcm`: (samples,) float32 at 24 kHz in [-1, 1]; `phonemes`: its phonemes and pauses in time order."""

    pcm: NDArray[np.float32]
    phonemes: list[Phoneme]

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.pcm) / SAMPLE_RATE


class _Server:
    """A child process that runs espeak_server.py; it ends when this process exits."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise ImportError(
                "espeak-ng is not installed: run make test, which installs all packages"
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
            # Closing the pipe would not end the server, because forked workers may hold it open.
            self.process.kill()
            self.process.wait()

    def synthesise(self, request: dict[str, Any]) -> tuple[NDArray[np.float32], list[tuple[int, str, str]]]:
        """Return PCM (samples,) at ESPEAK_RATE and the events (sample, kind, text) of one request.

        Raises RuntimeError if espeak-ng fails.
        """
        block = json.dumps(request).encode()
        with self.lock:
            assert self.process.stdin
            self.process.stdin.write(struct.pack("<I", len(block)) + block)
            self.process.stdin.flush()
            header = json.loads(self._read())
            if "error" in header:
                raise RuntimeError(f"espeak-ng failed: {header['error']}")
            pcm = np.frombuffer(self._read(), dtype="<i2")
        return pcm.astype(np.float32) / np.float32(32768), header["events"]

    def _read(self) -> bytes:
        assert self.process.stdout
        head = self.process.stdout.read(4)
        if len(head) < 4:
            raise RuntimeError("the espeak-ng process ended; its error message is printed above")
        return self.process.stdout.read(struct.unpack("<I", head)[0])


_server: _Server | None = None


def _synthesise(request: dict[str, Any]) -> tuple[NDArray[np.float32], list[tuple[int, str, str]]]:
    """Send a request to this process's server, which is started on first use."""
    global _server
    if _server is None or _server.owner != os.getpid():  # a forked worker needs its own server
        _server = _Server()
    return _server.synthesise(request)


def _phonemes(events: list[tuple[int, str, str]], samples: int, rate: float) -> list[Phoneme]:
    """Convert espeak's events to phonemes with times in seconds.

    `samples` is the length of the utterance, `rate` the sample rate that the events count in.
    """
    phonemes: list[Phoneme] = []
    word, index = -1, 0
    starts = [sample for sample, kind, _ in events if kind == "phoneme"] + [samples]
    for sample, kind, text in events:
        if kind == "word":
            word += 1
            continue
        index += 1
        start, end, phones = float(sample), float(max(starts[index], sample)), split_phones(text) or [PAUSE]
        if end == start:  # a dark l, an event without duration, gets the last 40 % of its vowel
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


def _equalise(pcm: NDArray[np.float32], voice: VoiceParameters) -> NDArray[np.float32]:
    """Apply the voice's shelf above 2 kHz and its broad peak (R. Bristow-Johnson's audio EQ cookbook)."""
    gain = 10 ** (voice.tilt / 20)
    pole = math.exp(-2 * math.pi * 2000 / SAMPLE_RATE)
    low = lfilter([1 - pole], [1, -pole], pcm)
    pcm = gain * pcm + (1 - gain) * low
    amplitude, omega = 10 ** (voice.presence / 40), 2 * math.pi * voice.presence_hz / SAMPLE_RATE
    alpha, cosine = math.sin(omega) / (2 * 0.7), math.cos(omega)
    numerator = [1 + alpha * amplitude, -2 * cosine, 1 - alpha * amplitude]
    denominator = [1 + alpha / amplitude, -2 * cosine, 1 - alpha / amplitude]
    return lfilter(numerator, denominator, pcm)


def normalise_loudness(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale pcm to the RMS _RMS over its loud 20 ms frames, and to a peak of at most _PEAK."""
    frames = pcm[: len(pcm) // 480 * 480].reshape(-1, 480)
    power = (frames**2).mean(1)
    loud = power[power > 0.02 * power.max()] if power.size else power
    rms = math.sqrt(float(loud.mean())) if loud.size else 0.0
    scale = min(_RMS / max(rms, 1e-6), _PEAK / max(float(np.abs(pcm).max(initial=0)), 1e-6))
    return (pcm * scale).astype(np.float32)


def frame_levels(pcm: NDArray[np.float32], hop: int) -> NDArray[np.float64]:
    """Level (samples // hop,) in dB of each frame of `hop` samples, relative to normalised loud speech."""
    frames = pcm[: len(pcm) // hop * hop].reshape(-1, hop).astype(np.float64)
    return 10 * np.log10((frames**2).mean(1) / _RMS**2 + 1e-9)


def speak(text: str, voice: VoiceParameters) -> Speech:
    """Synthesise a text in a voice. Equal arguments give equal samples, in any process and order.

    `talker.text` expands numbers, dates and abbreviations first, so that the speech contains the words that
    the tokenizer reads.

    Raises:
        ImportError: the extra `data` is not installed.
        ValueError: the text is empty.
        RuntimeError: espeak-ng failed.
    """
    words = spoken(text)
    request = {
        "text": words,
        "voice": f"en-us+{voice.variant}",
        "rate": voice.espeak_rate,
        "pitch": voice.espeak_pitch,
        "range": voice.range,
    }
    raw, events = _synthesise(request)
    pcm = resample_poly(raw.astype(np.float64), 160, voice.tract_down)
    phonemes = _phonemes(events, len(raw), ESPEAK_RATE * voice.tract)
    return Speech(normalise_loudness(_equalise(pcm, voice)), phonemes)
