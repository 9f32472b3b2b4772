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
        hidden_width: width of the language model's hidden state; it is projected only if it is not `width`.
        width, layers, heads, ffn: sizes of the transformer; `ffn` is the inner width of SwiGLU.
        hidden_to_tokens: also add a projection of the hidden state to every noisy token, so that a small head
            learns faster to use it. The published heads do not.
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
            raise ValueError(f"width {self.width} must be a multiple of 2 * heads = {2 * self.heads}")


@dataclass(frozen=True, kw_only=True)
class TwoDiTHeadsConfig:
    """Two independent heads on one hidden state; the configuration of an absent head is None."""

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
        """Two heads of the same transformer `sizes`; `audio` and `motion` are (channels, global_channels)."""
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
        """The embedded default, fewer than 2 M parameters per head.

        Widths are multiples of 64, see `layers.pad_inner_widths`. Motion consists of a few smooth curves, so
        its head is smaller.
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
        """The published sizes."""
        return cls.both(
            audio=(32, 256), motion=(40, 40), hidden_width=1024, width=1024, layers=8, heads=8, ffn=2730
        )
