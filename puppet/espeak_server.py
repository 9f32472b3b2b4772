"""The speaking process: loads espeak-ng once and forks for every request.

espeak-ng's output depends on what the same process spoke before, so every item is spoken by a fresh copy
of the freshly initialised process. This file is run by path (`python espeak_server.py LIBRARY
DATA_FOLDER`) and imports nothing but the standard library, which keeps the fork cheap.

Protocol, both ways: a little-endian uint32 length, then that many bytes. Request: a JSON object with
voice, rate, pitch, range, text. Reply: a JSON header (`error`, or `samples` and `events` [[sample, kind,
text], ...]), and, when there is no error, a second block with the PCM (int16 at 22,050 Hz).
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
        raise RuntimeError(f"espeak-ng could not start with its data in {data}")
    espeak.espeak_SetVoiceByName(b"en-us")  # loads the dictionary once, before the forks
    return espeak


def _synthesise(espeak: ctypes.CDLL, request: dict[str, Any]) -> tuple[bytes, list[tuple[int, str, str]]]:
    """Speak one request in this (forked) process: PCM bytes and (sample, "phoneme" | "word", text) events."""
    pcm: list[bytes] = []
    events: list[tuple[int, str, str]] = []

    def collect(samples: Any, count: int, event: Any) -> int:
        if samples and count:
            pcm.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while event[index].type:
            one = event[index]
            if one.type == _EVENT_PHONEME:
                events.append((one.sample, "phoneme", one.id.string.decode("utf-8", "ignore")))
            elif one.type == _EVENT_WORD:
                events.append((one.sample, "word", ""))
            index += 1
        return 0

    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # it seeds its breath noise by the time of day
    callback = _Callback(collect)
    espeak.espeak_SetSynthCallback(callback)
    if espeak.espeak_SetVoiceByName(request["voice"].encode()):
        raise RuntimeError(f"espeak-ng has no voice {request['voice']!r}")
    espeak.espeak_SetParameter(_VOLUME, 60, 0)  # the loudest variants would clip inside espeak
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


def _answer(espeak: ctypes.CDLL, block: bytes) -> None:
    try:
        pcm, events = _synthesise(espeak, json.loads(block))
    except Exception:
        _write(json.dumps({"error": traceback.format_exc(limit=1)}).encode())
        return
    _write(json.dumps({"samples": len(pcm) // 2, "events": events}).encode())
    _write(pcm)


def main() -> None:
    """Serve requests from standard input until it closes; Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    espeak = _load(sys.argv[1], sys.argv[2])
    while len(head := sys.stdin.buffer.read(4)) == 4:
        block = sys.stdin.buffer.read(struct.unpack("<I", head)[0])
        child = os.fork()
        if child == 0:
            _answer(espeak, block)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            _write(json.dumps({"error": "the speaking process died"}).encode())


if __name__ == "__main__":
    main()
