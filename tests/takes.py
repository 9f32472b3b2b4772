"""Helpers for tests of clips: fast sampling settings, joined chunks, and takes with their requests."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from heads.sampling import Sampling
from talker.clips.clip import Chunk, Clip, Take
from talker.generation.request import Request

# Zero-star guidance skips the first step: with it, one step would return the noise and not use the model.
QUICK = Sampling(steps=1, zero_star=False)


def joined(chunks: Iterable[Chunk]) -> tuple[np.ndarray, np.ndarray]:
    """Samples (n,) and frames (T, H, W, 3) of all chunks."""
    chunks = list(chunks)
    return np.concatenate([c.pcm for c in chunks]), np.concatenate([c.frames for c in chunks])


def pcm_of(chunks: Iterable[Chunk]) -> np.ndarray:
    """Samples (n,) of all chunks."""
    return joined(chunks)[0]


def frames_of(chunks: Iterable[Chunk]) -> np.ndarray:
    """Frames (T, H, W, 3) of all chunks."""
    return joined(chunks)[1]


def recorded(clip: Clip) -> tuple[Take, list[Request]]:
    """A take whose latents have been generated, and the requests that were sent to the generator."""
    requests: list[Request] = []
    take = clip.take()
    generate = clip.system.generator.generate
    take.keep(lambda request: requests.append(request) or generate(request))  # type: ignore
    return take, requests


def errors(printed: str) -> list[str]:
    """The lines on standard error of the command, without those that say what it is doing."""
    doing = re.compile(r"talker: (loading the model|reading )|.*: [\d.]+ of about ")
    return [line for line in printed.splitlines() if not doing.match(line)]
