"""How well speech is understood: a small CTC phoneme recogniser, and the phoneme error rate (PER)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluation.mel import SAMPLE_RATE, LogMel
from talker.checkpoint import load_component

RECOGNISER = Path(__file__).parent / "assets" / "recogniser"

# Stress and length marks, IPA's and espeak's own, besides ties, pauses and word borders.
_DROPPED = frozenset("ˈˌːˑ'‿͜͡,%=:;|_-. \u200d")


def normalise_phonemes(symbols: Iterable[str]) -> list[str]:
    """Phoneme symbols without stress, length, ties and pauses; what becomes empty is left out.

    Every PER of the project compares sequences that went through this function, references and labels alike.
    """
    kept = ("".join(c for c in unicodedata.normalize("NFC", s) if c not in _DROPPED) for s in symbols)
    return [symbol for symbol in kept if symbol]


def edits(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions between two sequences."""
    row = list(range(len(reference) + 1))
    for i, said in enumerate(hypothesis, 1):
        corner, row[0] = row[0], i
        for j, meant in enumerate(reference, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (said != meant))
    return row[-1]


@dataclass(frozen=True)
class Errors:
    """Edits against a number of reference phonemes; adding two pools them, as PER is defined over a set."""

    edits: int = 0
    reference: int = 0

    def __add__(self, other: Errors) -> Errors:
        return Errors(self.edits + other.edits, self.reference + other.reference)

    @property
    def rate(self) -> float:
        """Summed edits / summed reference phonemes; nan when there is no reference."""
        return self.edits / self.reference if self.reference else float("nan")


def phoneme_errors(hypothesis: Iterable[str], reference: Iterable[str]) -> Errors:
    """Errors of one clip; both sides are normalised here."""
    said, meant = normalise_phonemes(hypothesis), normalise_phonemes(reference)
    return Errors(edits(said, meant), len(meant))


@dataclass(frozen=True, kw_only=True)
class RecogniserConfig:
    """Sizes of a `Recogniser`; `symbols` are its phonemes (CTC's blank comes before them as class 0)."""

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
            raise ValueError("symbols must be distinct phonemes, at least one")
        if normalise_phonemes(self.symbols) != list(self.symbols):
            raise ValueError("symbols must be normalised: no stress, no length")

    @classmethod
    def tiny(cls, symbols: tuple[str, ...] = ("a", "b", "t")) -> RecogniserConfig:
        """For tests."""
        return cls(symbols=symbols, mels=16, width=16, depth=2, expansion=2, kernel=5)

    @classmethod
    def puppet(cls, symbols: tuple[str, ...]) -> RecogniserConfig:
        """The shipped one: 0.7 M parameters."""
        return cls(symbols=symbols)


class Block(nn.Module):
    """Depthwise convolution over time, then a pointwise MLP, residual (ConvNeXt's block in one dimension)."""

    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, width), mask (B, T, 1) to (B, T, width)."""
        mixed = self.depthwise((x * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.down(nn.functional.gelu(self.up(self.norm(mixed))))


class Recogniser(nn.Module):
    """Speech to phonemes by connectionist temporal classification (Graves et al., 2006)."""

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
        """Output frames (B,) of clips of `samples` (B,)."""
        return torch.div(samples, self.config.hop * self.config.stride, rounding_mode="floor")

    def forward(self, pcm: Tensor, samples: Tensor) -> Tensor:
        """pcm (B, samples) at 24 kHz, zero-padded; samples (B,) to log-probabilities (B, T, 1 + symbols).

        A clip's own frames do not depend on how far it is padded.
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
        """pcm (samples,) float32 at 24 kHz to phonemes.

        Raises:
            ValueError: it is not one channel.
        """
        if pcm.dim() != 1:
            raise ValueError(f"transcribe takes one channel (samples,), not {tuple(pcm.shape)}")
        # A fifth of a second of silence on both sides, as training clips have: edges are nothing special.
        pcm = nn.functional.pad(pcm, (SAMPLE_RATE // 5, SAMPLE_RATE // 5)).to(next(self.parameters()).device)
        scores = self(pcm[None], torch.tensor([len(pcm)], device=pcm.device))[0]
        return [self.config.symbols[i - 1] for i in collapse(scores.argmax(-1).tolist())]


def collapse(path: Sequence[int], blank: int = 0) -> list[int]:
    """CTC's many-to-one map: repetitions merge, then blanks vanish."""
    return [now for before, now in zip([blank, *path], path, strict=False) if now not in (before, blank)]


@cache
def recogniser() -> Recogniser:
    """The shipped recogniser, trained by `recipes.train_recogniser` on corpus audio alone."""
    return load_component(Recogniser, RecogniserConfig, RECOGNISER)
