"""Audio-visual offset: a small two-tower network, and the search for the offset with the highest score.

As in SyncNet (Chung and Zisserman, 2016), the network embeds the lower face and the sound of each frame. The
offset is the shift with the highest mean similarity; its score minus the median score is the confidence.
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
from talker.clock import HOP

SYNC = Path(__file__).parent / "assets" / "sync"
MAX_OFFSET = 15  # frames: the largest offset that the search considers
SIDE = 128  # pixels per side of the frames that the lower face is cut from
# Left, top, right and bottom of the lower face, in parts of the side, for portraits framed as in the corpus.
LOWER_FACE = (0.3125, 0.484375, 0.6875, 0.859375)


def lower_face(frames: Tensor, margin: int = 0) -> Tensor:
    """Cut the lower face out of square frames (..., 3, S, S) in [0, 1]: grey (..., 48, 48).

    The frames are scaled to 128 pixels first. `margin` adds that many pixels on each side; training uses them
    to shift the box.

    Raises:
        ValueError: the frames are not square, or not RGB.
    """
    *lead, channels, height, width = frames.shape
    if channels != 3 or height != width:
        raise ValueError(f"frames must have shape (..., 3, S, S), got {tuple(frames.shape)}")
    grey = frames.reshape(-1, 3, height, width).mean(1, keepdim=True)
    small = F.interpolate(grey, size=(SIDE, SIDE), mode="area") if height != SIDE else grey
    left, top, right, bottom = (round(SIDE * part) for part in LOWER_FACE)
    box = small[:, 0, top - margin : bottom + margin, left - margin : right + margin]
    return box.reshape(*lead, *box.shape[1:])


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """Sizes of a `SyncNet`; `lips` are the motion values that its visual tower also predicts."""

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
        """A small configuration for tests."""
        return cls(channels=(4, 8), width=16, embedding=8, depth=1, mels=16)

    @classmethod
    def puppet(cls) -> SyncConfig:
        """The configuration of the shipped network, 0.5 M parameters."""
        return cls()


class Temporal(nn.Module):
    """Residual convolutions over time."""

    def __init__(self, width: int, kernel: int, depth: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in range(depth))
        self.convs = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, width, T) to (B, width, T)."""
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(F.gelu(norm(x)))
        return x


class SyncNet(nn.Module):
    """Two towers that embed faces and sound into one space, where matching frames are similar."""

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
        ratio = HOP // config.hop
        self.ears = nn.Conv1d(config.mels, config.width, 3 * ratio, ratio, padding=ratio)
        self.listen = Temporal(config.width, config.kernel, config.depth)
        self.seen = nn.Conv1d(config.width, config.embedding, 1)
        self.heard = nn.Conv1d(config.width, config.embedding, 1)
        self.sharpness = nn.Parameter(torch.tensor(10.0))

    def embed_faces(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Map grey crops (B, T, 48, 48) in [0, 1] to unit embeddings (B, T, E) and lips (B, T, len(lips))."""
        batch, frames = crops.shape[:2]
        x = crops.reshape(batch * frames, 1, *crops.shape[2:])
        # Normalise mean and contrast, because light and skin colour do not depend on the lips.
        x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 0.02)
        x = self.frame(self.eyes(x)).reshape(batch, frames, -1)
        lips = self.lips(F.gelu(x))
        embedded = self.seen(F.gelu(self.watch(x.transpose(1, 2)))).transpose(1, 2)
        return F.normalize(embedded, dim=-1), lips

    def embed_audio(self, pcm: Tensor) -> Tensor:
        """Return unit embeddings (B, T, E) of pcm (B, 960 T)."""
        x = self.listen(self.ears(self.mel(pcm)))
        return F.normalize(self.heard(F.gelu(x)).transpose(1, 2), dim=-1)


def offset_scores(visual: Tensor, audio: Tensor, max_offset: int = MAX_OFFSET) -> Tensor:
    """Return the mean similarity of picture and sound at each shift: (B, 2 max_offset + 1).

    Entry max_offset + k compares frame t of the embeddings visual (B, T, E) with frame t + k of the
    embeddings audio (B, T, E), over all t for which both exist.

    Raises:
        ValueError: there are not more than `max_offset` frames.
    """
    frames = visual.shape[1]
    if frames <= max_offset:
        raise ValueError(
            f"offsets up to {max_offset} need a clip of at least {max_offset + 1} frames, got {frames}"
        )
    similarity = visual @ audio.transpose(1, 2)
    shifts = [similarity.diagonal(k, 1, 2).mean(-1) for k in range(-max_offset, max_offset + 1)]
    return torch.stack(shifts, -1)


@dataclass(frozen=True)
class Sync:
    """Audio-visual offset of a clip.

    Attributes:
        offset: frames by which the sound is late; negative if it is early.
        confidence: score of that offset minus the median score.
    """

    offset: int
    confidence: float


def best(scores: Tensor) -> Sync:
    """Return the offset with the highest score of scores (2 max_offset + 1,)."""
    index = int(scores.argmax())
    return Sync(index - len(scores) // 2, float(scores[index] - scores.median()))


@torch.inference_mode()
def measure(net: SyncNet, frames: Tensor, pcm: Tensor, max_offset: int = MAX_OFFSET) -> Sync:
    """Return the offset of a clip: frames (T, 3, S, S) in [0, 1] at 25 fps, pcm (samples,) at 24 kHz."""
    return compare(net, embed_frames(net, frames), pcm, max_offset)


@torch.inference_mode()
def embed_frames(net: SyncNet, frames: Tensor) -> Tensor:
    """Return embeddings (1, T, E) of frames (T, 3, S, S) in [0, 1]; `compare` takes them."""
    return net.embed_faces(lower_face(frames)[None])[0]


@torch.inference_mode()
def compare(net: SyncNet, visual: Tensor, pcm: Tensor, max_offset: int = MAX_OFFSET) -> Sync:
    """Return the offset of pcm (samples,) to visual embeddings (1, T, E), over their common length."""
    length = min(visual.shape[1], len(pcm) // HOP)
    audio = net.embed_audio(pcm[None, : length * HOP])
    return best(offset_scores(visual[:, :length], audio, max_offset)[0])


@torch.inference_mode()
def mouth_opening(net: SyncNet, frames: Tensor) -> Tensor:
    """Estimate the mouth opening (T,), 0 to 1, in frames (T, 3, S, S) in [0, 1]."""
    _, lips = net.embed_faces(lower_face(frames)[None])
    jaw, closure = (lips[0, :, net.config.lips.index(name)].clamp(0, 1) for name in ("jaw", "closure"))
    return jaw * (1 - closure)


@cache
def sync_net() -> SyncNet:
    """Return the shipped network, trained by `recipes.train_sync` on rendered corpus clips."""
    return load_component(SyncNet, SyncConfig, SYNC)
