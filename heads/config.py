"""Sizes of the diffusion heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """One diffusion transformer over one patch of one stream.

    Attributes:
        channels: latent channels of a frame.
        global_channels: channels of the global condition (a speaker embedding, or the first motion frame).
        hidden_width: width of the language model's hidden state; projected only where it is not `width`.
        width, layers, heads, ffn: the transformer; `ffn` is SwiGLU's inner width.
        hidden_to_tokens: also add the hidden state, projected, to every noisy token: a small head then
            learns sooner to use it. Not part of the published heads.
    """

    channels: int
    global_channels: int
    hidden_width: int
    width: int
    layers: int
    heads: int
    ffn: int
    hidden_to_tokens: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class TwoDiTHeadsConfig:
    """Two independent heads on one hidden state; a stream without a head is None."""

    audio: DiTConfig | None
    motion: DiTConfig | None

    @property
    def widths(self) -> dict[str, int]:
        """Latent channels of each stream."""
        return {name: own.channels for name, own in self._present().items()}

    @property
    def global_widths(self) -> dict[str, int]:
        """Width of each stream's global condition."""
        return {name: own.global_channels for name, own in self._present().items()}

    @property
    def joint(self) -> bool:
        """Each stream may be predicted from a hidden state of its own."""
        return False

    def _present(self) -> dict[str, DiTConfig]:
        both = {"audio": self.audio, "motion": self.motion}
        return {name: own for name, own in both.items() if own is not None}

    @classmethod
    def both(
        cls, *, audio: tuple[int, int], motion: tuple[int, int], hidden_width: int, **sizes: Any
    ) -> TwoDiTHeadsConfig:
        """One transformer size (width, layers, heads, ffn) for (channels, global channels) of each stream."""
        return cls(
            audio=DiTConfig(channels=audio[0], global_channels=audio[1], hidden_width=hidden_width, **sizes),
            motion=DiTConfig(
                channels=motion[0], global_channels=motion[1], hidden_width=hidden_width, **sizes
            ),
        )

    @classmethod
    def tiny(cls, hidden_width: int = 64) -> TwoDiTHeadsConfig:
        """For tests."""
        return cls.both(
            audio=(8, 16), motion=(6, 6), hidden_width=hidden_width, width=64, layers=2, heads=2, ffn=128
        )

    @classmethod
    def puppet(cls, hidden_width: int = 256) -> TwoDiTHeadsConfig:
        """The embedded default, below 2 M parameters a head; multiples of 64 keep rows bit-identical.

        Motion is a few smooth curves: its head can be the smaller one.
        """
        return cls(
            audio=DiTConfig(
                channels=32,
                global_channels=128,
                hidden_width=hidden_width,
                hidden_to_tokens=True,
                width=192,
                layers=4,
                heads=4,
                ffn=448,
            ),
            motion=DiTConfig(
                channels=24,
                global_channels=24,
                hidden_width=hidden_width,
                hidden_to_tokens=True,
                width=128,
                layers=3,
                heads=4,
                ffn=320,
            ),
        )

    @classmethod
    def base(cls) -> TwoDiTHeadsConfig:
        """The published size."""
        return cls.both(
            audio=(32, 256), motion=(40, 40), hidden_width=1024, width=1024, layers=8, heads=8, ffn=2730
        )
