"""Intelligibility of speech: a small CTC phoneme recogniser, and the phoneme error rate (PER)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluation.mel import LogMel
from talker.checkpoint import load_component
from talker.clock import SAMPLE_RATE

RECOGNISER = Path(__file__).parent / "assets" / "recogniser"

# Stress and length marks of IPA and of espeak, ties, pauses and word borders.
_DROPPED = frozenset("ˈˌːˑ'‿͜͡,%=:;|_-. \u200d")


def normalise_phonemes(symbols: Iterable[str]) -> list[str]:
    """Remove stress, length, ties and pauses from phoneme symbols, and drop symbols that become empty.

    Every PER of the project compares sequences normalised by this function.
    """
    kept = ("".join(c for c in unicodedata.normalize("NFC", s) if c not in _DROPPED) for s in symbols)
    return [symbol for symbol in kept if symbol]


def edits(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """Return the Levenshtein distance: the fewest insertions, deletions and substitutions."""
    row = list(range(len(reference) + 1))
    for i, symbol in enumerate(hypothesis, 1):
        corner, row[0] = row[0], i
        for j, expected in enumerate(reference, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (symbol != expected))
    return row[-1]


@dataclass(frozen=True)
class Errors:
    """Edits, and the number of reference phonemes; the sum of two objects covers the phonemes of both."""

    edits: int = 0
    reference: int = 0

    def __add__(self, other: Errors) -> Errors:
        return Errors(self.edits + other.edits, self.reference + other.reference)

    @property
    def rate(self) -> float:
        """The phoneme error rate, edits / reference; nan without reference phonemes."""
        return self.edits / self.reference if self.reference else float("nan")


def phoneme_errors(hypothesis: Iterable[str], reference: Iterable[str]) -> Errors:
    """Return the errors of one clip. The function normalises both sequences."""
    symbols, expected = normalise_phonemes(hypothesis), normalise_phonemes(reference)
    return Errors(edits(symbols, expected), len(expected))


@dataclass(frozen=True, kw_only=True)
class RecogniserConfig:
    """Sizes of a `Recogniser`. Class 0 is CTC's blank; class i + 1 is the phoneme symbols[i]."""

    symbols: tuple[str, ...]
    mels: int = 64
    hop: int = 240
    window: int = 768
    stride: int = 2
    width: int = 128
    depth: int = 6
    expansion: int = 3
    kernel: int = 15

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols) or not self.symbols:
            raise ValueError("symbols must contain at least one phoneme, and no phoneme twice")
        if normalise_phonemes(self.symbols) != list(self.symbols):
            raise ValueError("symbols must be normalised: pass them through normalise_phonemes")

    @classmethod
    def tiny(cls, symbols: tuple[str, ...] = ("a", "b", "t")) -> RecogniserConfig:
        """A small configuration for tests."""
        return cls(symbols=symbols, mels=16, width=16, depth=2, expansion=2, kernel=5)

    @classmethod
    def puppet(cls, symbols: tuple[str, ...]) -> RecogniserConfig:
        """The configuration of the shipped recogniser, 0.7 M parameters."""
        return cls(symbols=symbols)


class Block(nn.Module):
    """One-dimensional ConvNeXt block: depthwise convolution over time, pointwise MLP, residual connection."""

    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, T, width) to (B, T, width); mask (B, T, 1) is 0 at padding."""
        mixed = self.depthwise((x * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.down(nn.functional.gelu(self.up(self.norm(mixed))))


class Recogniser(nn.Module):
    """Phoneme recogniser trained by connectionist temporal classification (Graves et al., 2006)."""

    def __init__(self, config: RecogniserConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = LogMel(config.mels, config.hop, config.window)
        self.stem = nn.Conv1d(config.mels, config.width, 2 * config.stride + 1, config.stride, config.stride)
        self.blocks = nn.ModuleList(
            Block(config.width, config.kernel, config.expansion) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.classes = nn.Linear(config.width, len(config.symbols) + 1)

    def lengths(self, samples: Tensor) -> Tensor:
        """Return the number of output frames (B,) of clips with `samples` (B,) samples."""
        return torch.div(samples, self.config.hop * self.config.stride, rounding_mode="floor")

    def forward(self, pcm: Tensor, samples: Tensor) -> Tensor:
        """Return log-probabilities (B, T, 1 + symbols) of zero-padded pcm (B, samples) at 24 kHz.

        samples (B,) are the lengths without padding. The padding does not change the other frames.
        """
        stride = self.config.hop * self.config.stride
        pcm = nn.functional.pad(pcm, (0, -pcm.shape[-1] % stride))
        mel = self.mel(pcm)
        inside = torch.arange(mel.shape[-1], device=pcm.device) * self.config.hop < samples[:, None]
        x = self.stem(mel * inside[:, None]).transpose(1, 2)
        steps = torch.arange(x.shape[1], device=pcm.device)
        mask = (steps < self.lengths(samples)[:, None])[..., None].to(x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        return self.classes(self.norm(x)).log_softmax(-1)

    @torch.inference_mode()
    def transcribe(self, pcm: Tensor) -> list[str]:
        """Return the phonemes of pcm (samples,), float32 at 24 kHz.

        Raises:
            ValueError: pcm does not have one dimension.
        """
        if pcm.dim() != 1:
            raise ValueError(f"pcm must be one channel of shape (samples,), got {tuple(pcm.shape)}")
        # Training clips begin and end with silence, so add 0.2 s on both sides.
        pcm = nn.functional.pad(pcm, (SAMPLE_RATE // 5, SAMPLE_RATE // 5)).to(next(self.parameters()).device)
        scores = self(pcm[None], torch.tensor([len(pcm)], device=pcm.device))[0]
        return [self.config.symbols[i - 1] for i in collapse(scores.argmax(-1).tolist())]


def collapse(path: Sequence[int], blank: int = 0) -> list[int]:
    """Merge repeated classes of a CTC path, then remove the blanks."""
    return [now for before, now in zip([blank, *path], path, strict=False) if now not in (before, blank)]


@cache
def recogniser() -> Recogniser:
    """Return the shipped recogniser, trained by `recipes.train_recogniser` on corpus speech only."""
    return load_component(Recogniser, RecogniserConfig, RECOGNISER)
