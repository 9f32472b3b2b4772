"""The speech synthesis process: loads espeak-ng once and forks for every request.

espeak-ng's output depends on what the process has spoken before. Therefore a fork of the freshly initialised
process speaks every request. The file is run by path (`python espeak_server.py LIBRARY DATA_FOLDER`) and
imports only the standard library, which keeps the fork cheap.

Protocol, in both directions: a little-endian uint32 length, then that many bytes. A request is a JSON object
with the keys voice, rate, pitch, range and text. A reply is a JSON header (`error`, or `samples` and `events`
[[sample, kind, text], ...]); without an error, a second block with the PCM follows (int16 at 22,050 Hz).
"""

import ctypes
import json
import os
import signal
import struct
import sys
import traceback
from typing import Any

_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x0001, 0x0002, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8 = 1
_EVENT_WORD, _EVENT_PHONEME = 1, 7


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def _load(library: str, data: str) -> ctypes.CDLL:
    espeak = ctypes.CDLL(library)
    flags = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
    if espeak.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), flags) != 22050:
        raise RuntimeError(f"espeak-ng could not load its data from {data}: reinstall espeakng-loader")
    espeak.espeak_SetVoiceByName(b"en-us")  # loads the dictionary before the first fork
    return espeak


def _synthesise(espeak: ctypes.CDLL, request: dict[str, Any]) -> tuple[bytes, list[tuple[int, str, str]]]:
    """Speak one request; return PCM bytes and events (sample, "phoneme" | "word", text)."""
    pcm: list[bytes] = []
    events: list[tuple[int, str, str]] = []

    def collect(samples: Any, count: int, event: Any) -> int:
        if samples and count:
            pcm.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while event[index].type:
            current = event[index]
            if current.type == _EVENT_PHONEME:
                events.append((current.sample, "phoneme", current.id.string.decode("utf-8", "ignore")))
            elif current.type == _EVENT_WORD:
                events.append((current.sample, "word", ""))
            index += 1
        return 0

    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # by default espeak seeds its breath noise by the clock
    callback = _Callback(collect)
    espeak.espeak_SetSynthCallback(callback)
    if espeak.espeak_SetVoiceByName(request["voice"].encode()):
        raise RuntimeError(f"espeak-ng has no voice {request['voice']!r}")
    espeak.espeak_SetParameter(_VOLUME, 60, 0)  # at full volume the loudest variants clip inside espeak
    for parameter, name in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range")):
        espeak.espeak_SetParameter(parameter, request[name], 0)
    text = request["text"].encode()
    if espeak.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None):
        raise RuntimeError("espeak-ng could not speak the text")
    espeak.espeak_Synchronize()
    return b"".join(pcm), events


def _write(block: bytes) -> None:
    sys.stdout.buffer.write(struct.pack("<I", len(block)) + block)
    sys.stdout.buffer.flush()


def _reply(espeak: ctypes.CDLL, block: bytes) -> None:
    try:
        pcm, events = _synthesise(espeak, json.loads(block))
    except Exception:
        _write(json.dumps({"error": traceback.format_exc(limit=1)}).encode())
        return
    _write(json.dumps({"samples": len(pcm) // 2, "events": events}).encode())
    _write(pcm)


def main() -> None:
    """Serve requests from standard input until it closes. The parent process handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    espeak = _load(sys.argv[1], sys.argv[2])
    while len(head := sys.stdin.buffer.read(4)) == 4:
        block = sys.stdin.buffer.read(struct.unpack("<I", head)[0])
        child = os.fork()
        if child == 0:
            _reply(espeak, block)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            _write(json.dumps({"error": "the forked synthesis process died"}).encode())


if __name__ == "__main__":
    main()
