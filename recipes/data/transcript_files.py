"""Reading transcripts from files. Invalid cues and words are skipped, and the reasons are counted."""

from __future__ import annotations

import html
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from recipes.data.transcript import Cue
from recipes.data.whisper_json import json_cues
from talker.errors import UserError
from talker.text.decoding import decoded

SUFFIXES = (".json", ".srt", ".vtt", ".txt")
MOST_BYTES = 64 * 2**20  # of a transcript file
NO_TEXT, NO_TIMES = "cue without text", "cue without readable times"
NO_SPEECH = "cue of music or sounds"
BACKWARDS = "cue that ends before it starts"
_TIME = r"(?:(\d{1,6})\s*:\s*)?(\d{1,2})\s*:\s*(\d{1,2})(?:\s*[.,]\s*(\d{1,9}))?"
_ARROW = r"(?:[-\u2010-\u2015\u2212]+\s?>|\u2192|--+)"  # -->, and what programs and people write instead
_TIMES = re.compile(rf"\s*{_TIME}\s*{_ARROW}\s*{_TIME}(?![\d:])", re.ASCII)
_SOUND = re.compile(r"\[[^\]]*\]|[\u2669-\u266c]+(?:[^\u2669-\u266c]*[\u2669-\u266c]+)?")
_SPEAKER = re.compile(r"^\s*(?:[-\u2010-\u2015]\s*)?(?:[A-Z][A-Z0-9 .'-]{2,30}:\s+)?(?=\S)")
_MARKUP = re.compile(r"</?[A-Za-z][^>]*>|<\d[^>]*>|\{[^}]*\}")  # tags, times in WebVTT, overrides of ASS
_ASS_SPACE = re.compile(r"\\[Nnh]")


@dataclass(frozen=True)
class Transcript:
    """The transcript of a video.

    Attributes:
        cues: in order of their starts; one cue without an end if there are no times; empty if there is none.
        lost: number of cues that are left out, by reason.
        notes: a line for each reason, and for an encoding that was guessed.
    """

    cues: tuple[Cue, ...] = ()
    lost: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def transcript_path(video: Path) -> Path | None:
    """Return the transcript file of a video: its name with one of SUFFIXES, in small letters or capitals."""
    paths = (video.with_suffix(case(suffix)) for suffix in SUFFIXES for case in (str.lower, str.upper))
    return next((path for path in paths if path.is_file()), None)


def read_transcript(video: Path) -> Transcript:
    """Read the transcript of a video, from its `transcript_path`.

    A .json file has the format of Whisper or WhisperX, see `json_cues`; .srt is SubRip and .vtt is WebVTT.
    A file without any times, and a .txt file, give one cue that has no end.

    Raises:
        UserError: the file cannot be read, does not have the format of its suffix, or has no usable cue.
    """
    path = transcript_path(video)
    if path is None:
        return Transcript()
    name, lost = os.fsencode(path.name).decode("utf-8", "backslashreplace"), Counter[str]()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        text, encoding = decoded(path.read_bytes())
        if path.suffix.lower() == ".json":
            cues = json_cues(text, lost)
        elif path.suffix.lower() == ".txt":
            cues = [Cue(0.0, math.inf, text)]
        else:
            cues = _subtitle_cues(text, lost)
    except (OSError, ValueError) as error:
        why = "no text" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
        raise UserError(f"{name} is not a transcript ({why}): correct or remove it") from error
    spoken = [Cue(cue.start, cue.end, _spoken(cue.text)) for cue in cues if cue.text.strip()]
    if silent := sum(not cue.text for cue in spoken):
        lost[NO_SPEECH] += silent
    kept = tuple(sorted((cue for cue in spoken if cue.text), key=lambda cue: cue.start))
    if lost and not kept:
        reasons = ", ".join(f"{reason} {count}" for reason, count in lost.items())
        raise UserError(f"{name} has no usable cue ({reasons}): correct or remove it")
    notes = [f"{name}: {reason} ({count})" for reason, count in lost.items()]
    if encoding == "cp1252":
        notes.append(f"{name}: not UTF-8, read as Windows-1252; save it as UTF-8 if letters are wrong")
    return Transcript(kept, dict(lost), tuple(notes))


def _spoken(text: str) -> str:
    """The words of a cue, without sounds in brackets, songs between notes, and the name of the speaker."""
    return " ".join(_SPEAKER.sub("", _SOUND.sub(" ", text)).split())


def _subtitle_cues(text: str, lost: Counter[str]) -> list[Cue]:
    """The cues of SubRip or WebVTT text. Odd cues are left out and counted in `lost`."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    at = [number for number, line in enumerate(lines) if "-->" in line or _TIMES.match(line)]
    if not at:
        raise ValueError("it has no line with times")
    vtt, numbered = text.startswith("WEBVTT"), at[0] > 0 and lines[at[0] - 1].strip().isdecimal()
    cues = []
    for first, stop in pairwise([*at, None]):
        assert first is not None
        body = _body(lines[first + 1 : stop], vtt, numbered and stop is not None)
        words = html.unescape(_MARKUP.sub("", _ASS_SPACE.sub(" ", " ".join(body)))).strip()
        times = _subtitle_times(lines[first])
        if times is None:
            lost[NO_TIMES] += 1
        elif times[1] < times[0]:
            lost[BACKWARDS] += 1
        elif not words:
            lost[NO_TEXT] += 1
        else:
            cues.append(Cue(*times, words))
    return cues


def _body(lines: Sequence[str], vtt: bool, numbered: bool) -> Sequence[str]:
    """The lines of a cue's text.

    Args:
        lines: all lines up to the next cue's times.
        vtt: the format is WebVTT, where a blank line ends the text; a comment can follow it.
        numbered: the number of the next cue follows the text, perhaps without a blank line between them.
    """
    blank = next((number for number, line in enumerate(lines) if not line.strip()), None)
    if vtt and blank is not None:
        return lines[:blank]
    return lines[:-1] if numbered and lines and lines[-1].strip().isdecimal() else lines


def _subtitle_times(line: str) -> tuple[float, float] | None:
    """Start and end in seconds of a line such as `00:01:02,500 --> 01:05.000`; None if it has others."""
    match = _TIMES.match(line)
    if match is None:
        return None
    found = []
    for hours, minutes, seconds, fraction in (match.groups()[:4], match.groups()[4:]):
        if int(minutes) > 59 or int(seconds) > 59:
            return None
        found.append(3600 * int(hours or 0) + 60 * int(minutes) + int(seconds) + float(f"0.{fraction or 0}"))
    return found[0], found[1]
