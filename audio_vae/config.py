"""What an audio autoencoder is made of. Exactly one of the two forms is present in a configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """The frozen Whisper encoder whose features are added to the codec's (Whisper Large-v3 by default)."""

    mels: int = 128
    positions: int = 1500
    width: int = 1280
    heads: int = 20
    layers: int = 32


@dataclass(frozen=True, kw_only=True)
class ConvolutionalConfig:
    """The published form: DAC-style convolutions on the waveform, and optionally a Whisper branch.

    `strides` are the encoder's; the decoder uses them in reverse. Every encoder stage doubles
    `encoder_width`, every decoder stage halves `decoder_width`.
    """

    encoder_width: int = 64
    hidden: int = 1280
    decoder_width: int = 1536
    strides: tuple[int, ...] = (2, 4, 10, 12)
    dilations: tuple[int, ...] = (1, 3, 9)
    whisper: WhisperConfig | None = None

    def __post_init__(self) -> None:
        if self.whisper is not None and self.whisper.width != self.hidden:
            raise ValueError(
                f"the Whisper branch is added: its width {self.whisper.width} must be {self.hidden}"
            )

    @property
    def hop(self) -> int:
        """Samples a latent frame."""
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class SpectralConfig:
    """The puppet's form: ConvNeXt blocks from a log-mel spectrogram to latents, and on to spectra to invert.

    Spectra are `size` samples long and `shift` apart; `fold` of them make one latent frame. Widths and
    numbers of blocks come in two: at the spectrogram's rate and at the latents' rate.
    """

    size: int = 960
    shift: int = 240
    fold: int = 4
    mels: int = 100
    expansion: float = 8 / 3
    fine_kernel: int = 7
    coarse_kernel: int = 3
    encoder_widths: tuple[int, int] = (128, 160)
    encoder_blocks: tuple[int, int] = (2, 2)
    decoder_widths: tuple[int, int] = (192, 192)
    decoder_blocks: tuple[int, int] = (4, 2)

    def __post_init__(self) -> None:
        if self.size % (2 * self.shift):
            raise ValueError(f"size {self.size} must be an even multiple of shift {self.shift}")

    @property
    def hop(self) -> int:
        """Samples a latent frame."""
        return self.shift * self.fold


@dataclass(frozen=True, kw_only=True)
class AudioVAEConfig:
    """An audio autoencoder: `spectral` (the puppet's form) or `convolutional` (the published form)."""

    sample_rate: int = 24_000
    latent_dim: int = 32
    chunk: int = 4  # latent frames decoded together while streaming: one patch of the talker
    spectral: SpectralConfig | None = None
    convolutional: ConvolutionalConfig | None = None

    def __post_init__(self) -> None:
        if (self.spectral is None) == (self.convolutional is None):
            raise ValueError("choose one form: either `spectral` or `convolutional`")

    @property
    def form(self) -> SpectralConfig | ConvolutionalConfig:
        """The form that is present."""
        form = self.spectral or self.convolutional
        assert form is not None
        return form

    @property
    def hop(self) -> int:
        """Samples a latent frame."""
        return self.form.hop

    @property
    def frame_rate(self) -> float:
        """Latent frames a second."""
        return self.sample_rate / self.hop

    @classmethod
    def tiny(cls) -> AudioVAEConfig:
        """A small puppet form for tests."""
        spectral = SpectralConfig(
            mels=20,
            encoder_widths=(16, 24),
            encoder_blocks=(1, 1),
            decoder_widths=(24, 16),
            decoder_blocks=(2, 1),
        )
        return cls(latent_dim=8, spectral=spectral)

    @classmethod
    def tiny_convolutional(cls) -> AudioVAEConfig:
        """A small published form for tests, without Whisper."""
        return cls(
            latent_dim=8, convolutional=ConvolutionalConfig(encoder_width=4, hidden=32, decoder_width=32)
        )

    @classmethod
    def puppet(cls) -> AudioVAEConfig:
        """The embedded default's."""
        return cls(spectral=SpectralConfig())

    @classmethod
    def base(cls) -> AudioVAEConfig:
        """The published sizes (WhisperX-VAE)."""
        return cls(convolutional=ConvolutionalConfig(whisper=WhisperConfig()))
