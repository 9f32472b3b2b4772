"""Speech activity from the level of the sound of each video frame."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from talker.clock import FRAME_RATE, HOP


def loudness(pcm: Tensor) -> Tensor:
    """Return the level (T,) of each frame of pcm (samples,), in dB relative to full scale."""
    frames = pcm[: len(pcm) // HOP * HOP].reshape(-1, HOP)
    return 10 * torch.log10(frames.square().mean(-1) + 1e-10)


def voiced(pcm: Tensor, below: float = 35.0) -> Tensor:
    """Return a mask (T,) of the frames of pcm (samples,) with speech.

    These are frames above -60 dB that are less than `below` dB under the 95th percentile of all levels.
    """
    level = loudness(pcm)
    if not len(level):
        return torch.zeros(0, dtype=torch.bool)
    return level > max(float(level.quantile(0.95)) - below, -60.0)


def spoken_seconds(pcm: Tensor) -> float:
    """Return the seconds from the first to the last frame with speech, pauses included; 0 without speech."""
    speech = voiced(pcm).nonzero().flatten()
    return float(speech[-1] - speech[0] + 1) / FRAME_RATE if len(speech) else 0.0


def silent_frames(pcm: Tensor, margin: int = 3) -> Tensor:
    """Return a mask (T,) of the frames without speech within `margin` frames before and after.

    In these frames a mouth has had time to close.
    """
    speech = voiced(pcm)
    near = F.max_pool1d(speech.float()[None, None], 2 * margin + 1, 1, margin)[0, 0]
    return near == 0
