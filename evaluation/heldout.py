"""Test cases from the corpus, by default from its held-out split. They need the extra `data`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from evaluation.video import Box
from puppet.corpus import Clip, bench
from puppet.motion import MOTION
from puppet.sentences import Split, sentence
from puppet.speech import PAUSE, speak
from puppet.voices import VoiceParameters
from talker.clock import FRAME_RATE, HOP
from talker.media.pixels import from_uint8

PORTRAIT_SIZE = 256
APART = 13
"""Smallest distance in frames between the source and the target of a pair, half a second."""


@dataclass(frozen=True)
class Case:
    """A text with a voice prompt, a portrait and a reference.

    Attributes:
        name: of the clip in the corpus.
        text: what to say.
        pcm: (samples,) the text in this voice, as the corpus synthesises it.
        phonemes: of `pcm`, from espeak.
        prompt: (samples,) two other sentences in the same voice.
        portrait: (256, 256, 3) the neutral face.
    """

    name: str
    text: str
    pcm: Tensor
    phonemes: list[str]
    prompt: Tensor
    portrait: NDArray[np.uint8]


# A case, and the frames (T, S, S, 3) of a clip with the sound `pcm`.
Performance = tuple[Case, NDArray[np.uint8]]


@dataclass(frozen=True)
class Scene:
    """A rendered clip: frames (T, 3, S, S) in [0, 1], pcm (960 T,), and mouth opening (T,) in [0, 1]."""

    frames: Tensor
    pcm: Tensor
    opening: Tensor


def speaking(split: Split, frames: int = 0) -> Iterator[Clip]:
    """Yield the clips of a split that contain speech and have at least `frames` frames, without end."""
    corpus, index = bench(split), 0
    while True:
        clip = corpus.clip(index)
        index += 1
        if not clip.idle and len(clip.motion) >= frames:
            yield clip


def cases(split: Split, count: int) -> Iterator[Case]:
    """Yield a case for each of the first `count` distinct texts of a split."""
    seen: set[str] = set()
    for clip in speaking(split):
        if len(seen) == count:
            return
        if clip.text in seen:
            continue
        seen.add(clip.text)
        assert isinstance(clip.voice, VoiceParameters)  # espeak's, in the bench
        speech = speak(clip.text, clip.voice)
        yield _case(clip, speech.pcm, [p.symbol for p in speech.phonemes])


def performances(split: Split, count: int) -> Iterator[Performance]:
    """Yield the first `count` clips of a split that contain speech and last at least two seconds.

    `pcm` is the sound of the clip with its lengthened pauses; the frames have shape (T, 256, 256, 3).
    """
    for clip in itertools.islice(speaking(split, frames=2 * FRAME_RATE), count):
        case = _case(clip, clip.pcm, [p.symbol for p in clip.phonemes])
        yield case, clip.frames(PORTRAIT_SIZE)


def _case(clip: Clip, pcm: NDArray[np.float32], phonemes: list[str]) -> Case:
    others = [sentence(clip.split, 100_000 + 2 * clip.index + i) for i in range(2)]
    assert isinstance(clip.voice, VoiceParameters)
    prompt = speak(" ".join(others), clip.voice)
    portrait = clip.renderer(PORTRAIT_SIZE).frames(np.zeros((1, len(MOTION)), np.float32))[0]
    return Case(
        f"{clip.index:04d}",
        clip.text,
        torch.from_numpy(pcm),
        phonemes,
        torch.from_numpy(prompt.pcm),
        portrait,
    )


def scenes(split: Split, count: int, size: int = PORTRAIT_SIZE, most: int = 125) -> Iterator[Scene]:
    """Yield the first `count` clips with at least 2 s of speech, rendered and cut after `most` frames."""
    if most <= 2 * FRAME_RATE:
        raise ValueError(
            f"most must exceed {2 * FRAME_RATE} frames, because scenes have 2 s of speech; got {most}"
        )
    clips, jaw, closure = speaking(split), MOTION.index("jaw"), MOTION.index("closure")
    while count:
        clip = next(clips)
        spoken = [p for p in clip.phonemes if p.symbol != PAUSE and p.end * FRAME_RATE <= most]
        if sum(p.end - p.start for p in spoken) < 2.0:
            continue
        count -= 1
        stop = min(most, len(clip.motion))
        yield Scene(
            as_tensor(clip.frames(size=size, start=0, stop=stop)),
            torch.from_numpy(clip.pcm[: stop * HOP]),
            torch.from_numpy(clip.motion[:stop, jaw] * (1 - clip.motion[:stop, closure])),
        )


def pairs(split: Split, count: int, each: int = 2) -> Iterator[tuple[Tensor, Tensor, Box]]:
    """Yield `count` tuples of source (3, 256, 256), target (3, 256, 256) and the target's mouth box.

    Each clip gives `each` pairs of frames that are at least APART frames apart.
    """
    for clip in speaking(split, frames=2 * APART):
        rng, renderer = np.random.default_rng([clip.index, 11]), clip.renderer(PORTRAIT_SIZE)
        for _ in range(min(each, count)):
            first = int(rng.integers(0, len(clip.motion) - APART))
            second = int(rng.integers(first + APART, len(clip.motion)))
            source, target = (first, second) if rng.random() < 0.5 else (second, first)
            frames = as_tensor(renderer.frames(clip.motion[[source, target]]))
            yield frames[0], frames[1], renderer.mouth_box(clip.motion[target])
            count -= 1
        if not count:
            return


def as_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Convert frames (T, H, W, 3), uint8, to (T, 3, H, W) in [0, 1]."""
    return from_uint8(rearrange(torch.from_numpy(frames), "t h w c -> t c h w"), low=0)
