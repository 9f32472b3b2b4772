"""Sizes of the audio autoencoder. A configuration holds exactly one of the three forms."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """The frozen Whisper encoder whose features are added to the encoder's (default: Whisper Large-v3)."""

    mels: int = 128
    positions: int = 1500
    width: int = 1280
    heads: int = 20
    layers: int = 32


@dataclass(frozen=True, kw_only=True)
class ConvolutionalConfig:
    """The published form: DAC-style convolutions on the waveform, optionally with a Whisper branch.

    `strides` are those of the encoder; the decoder uses them in reverse order. Every encoder stage doubles
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
                f"whisper.width {self.whisper.width} must equal hidden {self.hidden}: the features are added"
            )

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class SpectralConfig:
    """The form of the first default: ConvNeXt blocks from a log-mel spectrogram to latents, and to spectra.

    `size` is the FFT length (n_fft) and `shift` the hop length of the spectra in samples; `fold` spectra make
    one latent frame. Pairs of widths and block counts are for the frame rate of the spectra and for the frame
    rate of the latents.
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
        """Samples per latent frame."""
        return self.shift * self.fold


@dataclass(frozen=True, kw_only=True)
class SourceFilterConfig:
    """The puppet's form: latents to pitch and filters, which shape a pulse train and noise.

    `shift` is the hop length of the fine frames in samples; `fold` of them make one latent frame. The encoder
    reads log-mel spectra of FFT length `size` and the pitch salience of spectra of FFT length `pitch_size`.
    Each fine frame has two filters (see `audio_vae.synthesis`), whose levels and phase are given at `*_knots`
    frequencies. Pairs of widths and block counts are for the fine frames and for the latent frames.
    """

    size: int = 960
    pitch_size: int = 2160
    shift: int = 240
    fold: int = 4
    mels: int = 100
    expansion: float = 8 / 3
    fine_kernel: int = 7
    fine_lookahead: int = 2  # fine frames that one block of the decoder reads ahead
    coarse_kernel: int = 3
    encoder_widths: tuple[int, int] = (160, 192)
    encoder_blocks: tuple[int, int] = (3, 2)
    decoder_widths: tuple[int, int] = (256, 256)
    decoder_blocks: tuple[int, int] = (4, 2)
    harmonic_knots: int = 100
    phase_knots: int = 40
    noise_knots: int = 60

    def __post_init__(self) -> None:
        if self.shift % 4 or self.size % 2 or self.pitch_size % 2:
            raise ValueError("shift must be a multiple of 4, size and pitch_size must be even")
        if not 0 <= self.fine_lookahead < self.fine_kernel:
            raise ValueError(f"fine_lookahead must be from 0 to {self.fine_kernel - 1}")

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        return self.shift * self.fold


@dataclass(frozen=True, kw_only=True)
class AudioVAEConfig:
    """An audio autoencoder of one form.

    The forms are `source_filter` (the puppet's), `convolutional` (the published one) and `spectral` (that of
    the first default, whose weights still load).
    """

    sample_rate: int = 24_000
    latent_dim: int = 32
    chunk: int = 4  # latent frames that are encoded or decoded together in a stream: one patch of the talker
    spectral: SpectralConfig | None = None
    convolutional: ConvolutionalConfig | None = None
    source_filter: SourceFilterConfig | None = None

    def __post_init__(self) -> None:
        if [self.spectral, self.convolutional, self.source_filter].count(None) != 2:
            raise ValueError("exactly one form must be set: `source_filter`, `convolutional` or `spectral`")

    @property
    def form(self) -> SourceFilterConfig | ConvolutionalConfig | SpectralConfig:
        """The form that is set."""
        form = self.source_filter or self.convolutional or self.spectral
        assert form is not None
        return form

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        return self.form.hop

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.sample_rate / self.hop

    @classmethod
    def tiny(cls) -> AudioVAEConfig:
        """For tests: a small puppet form."""
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
        """For tests: a small published form without Whisper."""
        return cls(
            latent_dim=8, convolutional=ConvolutionalConfig(encoder_width=4, hidden=32, decoder_width=32)
        )

    @classmethod
    def tiny_source_filter(cls) -> AudioVAEConfig:
        """For tests: a small source-filter form."""
        source_filter = SourceFilterConfig(
            mels=20,
            encoder_widths=(16, 24),
            encoder_blocks=(1, 1),
            decoder_widths=(16, 24),
            decoder_blocks=(2, 1),
        )
        return cls(latent_dim=8, source_filter=source_filter)

    @classmethod
    def puppet_source_filter(cls) -> AudioVAEConfig:
        """The embedded default from its next training on."""
        return cls(source_filter=SourceFilterConfig())

    @classmethod
    def puppet(cls) -> AudioVAEConfig:
        """The embedded default."""
        return cls(spectral=SpectralConfig())

    @classmethod
    def base(cls) -> AudioVAEConfig:
        """The published sizes (WhisperX-VAE)."""
        return cls(convolutional=ConvolutionalConfig(whisper=WhisperConfig()))
