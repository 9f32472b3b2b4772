"""Phone times of the teacher's speech: a forced alignment near the durations of its tokens.

The sound of a token precedes its frames, by 53 ms on average, but by a different time for each pair of
phones. So each phone is modelled as two states with a Gaussian over a log spectrum, and the most likely
borders near the teacher's are searched (Viterbi).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from puppet.speech import PAUSE, Phoneme
from talker.clock import SAMPLE_RATE
from talker.text.phonemes import STRESS_MARKS

MODELS = Path(__file__).with_name("assets") / "phone_models.npz"
_HOP = SAMPLE_RATE // 200
_WINDOW = 480  # samples of the spectrum
_BANDS = 24
_LEAD = 0.053  # seconds by which the sound of a token precedes the token's frames, on average
_REACH = 14  # frames by which a border may move
_LEAST = 2  # frames of each state of a phone
_PAUSE = 0.1  # seconds: shorter gaps belong to the neighbouring phones
_STOPS = frozenset(("p", "b", "t", "d", "k", "ɡ", "tʃ", "dʒ", "ʔ"))
_CLOSURE = 0.05  # seconds of silence beside a pause that belong to a stop

Models = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Mean and standard deviation (bands,) of each state: "p0" and "p1" are the halves of p, "_" is a pause."""


def phone_times(
    tokens: Sequence[str], bounds: Sequence[int], pcm: NDArray[np.float32], tract: float
) -> list[Phoneme]:
    """Phones and pauses of an utterance in time order, without gaps and overlaps.

    Args:
        tokens: phones, word boundaries " " and marks , . ? !
        bounds: (tokens + 1,) samples where the tokens start and where the last one ends, by the teacher's
            durations.
        pcm: (samples,) in [-1, 1].
        tract: factor by which the speech was played faster.
    """
    names, words = sequence(tokens)
    spectrum = features(pcm)
    states, edges = align(names, expected_starts(tokens, bounds, tract), spectrum, models())
    starts = [edges[states.index(k)] for k in range(len(names))] + [len(spectrum)]
    times = [frame * _HOP / SAMPLE_RATE for frame in starts]
    times[-1] = len(pcm) / SAMPLE_RATE
    return _phonemes(names, words, times)


def sequence(tokens: Sequence[str]) -> tuple[list[str], list[int]]:
    """Phones with stress marks and the gaps between words, before and after them; the word of each."""
    names, words, word = [PAUSE], [0], 0
    for token in tokens:
        if token in " ,.?!":
            if names[-1] != PAUSE:
                names, words = [*names, PAUSE], [*words, word]
                word += 1
        else:
            names, words = [*names, token], [*words, word]
    if names[-1] != PAUSE:
        names, words = [*names, PAUSE], [*words, word]
    return names, words


def expected_starts(tokens: Sequence[str], bounds: Sequence[int], tract: float) -> list[float]:
    """Frame where each entry of `sequence`, but the first, starts by the teacher's durations."""
    shifted = [bound / _HOP - _LEAD * SAMPLE_RATE / _HOP / tract for bound in bounds]
    found: list[float] = []
    gap = True
    for token, start in zip(tokens, shifted, strict=False):
        if token not in " ,.?!":
            found.append(start)
            gap = False
        elif not gap:
            found.append(start)
            gap = True
    return found if gap else [*found, shifted[-1]]


def features(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log power (frames, 24) in bands up to 12 kHz, every 5 ms, relative to the clip's loud frames."""
    frames = -(-len(pcm) // _HOP)
    padded = np.pad(pcm, (_WINDOW // 2, _WINDOW))
    cut = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[_HOP // 2 :: _HOP][:frames]
    power = np.abs(np.fft.rfft(cut * np.hanning(_WINDOW))) ** 2
    edges = np.unique(np.geomspace(2, _WINDOW // 2, _BANDS + 4).astype(int))[: _BANDS + 1]
    sums = np.concatenate([np.zeros((frames, 1)), np.cumsum(power, axis=1)], axis=1)
    bands = np.log((sums[:, edges[1:]] - sums[:, edges[:-1]]) / np.diff(edges) + 1e-4)
    level = bands.mean(1)
    return (bands - bands[level >= np.median(level)].mean(0)).astype(np.float32)


def states_of(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """States of a sequence of phones and gaps, and the entry of `names` that each belongs to."""
    halves = [
        ["_"] if name == PAUSE else [name.lstrip(STRESS_MARKS) + half for half in "01"] for name in names
    ]
    return [state for pair in halves for state in pair], [k for k, pair in enumerate(halves) for _ in pair]


def align(
    names: Sequence[str], expected: Sequence[float], spectrum: NDArray[np.float32], models: Models
) -> tuple[list[int], list[int]]:
    """The most likely borders.

    Returns:
        The entry of `names` of each state, and (states + 1,) the frame where each starts and the last ends.
    """
    states, entries = states_of(names)
    frames = len(spectrum)
    centres = [0.0, *expected, float(frames)]
    # The second half of a phone is expected to start in its middle.
    starts = [
        min(max(0.0, (centres[k] + centres[k + 1]) / 2 if state.endswith("1") else centres[k]), frames)
        for state, k in zip(states, entries, strict=True)
    ]
    least = [0 if state == "_" else _LEAST for state in states]
    scores = np.zeros((len(states), frames + 1))
    for row, state in enumerate(states):
        mean, std = models[state] if state in models else models["_"]
        errors = ((spectrum - mean) / std) ** 2
        np.cumsum(-0.5 * errors.sum(1) - np.log(std).sum(), out=scores[row, 1:])
    reach = _REACH
    while True:
        low = [0, *(max(0, round(start) - reach) for start in starts[1:]), frames]
        for row, state in enumerate(states):
            if state == "_" and row > 1:  # the teacher counts part of a pause to the phone before it
                low[row - 1 : row + 1] = [low[row - 2]] * 2
        low[1] = 0  # the first sound may begin anywhere before
        high = [0, *(min(frames, round(start) + reach) for start in starts[1:]), frames]
        edges = _viterbi(scores, low, high, least)
        if edges or reach > frames:
            break
        reach *= 2  # the teacher's durations leave no room for the least lengths
    return entries, edges or [round(start) for start in [*starts, frames]]


def _viterbi(
    scores: NDArray[np.float64], low: Sequence[int], high: Sequence[int], least: Sequence[int]
) -> list[int]:
    """Borders (states + 1,) between `low` and `high` with the largest sum of scores; [] if there are none.

    Args:
        scores: (states, frames + 1) cumulative log likelihood of each state.
        low, high: (states + 1,) bounds of each border, inclusive.
        least: (states,) least length of each state.
    """
    best, back = np.zeros(1), list[NDArray[np.int64]]()
    for state in range(len(scores)):
        start = np.arange(low[state], high[state] + 1)
        gain = best - scores[state, start]
        running = np.maximum.accumulate(gain)
        leader = np.maximum.accumulate(np.where(gain == running, np.arange(len(gain)), 0))
        stop = np.arange(low[state + 1], high[state + 1] + 1)
        last = stop - least[state] - low[state]
        possible = (last >= 0) & (stop >= low[state + 1])
        last = np.clip(last, 0, len(gain) - 1)
        best = np.where(possible, running[last] + scores[state, stop], -np.inf)
        back.append(start[leader[last]])
    if not np.isfinite(best[-1]):
        return []
    edges = [high[-1]]
    for state in reversed(range(len(scores))):
        edges.append(int(back[state][edges[-1] - low[state + 1]]))
    return edges[::-1]


def _phonemes(names: Sequence[str], words: Sequence[int], times: list[float]) -> list[Phoneme]:
    """Entries with their times; short gaps go to the neighbours, and stops take their closure from pauses."""
    found: list[Phoneme] = []
    for k, (name, word) in enumerate(zip(names, words, strict=True)):
        start, end = times[k], times[k + 1]
        if name != PAUSE:
            stress = max(" ˌˈ".find(name[0]), 0)
            found.append(Phoneme(name.lstrip(STRESS_MARKS), start, end, stress, word))
            continue
        outer = k in (0, len(names) - 1)
        before = _CLOSURE / 2 if k and names[k - 1] in _STOPS else 0.0
        after = _CLOSURE if k + 1 < len(names) and names[k + 1] in _STOPS else 0.0
        pause = outer or end - start - before - after >= _PAUSE
        middle = start if after and not pause else (start + end) / 2
        first, last = (start + before, end - after) if pause else (middle, middle)
        if outer and last < first:
            first = last = min(max(first, start), end)
        if found:
            found[-1] = Phoneme(found[-1].symbol, found[-1].start, first, found[-1].stress, found[-1].word)
        if last > first:
            found.append(Phoneme(PAUSE, first, last, 0, word))
        times[k + 1] = last
    return found


@cache
def models() -> Models:
    """The states' models, from assets/phone_models.npz."""
    with np.load(MODELS, allow_pickle=False) as stored:
        names = bytes(stored["names"]).decode().split()
        return {
            name: (mean, std) for name, mean, std in zip(names, stored["mean"], stored["std"], strict=True)
        }
