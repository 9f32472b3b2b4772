"""The held-out split of the corpus as test cases.

The one file of this package that knows the corpus (a stated exception of the import contract). The corpus is
made by `puppet`, needs the extra `data`, and is imported when a measurement asks for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.video import Box

if TYPE_CHECKING:
    from puppet.corpus import Clip

Split = Literal["train", "heldout"]
PORTRAIT_SIZE = 256
APART = 13
"""Frames between the source and the target of a pair: at least half a second."""


@dataclass(frozen=True)
class Case:
    """A sentence for a talker to say, in a voice and with a face that training never met.

    Attributes:
        text: the sentence.
        pcm: (samples,) the corpus's own reading of it in that voice, without drawn pauses.
        phonemes: espeak's, as spoken in `pcm`.
        prompt: (samples,) the same voice reading two other sentences.
        portrait: (256, 256, 3) the face at rest.
    """

    name: str
    text: str
    pcm: Tensor
    phonemes: list[str]
    prompt: Tensor
    portrait: NDArray[np.uint8]


# A case whose `pcm` was performed, and frames (T, S, S, 3) to it.
Performance = tuple[Case, NDArray[np.uint8]]


@dataclass(frozen=True)
class Scene:
    """A rendered clip: frames (T, 3, S, S) in [0, 1], pcm (960 T,), and how open the mouth is (T,)."""

    frames: Tensor
    pcm: Tensor
    opening: Tensor


def speaking(split: Split, frames: int = 0) -> Iterator[Clip]:
    """The clips of a split that speak and are at least `frames` long, without end."""
    from puppet.corpus import Corpus

    corpus, index = Corpus(split), 0
    while True:
        clip = corpus.clip(index)
        index += 1
        if not clip.idle and len(clip.motion) >= frames:
            yield clip


def cases(split: Split, count: int) -> Iterator[Case]:
    """The first `count` sentences of a split, no text twice."""
    from puppet.speech import speak

    seen: set[str] = set()
    for clip in speaking(split):
        if len(seen) == count:
            return
        if clip.text in seen:
            continue
        seen.add(clip.text)
        speech = speak(clip.text, clip.voice)
        yield _case(clip, speech.pcm, [p.symbol for p in speech.phonemes])


def performances(split: Split, count: int) -> Iterator[Performance]:
    """The first `count` clips that speak for two seconds or more, as they are: `pcm` with its drawn pauses,
    and frames (T, 256, 256, 3) to it.
    """
    for clip in itertools.islice(speaking(split, frames=50), count):
        case = _case(clip, clip.pcm, [p.symbol for p in clip.phonemes])
        yield case, renderer(clip).frames(clip.motion)


def _case(clip: Clip, pcm: NDArray[np.float32], phonemes: list[str]) -> Case:
    from puppet.motion import MOTION
    from puppet.sentences import sentence
    from puppet.speech import speak

    others = [sentence(clip.split, 100_000 + 2 * clip.index + i) for i in range(2)]
    prompt = speak(" ".join(others), clip.voice)
    portrait = renderer(clip).frames(np.zeros((1, len(MOTION)), np.float32))[0]
    return Case(
        f"{clip.index:04d}",
        clip.text,
        torch.from_numpy(pcm),
        phonemes,
        torch.from_numpy(prompt.pcm),
        portrait,
    )


def scenes(split: Split, count: int, size: int = PORTRAIT_SIZE, most: int = 125) -> Iterator[Scene]:
    """The first `count` clips that speak for at least two seconds, rendered, cut off after `most` frames."""
    from puppet.motion import MOTION

    clips, jaw, closure = speaking(split), MOTION.index("jaw"), MOTION.index("closure")
    while count:
        clip = next(clips)
        said = [p for p in clip.phonemes if p.symbol != "_" and p.end * 25 <= most]
        if sum(p.end - p.start for p in said) < 2.0:
            continue
        count -= 1
        stop = min(most, len(clip.motion))
        yield Scene(
            as_tensor(clip.frames(size=size, start=0, stop=stop)),
            torch.from_numpy(clip.pcm[: stop * 960]),
            torch.from_numpy(clip.motion[:stop, jaw] * (1 - clip.motion[:stop, closure])),
        )


def pairs(split: Split, count: int, each: int = 2) -> Iterator[tuple[Tensor, Tensor, Box]]:
    """Source (3, 256, 256), target, the target's mouth box: `each` pairs from a clip, half a second apart."""
    for clip in speaking(split, frames=2 * APART):
        rng, draw = np.random.default_rng([clip.index, 11]), renderer(clip)
        for _ in range(min(each, count)):
            first = int(rng.integers(0, len(clip.motion) - APART))
            second = int(rng.integers(first + APART, len(clip.motion)))
            source, target = (first, second) if rng.random() < 0.5 else (second, first)
            frames = as_tensor(draw.frames(clip.motion[[source, target]]))
            yield frames[0], frames[1], draw.mouth_box(clip.motion[target])
            count -= 1
        if not count:
            return


def renderer(clip: Clip) -> Any:
    """The clip's person, ready to draw at 256 pixels."""
    from puppet.face import identity
    from puppet.render import Renderer

    return Renderer(identity(clip.identity), PORTRAIT_SIZE)


def as_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Frames (T, H, W, 3) in bytes to (T, 3, H, W) in [0, 1]."""
    return torch.from_numpy(frames).movedim(-1, 1).float() / 255
