"""Finding copies of one video under several names, by what its clips sound and look like."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recipes.data.prepare.samples import Sample

WINDOWS = 12  # of a clip, in each of which the latents are averaged
LEAST_FRAMES = 2 * WINDOWS
APART = 4  # frames by which the lengths of copies of a clip may differ
# Least correlation of alike clips. Among 40 corpus videos, 32 of them copies (16 encoded again), copies have
# at least 0.98 (audio) and 0.69 (motion), others at most 0.33 and 0.49.
ALIKE = {"audio": 0.75, "motion": 0.5}
SHARED = 0.5  # least share of the shorter video that must be alike


@dataclass(frozen=True)
class _Print:
    """The fingerprint of a clip: its voice, its length, and a unit vector for each stream."""

    voice: str
    frames: int
    audio: NDArray[np.float32]
    motion: NDArray[np.float32]


def find_copies(samples: Iterable[Sample], equal: Sequence[Sequence[str]] = ()) -> list[list[str]]:
    """Find the videos that are copies of each other: byte for byte, in another container, or encoded again.

    Two clips are alike if their lengths differ by at most APART frames, and the courses of their audio
    latents and of their motion codes correlate. Videos are copies if alike clips are SHARED of the shorter
    one. Copies whose transcripts differ can have other clips; they are found only if they are in `equal`.

    Args:
        samples: the clips of all videos; a video is a `voice`.
        equal: groups of voices that are copies anyway.

    Returns:
        The groups of two or more voices, in order of their first clips.
    """
    prints = [_print(sample) for sample in samples]
    frames: dict[str, int] = defaultdict(int)
    for one in prints:
        frames[one.voice] += one.frames
    alike: dict[tuple[str, str], int] = defaultdict(int)
    for first, second in _alike(prints):
        pair = min(first.voice, second.voice), max(first.voice, second.voice)
        alike[pair] += min(first.frames, second.frames)
    pairs = [pair for one in equal for pair in pairwise(one)]
    pairs += [(a, b) for (a, b), common in alike.items() if common >= SHARED * min(frames[a], frames[b])]
    order = list(dict.fromkeys([*frames, *(voice for pair in pairs for voice in pair)]))
    group = {voice: [voice] for voice in order}
    for a, b in pairs:
        if group[a] is not group[b]:
            group[a] += group[b]
            group |= dict.fromkeys(group[b], group[a])
    place = {voice: number for number, voice in enumerate(order)}
    found = {id(one): sorted(one, key=place.__getitem__) for one in group.values() if len(one) > 1}
    return list(found.values())


def _print(sample: Sample) -> _Print:
    return _Print(sample.voice, len(sample.audio), _course(sample.audio), _course(sample.motion))


def _course(latents: NDArray[np.float16]) -> NDArray[np.float32]:
    """The course of latents (T, C) as a unit vector (WINDOWS * C,): means of windows, minus the whole mean.

    It is 0 for clips that are shorter than LEAST_FRAMES or do not change.
    """
    if len(latents) < LEAST_FRAMES:
        return np.zeros(WINDOWS * latents.shape[1], np.float32)
    wide = latents.astype(np.float32)
    means = np.stack([window.mean(0) for window in np.array_split(wide, WINDOWS)])
    course = (means - means.mean(0)).ravel()
    return course / max(float(np.linalg.norm(course)), 1e-6)


def _alike(prints: Sequence[_Print]) -> Iterator[tuple[_Print, _Print]]:
    """Yield the pairs of clips of different voices that are alike."""
    ordered = sorted(prints, key=lambda one: one.frames)
    if not ordered:
        return
    frames = np.array([one.frames for one in ordered])
    courses = {name: np.stack([getattr(one, name) for one in ordered]) for name in ALIKE}
    for number, one in enumerate(ordered):
        stop = int(np.searchsorted(frames, one.frames + APART, "right"))
        later = slice(number + 1, stop)
        near = [courses[name][later] @ courses[name][number] >= least for name, least in ALIKE.items()]
        for other in np.flatnonzero(near[0] & near[1]):
            if ordered[number + 1 + other].voice != one.voice:
                yield one, ordered[number + 1 + other]
