"""Where long input is cut: at silences, into windows with their share of the text, none too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from talker.clock import FRAME_RATE

LONGEST_SECONDS = 30.0
SHORTEST_PAUSE = 4  # frames
# A pause that ends a sentence is looked for this far around the place where the sentence should end, as a
# share of its length and in frames.
SEARCH, LEAST_SEARCH = 0.4, 12
LONG_PAUSE = 15  # frames; longer ones are no better


@dataclass(frozen=True)
class Window:
    """So many patches of given frames, and the token ids of what is said in them."""

    patches: int
    text: Sequence[int] = ()


def at_pauses(speaks: np.ndarray, patch_frames: int, longest: float = LONGEST_SECONDS) -> list[int]:
    """Lengths in patches of windows of at most `longest` seconds: they end in the longest pause of the second
    half, at the limit if there is none.

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
    sentences: Sequence[Sequence[int]],
    speaks: np.ndarray,
    patch_frames: int,
    longest: float = LONGEST_SECONDS,
) -> list[Window]:
    """Windows that each hold whole sentences, as far as pauses show where they end; none exceeds `longest`.

    A sentence should take as much of the speech as its share of the tokens. The best pause near that place
    ends its window; without one the next sentence joins it. A window that is still too long is cut
    `at_pauses`, and its text in proportion to the speech.
    """
    spoken = np.append(0, np.cumsum(speaks if speaks.any() else np.ones_like(speaks)))
    quiet = pauses(speaks)
    found: list[tuple[int, int, list[int]]] = []
    start, held, left = 0, list[int](), sum(map(len, sentences))
    for ids in sentences[:-1]:
        held += ids
        share = (spoken[-1] - spoken[start]) * len(held) / max(left, 1)
        cut = _sentence_end(quiet, spoken, start, share, patch_frames)
        if cut is not None:
            found.append((start, cut, held))
            start, left, held = cut, left - len(held), []
    found.append((start, len(speaks), held + list(sentences[-1])))
    windows: list[Window] = []
    for first, last, text in found:
        windows += _within(speaks[first:last], text, patch_frames, longest)
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


def _within(speaks: np.ndarray, text: list[int], patch_frames: int, longest: float) -> list[Window]:
    lengths = at_pauses(speaks, patch_frames, longest)
    if len(lengths) < 2:
        return [Window(patches, text) for patches in lengths]
    spoken = np.append(0, np.cumsum(speaks if speaks.any() else np.ones_like(speaks)))
    ends = np.minimum(np.cumsum(lengths) * patch_frames, len(speaks))
    marks = [0, *np.round(spoken[ends] / spoken[-1] * len(text)).astype(int)]
    return [Window(n, text[a:b]) for n, a, b in zip(lengths, marks, marks[1:], strict=False)]
