"""Transcripts: reading them from files, and finding cuts of a recording that do not cut a word."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talker.clips.windows import LONGEST_SECONDS
from talker.errors import UserError

LONGEST_PAUSE = 2.0  # seconds; a longer pause always ends a clip
MARGIN = 0.25  # seconds kept before the first and after the last word, if the neighbouring words allow it
SENTENCE_BONUS = 0.5  # seconds that are added to a pause at the end of a sentence when pauses are compared
TOUCHING = 0.05  # seconds; cues that overlap by more are never separated
MOST_BYTES = 64 * 2**20  # of a transcript file
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")
_SRT_TIME = r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})"


@dataclass(frozen=True)
class Cue:
    """A word, sentence or line with its times in seconds; `end` is infinite if the times are unknown."""

    start: float
    end: float
    text: str

    def shifted(self, seconds: float) -> Cue:
        """The cue with `seconds` added to its times."""
        return Cue(self.start + seconds, self.end + seconds, self.text)

    def within(self, seconds: float) -> Cue:
        """The cue with its times clipped to 0..seconds."""
        start, end = (min(max(time, 0.0), seconds) for time in (self.start, self.end))
        return Cue(start, end, self.text)


@dataclass(frozen=True)
class Span:
    """A part of a recording, in seconds, and the cues inside it, in seconds of the recording."""

    start: float
    end: float
    cues: tuple[Cue, ...]


def text_of(cues: Sequence[Cue]) -> str:
    """The texts of the cues, joined with spaces."""
    return " ".join(cue.text for cue in cues)


def read_transcript(video: Path) -> list[Cue]:
    """Read the transcript of a video: a file with the video's name and the suffix .json, .srt or .txt.

    The first of the three that exists is read. A .json file has Whisper's format (`segments` with start,
    end, text and optionally `words`) or only a `text`; such a file and a .txt file give one cue that has no
    end.

    Returns:
        Cues in order of their starts; empty if there is no transcript.

    Raises:
        UserError: the file cannot be read, or does not have the format of its suffix.
    """
    readers = {".json": _json_cues, ".srt": _srt_cues, ".txt": _untimed}
    for suffix, read in readers.items():
        path = video.with_suffix(suffix)
        if not path.is_file():
            continue
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError("too large")
            found = read(path.read_text(encoding="utf-8-sig"))
            cues = [Cue(cue.start, cue.end, " ".join(cue.text.split())) for cue in found]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path.name} is not a transcript ({error}): correct or remove it") from error
        return sorted((cue for cue in cues if cue.text), key=lambda cue: cue.start)
    return []


def words_of(segments: Sequence[dict[str, Any]]) -> list[Cue]:
    """Cues of Whisper's segments: one per word if the words have times, else one per segment.

    Raises:
        ValueError: a time is negative or not finite, or an end lies before its start.
    """
    cues = []
    for segment in segments:
        for one in segment.get("words") or [segment]:
            cue = Cue(float(one["start"]), float(one["end"]), one["word"] if "word" in one else one["text"])
            if not 0 <= cue.start <= cue.end < math.inf:
                raise ValueError(f"invalid times {one['start']} to {one['end']}")
            cues.append(cue)
    return cues


def _untimed(text: str) -> list[Cue]:
    return [Cue(0.0, math.inf, text)]


def _json_cues(text: str) -> list[Cue]:
    held = json.loads(text)
    segments = held if isinstance(held, list) else held.get("segments")
    return words_of(segments) if segments else _untimed(held["text"])


def _srt_cues(content: str) -> list[Cue]:
    cues = []
    for block in re.split(r"\n\s*\n", content.replace("\r\n", "\n").strip()):
        match = re.search(rf"{_SRT_TIME}\s*-->\s*{_SRT_TIME}[^\n]*\n(.*)", block, re.DOTALL)
        if match is None:
            raise ValueError(f"block without times: {block[:40]!r}")
        *times, text = match.groups()
        h, m, s, ms = (float(x) for x in times[:4])
        eh, em, es, ems = (float(x) for x in times[4:])
        start, end = 3600 * h + 60 * m + s + ms / 1000, 3600 * eh + 60 * em + es + ems / 1000
        if end < start:
            raise ValueError(f"a cue ends before it starts: {block[:40]!r}")
        cues.append(Cue(start, end, re.sub(r"<[^>]*>|\{[^}]*\}", "", text)))
    return cues


def spans(
    cues: Sequence[Cue], seconds: float, longest: float = LONGEST_SECONDS, pause: float = LONGEST_PAUSE
) -> tuple[list[Span], int]:
    """Split a recording into spans of at most `longest` seconds without cutting a cue.

    Every pause longer than `pause` separates two spans. A span that is still too long is cut at the longest
    pause in the second half of the allowed length, where the end of a sentence counts as SENTENCE_BONUS more.
    Cues that overlap are never separated.

    Args:
        cues: with known times, in order of their starts.
        seconds: length of the recording.
        longest: maximum length of a span in seconds.
        pause: maximum length of a pause inside a span in seconds.

    Returns:
        The spans in order, and the number of groups of overlapping cues that are in no span: those longer
        than `longest`, and those that lie after the end of the recording (by more than MARGIN).
    """
    units = _inseparable(cues)
    inside = [unit for unit in units if unit[-1].start < seconds and _end(unit) <= seconds + MARGIN]
    found: list[Span] = []
    dropped = len(units) - len(inside)
    first = 0
    while first < len(inside):
        if _end(inside[first]) - inside[first][0].start > longest:
            dropped, first = dropped + 1, first + 1
            continue
        last = _last_that_fits(inside, first, longest, pause)
        before = _end(inside[first - 1]) if first else 0.0
        after = inside[last + 1][0].start if last + 1 < len(inside) else seconds
        chosen = tuple(cue for unit in inside[first : last + 1] for cue in unit)
        start, end = chosen[0].start, min(_end(inside[last]), seconds)
        # Margins take at most what is left of `longest`, and half of the pause to a neighbouring cue.
        spare = max(0.0, (longest - (end - start)) / 2)
        start -= min(MARGIN, spare, max(0.0, (start - before) / (2 if first else 1)))
        end += min(MARGIN, spare, max(0.0, (after - end) / (2 if last + 1 < len(inside) else 1)))
        found.append(Span(start, end, chosen))
        first = last + 1
    return found, dropped


def _inseparable(cues: Sequence[Cue]) -> list[list[Cue]]:
    """Group cues that overlap in time by more than TOUCHING."""
    units: list[list[Cue]] = []
    for cue in cues:
        if units and cue.start < _end(units[-1]) - TOUCHING:
            units[-1].append(cue)
        else:
            units.append([cue])
    return units


def _end(unit: Sequence[Cue]) -> float:
    return max(cue.end for cue in unit)


def _last_that_fits(units: Sequence[Sequence[Cue]], first: int, longest: float, pause: float) -> int:
    """Index of the last unit of the span that begins with unit `first`; see `spans`."""
    start, last = units[first][0].start, first
    gaps: dict[int, float] = {}  # pauses after the units that end in the second half of the allowed length
    while last + 1 < len(units):
        gap = units[last + 1][0].start - _end(units[last])
        if gap > pause:
            break
        if _end(units[last]) - start >= longest / 2:
            ends = units[last][-1].text.rstrip("\"')»”").endswith(_SENTENCE_ENDS)
            gaps[last] = gap + (SENTENCE_BONUS if ends else 0.0)
        if _end(units[last + 1]) - start > longest:
            return max(gaps, key=lambda unit: gaps[unit]) if gaps else last
        last += 1
    return last
