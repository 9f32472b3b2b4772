"""Words and segments of Whisper and WhisperX as cues; times that are missing or impossible are repaired."""

from __future__ import annotations

import bisect
import difflib
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recipes.data.transcript import Cue

LETTER_SECONDS = 0.07  # estimated length of a word at the end of the file whose end is unknown, per letter
# Upper limit of repaired lengths, for the words and for each letter: the rest of the time is a pause.
MOST_SECONDS, MOST_LETTER_SECONDS = 0.5, 0.3
SLACK = 1.0  # seconds by which a word may lie outside of its segment
MOST_ALIGNED = 2000  # words of a segment's text that are compared with its list of words
NO_TEXT, NO_WORD = "segment without text", "word without text"


def json_cues(text: str, lost: Counter[str]) -> list[Cue]:
    """The cues of Whisper's JSON: `segments` with start, end, text and optionally `words`, or only a `text`.

    Args:
        text: the content of the file.
        lost: counts what is left out, by reason.

    Returns:
        The cues of `words_of`, or one cue without an end if there are no times.

    Raises:
        ValueError: the text has another format.
    """
    try:
        held = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(held, dict | list):
        raise ValueError("neither segments nor a text")
    whole = {"segments": held} if isinstance(held, list) else held
    segments = whole.get("segments") or [whole]  # some programs write `words` without segments
    if not isinstance(segments, list):
        raise ValueError("its segments are no list")
    if cues := words_of(segments, lost):
        return cues
    texts = [_Part.of(one).text for one in segments if isinstance(one, dict | str)]
    if not any(text.strip() for text in texts):
        raise ValueError("neither segments nor a text")
    return [Cue(0.0, math.inf, " ".join(texts))]


def words_of(segments: Sequence[Any], lost: Counter[str] | None = None) -> list[Cue]:
    """Cues of Whisper's segments: one for each word if the words have times, else one for each segment.

    Times that are missing, negative, out of order or far outside of the segment are replaced by times between
    the neighbouring words; words that overlap end where the next one starts.

    Args:
        segments: dicts with start, end, text and optionally words.
        lost: counts words and segments without text, which are left out.

    Returns:
        The cues; empty if there are no times at all.
    """
    lost = Counter() if lost is None else lost
    if odd := sum(not isinstance(segment, dict | str) for segment in segments):
        lost[NO_TEXT] += odd
        segments = [segment for segment in segments if isinstance(segment, dict | str)]
    parts = [_Part.of(segment) for segment in segments]
    words = [_words(segment, part, lost) for segment, part in zip(segments, parts, strict=True)]
    if not any(part.times for part in parts) and not any(words):
        return []
    for part, own in zip(parts, words, strict=True):
        times = [time for word in own for time in word.times]
        part.start = times[0] if times and part.start is None else part.start
        part.end = times[-1] if times and part.end is None else part.end
    _fill(parts, 0.0, math.inf)
    cues = []
    for part, own in zip(parts, words, strict=True):
        if own:
            _fill(own, *part.times)
        elif not part.text.strip():
            lost[NO_TEXT] += 1
            continue
        cues += [Cue(one.times[0], one.times[-1], one.text) for one in own or [part]]
    return cues


@dataclass
class _Part:
    """A word or segment: its text ("" if it has none), and its times in seconds (None if unknown)."""

    text: str
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, held: Any) -> _Part:
        """Read a word or segment, which can be a dict or only a text."""
        if not isinstance(held, dict):
            return cls(held if isinstance(held, str) else "")
        text = held["word"] if "word" in held else held.get("text")
        readable = isinstance(text, str | int | float) and not isinstance(text, bool)
        start, end = _time(held.get("start")), _time(held.get("end"))
        if start is not None and end is not None and end < start:
            start = end = None
        return cls(str(text) if readable else "", start, end)

    @property
    def letters(self) -> int:
        """Number of letters, at least 1."""
        return max(1, len(self.text.strip()))

    @property
    def times(self) -> list[float]:
        """The known ones of start and end."""
        return [time for time in (self.start, self.end) if time is not None]

    def forget_times(self) -> None:
        """Make start and end unknown."""
        self.start = self.end = None


def _time(value: Any) -> float | None:
    """A time in seconds; None if `value` is no time."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def _words(segment: Any, part: _Part, lost: Counter[str]) -> list[_Part]:
    """The words of a segment; their known times are in order. Empty if no word has times.

    Args:
        segment: the segment as it is stored.
        part: the segment. Its times become unknown if most words lie outside of them.
        lost: counts words without text.
    """
    held = segment.get("words") if isinstance(segment, dict) else None
    words = [_Part.of(word) for word in held] if isinstance(held, list) else []
    if empty := sum(not word.text.strip() for word in words):
        lost[NO_WORD] += empty
    words = [word for word in words if word.text.strip()]
    in_time = sorted(words, key=lambda word: word.times[0] if word.times else math.inf)
    if _part_of(in_time, part.text) and not _part_of(words, part.text):
        words = in_time
    timed = [word for word in words if word.times]
    if not timed:
        part.text = part.text or " ".join(word.text.strip() for word in words)
        return []
    low = 0.0 if part.start is None else part.start
    high = math.inf if part.end is None else part.end
    outside = [word for word in timed if word.times[0] < low - SLACK or word.times[-1] > high + SLACK]
    for wrong in [part] if 2 * len(outside) > len(timed) else outside:
        wrong.forget_times()
    _put_in_order([word for word in words if word.times])
    return _completed(words, part.text)


def _part_of(words: Sequence[_Part], text: str) -> bool:
    """Whether the words occur in the text in this order."""
    wanted = iter(text.split())
    return all(token in wanted for word in words for token in word.text.split())


def _put_in_order(words: Sequence[_Part]) -> None:
    """Remove the times of the fewest words such that the others start in order, and cut overlaps."""
    starts: list[float] = []  # starts[n]: the earliest start of the last of n + 1 words in order
    lengths = []
    for word in words:
        length = bisect.bisect_right(starts, word.times[0])
        starts[length : length + 1] = [word.times[0]]
        lengths.append(length)
    wanted, limit = len(starts) - 1, math.inf
    for word, length in zip(reversed(words), reversed(lengths), strict=True):
        if length != wanted or word.times[0] > limit:
            word.forget_times()
            continue
        if word.end is not None:
            word.end = min(word.end, limit)
        wanted, limit = wanted - 1, word.times[0]


def _completed(words: list[_Part], text: str) -> list[_Part]:
    """Insert the words of the segment's text that `words` lack, with unknown times.

    If `words` differ from the text in another way, nothing is inserted.
    """
    wanted = text.split()
    held = [(token, number) for number, word in enumerate(words) for token in word.text.split()]
    if len(wanted) <= len(held) or len(wanted) > MOST_ALIGNED:
        return words
    matcher = difflib.SequenceMatcher(None, [token for token, _ in held], wanted, autojunk=False)
    changes = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    if any(kind != "insert" for kind, *_ in changes):
        return words
    found: list[_Part] = []
    done = 0
    for _, before, _, low, high in changes:
        here = held[before][1] if before < len(held) else len(words)
        found += [*words[done:here], *map(_Part, wanted[low:high])]
        done = here
    return found + words[done:]


def _fill(parts: Sequence[_Part], low: float, high: float) -> None:
    """Set unknown times, in proportion to the letters between the nearest known times.

    Args:
        parts: words or segments.
        low, high: times of the beginning and the end; `high` can be infinite.
    """
    before = list(itertools.accumulate((part.letters for part in parts), initial=0))
    edges = [
        (part, name, before[number + (name == "end")])
        for number, part in enumerate(parts)
        for name in ("start", "end")
    ]
    unknown: list[tuple[_Part, str, int]] = []
    time, letters, late = low, 0, True
    for part, name, place in edges:
        known = getattr(part, name)
        if known is None:
            unknown.append((part, name, place))
            continue
        # Words before the first known time lie next to it, and so does a start before a known end.
        _interpolate(unknown, time, letters, known, place, late or name == "end")
        unknown, time, letters, late = [], known, place, False
    _interpolate(unknown, time, letters, high, before[-1], False)


def _interpolate(
    unknown: Sequence[tuple[_Part, str, int]], start: float, first: int, end: float, last: int, late: bool
) -> None:
    """Set unknown times between `start`, where `first` letters are spoken, and `end`, where `last` are.

    If there is more time than the letters need, the words lie next to `end` if `late`, else next to `start`.
    """
    letters = last - first
    if end == math.inf:
        end = start + LETTER_SECONDS * letters
    if end < start:
        start = end = end if late else start
    spare = max(0.0, end - start - MOST_SECONDS - MOST_LETTER_SECONDS * letters)
    start, end = (start + spare, end) if late else (start, end - spare)
    for part, name, place in unknown:
        setattr(part, name, start + (end - start) * (place - first) / max(1, letters))
