"""Splits long input at pauses into windows of limited length, and divides the text among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from talker.clock import FRAME_RATE

LONGEST_SECONDS = 30.0
SHORTEST_PAUSE = 4  # frames
# The pause at the end of a sentence is searched within this distance of the expected end: SEARCH times the
# length of the sentence, and at least LEAST_SEARCH frames.
SEARCH, LEAST_SEARCH = 0.4, 12
LONG_PAUSE = 15  # frames; longer pauses have the same score


@dataclass(frozen=True)
class Window:
    """A window of given frames.

    Attributes:
        patches: length in patches.
        text: the words that are spoken in the window.
    """

    patches: int
    text: str = ""


def at_pauses(speaks: np.ndarray, patch_frames: int, longest: float = LONGEST_SECONDS) -> list[int]:
    """Split frames into windows of at most `longest` seconds.

    Each window ends in the longest pause of its second half, or at the limit if there is no pause.

    Args:
        speaks: (frames,) bool mask of frames with speech or movement.
        patch_frames: frames per patch.
        longest: greatest duration of a window in seconds.

    Returns:
        the length of each window in patches.
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
    """Align sentences with speech, and split both into windows of at most `longest` seconds.

    The expected share of a sentence in the speech is its share in the text, measured by `weigh`. A window
    ends at the best pause near the expected end of a sentence. If there is none, it also includes the next
    sentence. Windows that are too long are split by `at_pauses`, and their words are divided in proportion to
    the speech.

    Args:
        sentences: the text.
        speaks: (frames,) bool mask of frames with speech or movement.
        patch_frames: frames per patch.
        weigh: weight of a sentence.
        longest: greatest duration of a window in seconds.
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
    """(centre, length) in frames of every pause of SHORTEST_PAUSE or more frames between speech."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], speaks, [True]]).astype(np.int8)))
    spans = edges.reshape(-1, 2)
    return [
        (int(first + last) // 2, int(last - first))
        for first, last in spans
        if last - first >= SHORTEST_PAUSE and first > 0 and last < len(speaks)
    ]


def _spoken(speaks: np.ndarray) -> np.ndarray:
    """Number of frames of speech before each frame (frames + 1,). Without any speech, all frames count."""
    spoken: np.ndarray = np.append(0, np.cumsum(speaks if speaks.any() else np.ones_like(speaks)))
    return spoken


def _sentence_end(
    quiet: list[tuple[int, int]], spoken: np.ndarray, start: int, share: float, patch_frames: int
) -> int | None:
    """The end frame of a sentence that starts at frame `start` and has `share` frames of speech, or None."""
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
    """One window, or several from `at_pauses` with the words divided in proportion to the speech."""
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
