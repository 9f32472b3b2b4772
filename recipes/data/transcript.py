"""What is said when: transcripts from files, and where a recording may be cut without cutting words."""

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

LONGEST_PAUSE = 2.0  # seconds of silence inside a clip; a longer pause always separates
MARGIN = 0.25  # seconds kept before the first and after the last word, as far as the neighbours leave room
SENTENCE_BONUS = 0.5  # a boundary after a full stop counts as a pause so much longer
TOUCHING = 0.05  # seconds by which cues may overlap without being inseparable
MOST_BYTES = 64 * 2**20
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")
_SRT_TIME = r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})"


@dataclass(frozen=True)
class Cue:
    """A word, sentence or line with its times in seconds; `end` is infinite where nobody timed it."""

    start: float
    end: float
    text: str

    def shifted(self, seconds: float) -> Cue:
        """The same, later."""
        return Cue(self.start + seconds, self.end + seconds, self.text)

    def within(self, seconds: float) -> Cue:
        """The same with its times moved into 0..seconds."""
        start, end = (min(max(time, 0.0), seconds) for time in (self.start, self.end))
        return Cue(start, end, self.text)


@dataclass(frozen=True)
class Span:
    """A stretch of a recording, in seconds, and the cues inside it; their times are the recording's."""

    start: float
    end: float
    cues: tuple[Cue, ...]


def text_of(cues: Sequence[Cue]) -> str:
    """What the cues say together."""
    return " ".join(cue.text for cue in cues)


def read_transcript(video: Path) -> list[Cue]:
    """Cues of the .json, .srt or .txt beside a video (the first that is there); none if there is none.

    A .json is whisper's (`segments` with start, end, text and perhaps `words`) or holds a `text` alone; a
    .txt and such a .json give a single cue without an end.

    Raises:
        UserError: the file cannot be read as what its name says.
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
            raise UserError(f"{path.name} is no transcript ({error}): mend or remove it") from error
        return sorted((cue for cue in cues if cue.text), key=lambda cue: cue.start)
    return []


def words_of(segments: Sequence[dict[str, Any]]) -> list[Cue]:
    """Cues of whisper's segments: their words where they are timed, else the segments.

    Raises:
        ValueError: times that are none.
    """
    cues = []
    for segment in segments:
        for one in segment.get("words") or [segment]:
            cue = Cue(float(one["start"]), float(one["end"]), one["word"] if "word" in one else one["text"])
            if not 0 <= cue.start <= cue.end < math.inf:
                raise ValueError(f"times {one['start']} to {one['end']}")
            cues.append(cue)
    return cues


def _untimed(text: str) -> list[Cue]:
    return [Cue(0.0, math.inf, text)]


def _json_cues(text: str) -> list[Cue]:
    held = json.loads(text)
    segments = held if isinstance(held, list) else held.get("segments")
    return words_of(segments) if segments else _untimed(held["text"])


def _srt_cues(text: str) -> list[Cue]:
    cues = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip()):
        match = re.search(rf"{_SRT_TIME}\s*-->\s*{_SRT_TIME}[^\n]*\n(.*)", block, re.DOTALL)
        if match is None:
            raise ValueError(f"no times in {block[:40]!r}")
        *times, said = match.groups()
        h, m, s, ms = (float(x) for x in times[:4])
        eh, em, es, ems = (float(x) for x in times[4:])
        start, end = 3600 * h + 60 * m + s + ms / 1000, 3600 * eh + 60 * em + es + ems / 1000
        if end < start:
            raise ValueError(f"a cue ends before it starts: {block[:40]!r}")
        cues.append(Cue(start, end, re.sub(r"<[^>]*>|\{[^}]*\}", "", said)))
    return cues


def spans(
    cues: Sequence[Cue], seconds: float, longest: float = LONGEST_SECONDS, pause: float = LONGEST_PAUSE
) -> tuple[list[Span], int]:
    """Stretches of at most `longest` seconds that cut no cue, and how many inseparable ones were too long.

    Cuts lie at pauses longer than `pause`, else at the longest pause in the second half of what fits; the end
    of a sentence counts as half a second more. Every cue is in one span at most, whole.

    Args:
        cues: timed, in order of their starts.
        seconds: length of the recording; cues that begin after it, or end more than a moment after it, are
            left out, and counted.
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
        # What the margins may take is what the longest clip leaves and half of the way to the neighbours.
        spare = max(0.0, (longest - (end - start)) / 2)
        start -= min(MARGIN, spare, max(0.0, (start - before) / (2 if first else 1)))
        end += min(MARGIN, spare, max(0.0, (after - end) / (2 if last + 1 < len(inside) else 1)))
        found.append(Span(start, end, chosen))
        first = last + 1
    return found, dropped


def _inseparable(cues: Sequence[Cue]) -> list[list[Cue]]:
    """Groups of cues that overlap in time."""
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
    """Index of the last unit of the span that begins with unit `first`."""
    start, last = units[first][0].start, first
    gaps: dict[int, float] = {}  # after a unit that ends in the second half of what fits
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
