"""How far sound and picture are apart: a small two-tower network and the search over offsets.

After SyncNet (Chung and Zisserman, 2016): embeddings of the lower face and of the sound, one a frame,
compared at every shift; the best shift is the offset, its lead over the median shift the confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.mel import LogMel
from talker.checkpoint import load_component

SYNC = Path(__file__).parent / "assets" / "sync"
SAMPLES_PER_FRAME = 960
REACH = 15
SIDE = 128
# The lower face in a portrait framed as the corpus frames it: left, top, right, bottom in parts of the side.
LOWER_FACE = (0.3125, 0.484375, 0.6875, 0.859375)


def lower_face(frames: Tensor, margin: int = 0) -> Tensor:
    """Square frames (..., 3, S, S) in [0, 1] to grey (..., 48, 48): the fixed lower-face box at S = 128.

    `margin` pixels more on every side leave room for shifting the box in training.
    """
    *lead, channels, height, width = frames.shape
    if channels != 3 or height != width:
        raise ValueError(f"frames must be (..., 3, S, S), not {tuple(frames.shape)}")
    grey = frames.reshape(-1, 3, height, width).mean(1, keepdim=True)
    small = F.interpolate(grey, size=(SIDE, SIDE), mode="area") if height != SIDE else grey
    left, top, right, bottom = (round(SIDE * part) for part in LOWER_FACE)
    box = small[:, 0, top - margin : bottom + margin, left - margin : right + margin]
    return box.reshape(*lead, *box.shape[1:])


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """Sizes of a `SyncNet`; `lips` names the motion values that its picture tower also tells."""

    channels: tuple[int, ...] = (16, 32, 64, 64)
    width: int = 128
    embedding: int = 64
    kernel: int = 5
    depth: int = 2
    mels: int = 40
    hop: int = 240
    window: int = 768
    lips: tuple[str, ...] = ("jaw", "closure", "rounding", "lip_width")

    @classmethod
    def tiny(cls) -> SyncConfig:
        """For tests."""
        return cls(channels=(4, 8), width=16, embedding=8, depth=1, mels=16)

    @classmethod
    def puppet(cls) -> SyncConfig:
        """The shipped one: 0.5 M parameters."""
        return cls()


class Temporal(nn.Module):
    """Residual convolutions over time."""

    def __init__(self, width: int, kernel: int, depth: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in range(depth))
        self.convs = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, width, T) to the same."""
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(F.gelu(norm(x)))
        return x


class SyncNet(nn.Module):
    """Two towers into one space, in which what belongs together is near."""

    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (1, *config.channels)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(1, after), nn.GELU()]
        self.eyes = nn.Sequential(*layers, nn.Flatten())
        cells = (48 >> len(config.channels)) ** 2
        self.frame = nn.Linear(config.channels[-1] * cells, config.width)
        self.lips = nn.Linear(config.width, len(config.lips))
        self.watch = Temporal(config.width, config.kernel, config.depth)
        self.mel = LogMel(config.mels, config.hop, config.window)
        ratio = SAMPLES_PER_FRAME // config.hop
        self.ears = nn.Conv1d(config.mels, config.width, 3 * ratio, ratio, padding=ratio)
        self.listen = Temporal(config.width, config.kernel, config.depth)
        self.seen = nn.Conv1d(config.width, config.embedding, 1)
        self.heard = nn.Conv1d(config.width, config.embedding, 1)
        self.sharpness = nn.Parameter(torch.tensor(10.0))

    def picture(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """crops (B, T, 48, 48) grey in [0, 1] to unit embeddings (B, T, E) and lip values (B, T, lips)."""
        batch, frames = crops.shape[:2]
        x = crops.reshape(batch * frames, 1, *crops.shape[2:])
        # Light and skin are no matter of lips: every crop is brought to the same mean and contrast.
        x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 0.02)
        x = self.frame(self.eyes(x)).reshape(batch, frames, -1)
        lips = self.lips(F.gelu(x))
        embedded = self.seen(F.gelu(self.watch(x.transpose(1, 2)))).transpose(1, 2)
        return F.normalize(embedded, dim=-1), lips

    def sound(self, pcm: Tensor) -> Tensor:
        """pcm (B, 960 T) to unit embeddings (B, T, E)."""
        x = self.listen(self.ears(self.mel(pcm)))
        return F.normalize(self.heard(F.gelu(x)).transpose(1, 2), dim=-1)


def offset_scores(seen: Tensor, heard: Tensor, reach: int = REACH) -> Tensor:
    """Mean similarity of picture and sound at every shift.

    seen, heard (B, T, E) to (B, 2 reach + 1): entry reach + k compares frame t of the picture with
    frame t + k of the sound. A shift is judged on the frames where both exist.
    """
    frames = seen.shape[1]
    if frames <= reach:
        raise ValueError(
            f"{frames} frames are too few to search {reach} to either side; give at least {reach + 1}"
        )
    similarity = seen @ heard.transpose(1, 2)
    shifts = [similarity.diagonal(k, 1, 2).mean(-1) for k in range(-reach, reach + 1)]
    return torch.stack(shifts, -1)


@dataclass(frozen=True)
class Sync:
    """offset: frames by which the sound comes late (negative: early); confidence: lead of the best shift's
    score over the median shift's."""

    offset: int
    confidence: float


def best(scores: Tensor) -> Sync:
    """scores (2 reach + 1,) to the offset they speak for."""
    at = int(scores.argmax())
    return Sync(at - len(scores) // 2, float(scores[at] - scores.median()))


@torch.inference_mode()
def measure(net: SyncNet, frames: Tensor, pcm: Tensor, reach: int = REACH) -> Sync:
    """Offset of a clip: frames (T, 3, S, S) in [0, 1] at 25 a second, pcm (samples,) at 24 kHz."""
    return compare(net, watched(net, frames), pcm, reach)


@torch.inference_mode()
def watched(net: SyncNet, frames: Tensor) -> Tensor:
    """Embeddings (1, T, E) of frames (T, 3, S, S) in [0, 1], for comparing them with several sounds."""
    return net.picture(lower_face(frames)[None])[0]


@torch.inference_mode()
def compare(net: SyncNet, seen: Tensor, pcm: Tensor, reach: int = REACH) -> Sync:
    """Offset between what `watched` gave (1, T, E) and pcm (samples,), over the time that both last."""
    length = min(seen.shape[1], len(pcm) // SAMPLES_PER_FRAME)
    heard = net.sound(pcm[None, : length * SAMPLES_PER_FRAME])
    return best(offset_scores(seen[:, :length], heard, reach)[0])


@torch.inference_mode()
def mouth_opening(net: SyncNet, frames: Tensor) -> Tensor:
    """How open the mouth is in each frame: frames (T, 3, S, S) in [0, 1] to (T,) in 0..1."""
    _, lips = net.picture(lower_face(frames)[None])
    jaw, closure = (lips[0, :, net.config.lips.index(name)].clamp(0, 1) for name in ("jaw", "closure"))
    return jaw * (1 - closure)


@cache
def sync_net() -> SyncNet:
    """The shipped estimator, trained by `recipes.train_sync` on rendered corpus clips."""
    return load_component(SyncNet, SyncConfig, SYNC)
