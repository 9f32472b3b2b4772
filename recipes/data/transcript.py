"""Cues of a transcript, and cuts of a recording that do not cut a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from talker.clips.windows import LONGEST_SECONDS

LONGEST_PAUSE = 2.0  # seconds; a longer pause always ends a clip
MARGIN = 0.25  # seconds kept before the first and after the last word, if the neighbouring words allow it
SENTENCE_BONUS = 0.5  # seconds that are added to a pause at the end of a sentence when pauses are compared
TOUCHING = 0.05  # seconds; cues that overlap by more are never separated
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")


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
