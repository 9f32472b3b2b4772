"""Phone times of the teacher's speech, from the durations of its tokens and the loudness of its samples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from puppet.speech import PAUSE, Phoneme, frame_levels
from talker.clock import SAMPLE_RATE
from talker.text.phonemes import STRESS_MARKS

_LEAD = 0.075  # seconds by which the sound of a token precedes the token's frames
_HOP = SAMPLE_RATE // 200
_QUIET = -38.0  # dB: speech is louder
_PAUSE = 0.1  # seconds: shorter gaps belong to the neighbouring phones
_STOPS = frozenset(("p", "b", "t", "d", "k", "ɡ", "tʃ", "dʒ", "ʔ"))
_CLOSURE = 0.06  # seconds of silence that belong to a stop beside a pause
_SHORTEST = 0.01  # seconds


def phone_times(
    tokens: Sequence[str], bounds: Sequence[int], pcm: NDArray[np.float32], tract: float
) -> list[Phoneme]:
    """Phones and pauses of an utterance in time order, without gaps.

    Args:
        tokens: phones, word boundaries " " and marks , . ? !
        bounds: (tokens + 1,) samples where the tokens start, and where the last one ends.
        pcm: (samples,) in [-1, 1].
        tract: factor by which the speech was played faster.
    """
    edges = np.asarray(bounds) / SAMPLE_RATE - _LEAD / tract
    levels = frame_levels(pcm, _HOP)
    length = len(pcm) / SAMPLE_RATE
    phones = [k for k, token in enumerate(tokens) if token not in " ,.?!"]
    starts, ends = edges[phones], edges[np.array(phones) + 1]
    pauses: dict[int, tuple[float, float]] = {}
    names = [tokens[k].lstrip(STRESS_MARKS) for k in phones]
    loud = np.flatnonzero(levels > _QUIET) * _HOP / SAMPLE_RATE
    if len(loud):
        first, last = float(loud[0]), float(loud[-1]) + _HOP / SAMPLE_RATE
        starts[0] = max(0.0, first - (_CLOSURE if names[0] in _STOPS else 0.0))
        ends[-1] = min(length, last + (_CLOSURE if names[-1] in _STOPS else 0.0))
    for k in range(len(phones) - 1):
        if phones[k + 1] > phones[k] + 1:
            gap = _silence(levels, ends[k] - 0.06, starts[k + 1] + 0.06)
            before = _CLOSURE / 2 if names[k] in _STOPS else 0.0
            after = _CLOSURE if names[k + 1] in _STOPS else 0.0
            if gap[1] - gap[0] - before - after >= _PAUSE:
                ends[k], starts[k + 1] = gap[0] + before, gap[1] - after
                pauses[k] = (ends[k], starts[k + 1])
            else:
                ends[k] = starts[k + 1] = (ends[k] + starts[k + 1]) / 2
    found: list[Phoneme] = []
    time, word = 0.0, 0
    for k, name in enumerate(names):
        if k and phones[k] > phones[k - 1] + 1:
            word += 1
        token = tokens[phones[k]]
        start = max(time, float(starts[k]))
        if start > time:
            if k == 0 or k - 1 in pauses:
                found.append(Phoneme(PAUSE, time, start, 0, max(word - 1, 0)))
            else:
                start = time
        time = max(float(ends[k]), start + _SHORTEST)
        found.append(Phoneme(name, start, time, max(" ˌˈ".find(token[0]), 0), word))
    if time < length:
        found.append(Phoneme(PAUSE, time, length, 0, word))
    return found


def _silence(levels: NDArray[np.float64], start: float, end: float) -> tuple[float, float]:
    """The longest quiet run of the frames between two times, in seconds; of length 0 if there is none."""
    first, stop = max(0, round(start * SAMPLE_RATE / _HOP)), round(end * SAMPLE_RATE / _HOP)
    best, run = (first, first), first
    for k in range(first, min(stop, len(levels)) + 1):
        if k == min(stop, len(levels)) or levels[k] > _QUIET:
            if k - run > best[1] - best[0]:
                best = run, k
            run = k + 1
    return best[0] * _HOP / SAMPLE_RATE, best[1] * _HOP / SAMPLE_RATE
