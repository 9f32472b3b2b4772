"""When somebody speaks: the level of every video frame's sound."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.mel import SAMPLE_RATE
from evaluation.sync import SAMPLES_PER_FRAME


def loudness(pcm: Tensor) -> Tensor:
    """pcm (samples,) to the level of every 40 ms frame (T,), in decibels below full scale."""
    frames = pcm[: len(pcm) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
    return 10 * torch.log10(frames.square().mean(-1) + 1e-10)


def voiced(pcm: Tensor, below: float = 35.0) -> Tensor:
    """Which frames (T,) carry speech: those less than `below` dB under the clip's loud frames (its 95th
    percentile), and above -60 dB in any case."""
    level = loudness(pcm)
    if not len(level):
        return torch.zeros(0, dtype=torch.bool)
    return level > max(float(level.quantile(0.95)) - below, -60.0)


def spoken_seconds(pcm: Tensor) -> float:
    """Seconds from the first to the last voiced frame, pauses between included; 0 when there is none."""
    at = voiced(pcm).nonzero().flatten()
    return float(at[-1] - at[0] + 1) * SAMPLES_PER_FRAME / SAMPLE_RATE if len(at) else 0.0


def silent_frames(pcm: Tensor, margin: int = 3) -> Tensor:
    """Frames (T,) at least `margin` frames from any voiced one: there a mouth has had the time to close."""
    speech = voiced(pcm)
    near = F.max_pool1d(speech.float()[None, None], 2 * margin + 1, 1, margin)[0, 0]
    return near == 0
