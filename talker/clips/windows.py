"""Where long input is cut: at pauses, into windows of limited length with their share of the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from talker.clock import FRAME_RATE

LONGEST_SECONDS = 30.0
SHORTEST_PAUSE = 4  # frames
# A pause that ends a sentence is searched this far around the frame where the sentence should end: as a share
# of its length, and at least so many frames.
SEARCH, LEAST_SEARCH = 0.4, 12
LONG_PAUSE = 15  # frames; longer ones count as this long


@dataclass(frozen=True)
class Window:
    """A number of patches of given frames, and the words that are said in them."""

    patches: int
    text: str = ""


def at_pauses(speaks: np.ndarray, patch_frames: int, longest: float = LONGEST_SECONDS) -> list[int]:
    """Lengths in patches of windows of at most `longest` seconds. Each ends in the longest pause of its
    second half, at the limit if there is none.

    `speaks` (frames,) bool says in which frames there is speech (or movement).
    """
    most = int(longest * FRAME_RATE / patch_frames)
    left = -(-len(speaks) // patch_frames)
    quiet = pauses(speaks)
    found, start = [], 0
    while left > most:
        first, last = (start + most // 2) * patch_frames, (start + most) * patch_frames
        inside = [(length, centre) for centre, length in quiet if first < centre < last]
        cut = round(max(inside)[1] / patch_frames) - start if inside else most
        found.append(cut)
        start, left = start + cut, left - cut
    return [*found, left] if left else found


def aligned(
    sentences: Sequence[str],
    speaks: np.ndarray,
    patch_frames: int,
    weigh: Callable[[str], float] = len,
    longest: float = LONGEST_SECONDS,
) -> list[Window]:
    """Windows of whole sentences, as far as pauses show where they end; none exceeds `longest` seconds.

    A sentence takes as much of the speech as its share of the text, measured by `weigh`. The best pause near
    that frame ends its window; without one the next sentence joins it. A window that is still too long is cut
    `at_pauses`, and its words in proportion to the speech.
    """
    spoken = _spoken(speaks)
    quiet = pauses(speaks)
    found: list[tuple[int, int, list[str]]] = []
    weights = [weigh(sentence) for sentence in sentences]
    start, held, weight, left = 0, list[str](), 0.0, sum(weights)
    for sentence, own in zip(sentences[:-1], weights[:-1], strict=True):
        held, weight = [*held, sentence], weight + own
        share = (spoken[-1] - spoken[start]) * weight / max(left, 1)
        cut = _sentence_end(quiet, spoken, start, share, patch_frames)
        if cut is not None:
            found.append((start, cut, held))
            start, held, weight, left = cut, [], 0.0, left - weight
    found.append((start, len(speaks), [*held, *sentences[-1:]]))
    windows: list[Window] = []
    for first, last, texts in found:
        windows += _within(speaks[first:last], " ".join(texts), patch_frames, longest)
    return windows


def pauses(speaks: np.ndarray) -> list[tuple[int, int]]:
    """(centre, length) in frames of every pause between two stretches of speech."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], speaks, [True]]).astype(np.int8)))
    spans = edges.reshape(-1, 2)
    return [
        (int(first + last) // 2, int(last - first))
        for first, last in spans
        if last - first >= SHORTEST_PAUSE and first > 0 and last < len(speaks)
    ]


def _spoken(speaks: np.ndarray) -> np.ndarray:
    """(frames + 1,) frames of speech before each frame; all frames count where there is no speech."""
    spoken: np.ndarray = np.append(0, np.cumsum(speaks if speaks.any() else np.ones_like(speaks)))
    return spoken


def _sentence_end(
    quiet: list[tuple[int, int]], spoken: np.ndarray, start: int, share: float, patch_frames: int
) -> int | None:
    """The frame in which a sentence that starts at `start` and takes `share` frames of speech ends."""
    reach = max(SEARCH * share, LEAST_SEARCH)
    best: tuple[float, int] | None = None
    for centre, length in quiet:
        away = abs(float(spoken[centre] - spoken[start]) - share) / reach
        cut = round(centre / patch_frames) * patch_frames
        if away <= 1 and cut > start:
            score = min(length, LONG_PAUSE) / LONG_PAUSE - away
            best = max(best or (score, cut), (score, cut))
    return None if best is None else best[1]


def _within(speaks: np.ndarray, text: str, patch_frames: int, longest: float) -> list[Window]:
    """One window, or several `at_pauses` that share the words in proportion to the speech."""
    lengths = at_pauses(speaks, patch_frames, longest)
    if len(lengths) < 2:
        return [Window(patches, text) for patches in lengths]
    spoken, words = _spoken(speaks), text.split()
    ends = np.minimum(np.cumsum(lengths) * patch_frames, len(speaks))
    # A word belongs to the window in which its middle letter is spoken.
    letters = np.array([len(word) for word in words], float)
    middles = (np.cumsum(letters) - letters / 2) / max(letters.sum(), 1)
    marks = [0, *np.searchsorted(middles, spoken[ends] / spoken[-1]).tolist()]
    return [Window(n, " ".join(words[a:b])) for n, a, b in zip(lengths, marks, marks[1:], strict=False)]
