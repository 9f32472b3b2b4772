"""The frozen Whisper encoder, whose features give the published latents their semantic content."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from whisper.model import AudioEncoder

from audio_vae.config import WhisperConfig
from audio_vae.spectral import Float32Buffers

SAMPLE_RATE = 16_000
N_FFT, HOP_LENGTH = 400, 160


class WhisperBranch(Float32Buffers):
    """Waveform (B, samples) -> Whisper features (B, T, width); every two Whisper frames are averaged to one.

    Whisper encodes 2 * positions frames of 10 ms, 30 s in the published sizes: shorter signals are padded,
    longer ones raise ValueError. The weights never receive gradients.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, config: WhisperConfig, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate, self.positions = sample_rate, config.positions
        self.encoder = AudioEncoder(config.mels, config.positions, config.width, config.heads, config.layers)
        self.encoder.requires_grad_(False)
        with torch.device("cpu"):  # the buffer has values even if the model is built on the meta device
            filters = torchaudio.functional.melscale_fbanks(
                N_FFT // 2 + 1,
                0.0,
                SAMPLE_RATE / 2,
                config.mels,
                SAMPLE_RATE,
                norm="slaney",
                mel_scale="slaney",
            )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> WhisperBranch:
        """Moves and converts the module; Whisper's layer norms, which read float32, stay in float32."""
        super()._apply(fn, recurse)
        for part in self.encoder.modules():
            if isinstance(part, nn.LayerNorm):
                part.float()
        return self

    def forward(self, pcm: Tensor, count: int) -> Tensor:
        """Waveform (B, samples) -> features of the first `count` latent frames (B, count, width)."""
        return self.features(self.log_mel(pcm), count)

    @torch.no_grad()
    def features(self, mel: Tensor, count: int) -> Tensor:
        """Log-mel spectrogram (B, mels, 2 positions) -> features (B, count, width)."""
        hidden = self.encoder(mel.to(self.encoder.conv1.weight.dtype))[:, : 2 * count]
        return hidden.unflatten(1, (count, 2)).mean(2)

    def log_mel(self, pcm: Tensor) -> Tensor:
        """Whisper's log-mel spectrogram (B, mels, 2 positions) in float32; the signal is padded with zeros.

        Raises:
            ValueError: the signal is longer than Whisper's window.
        """
        resampled = torchaudio.functional.resample(pcm.float(), self.sample_rate, SAMPLE_RATE)
        total = 2 * self.positions * HOP_LENGTH
        if resampled.shape[1] > total:
            raise ValueError(
                f"the signal lasts {resampled.shape[1] / SAMPLE_RATE:.1f} s, but Whisper encodes at most "
                f"{total / SAMPLE_RATE:g} s: encode shorter pieces"
            )
        padded = F.pad(resampled, (0, total - resampled.shape[1]))
        spectra = torch.stft(padded, N_FFT, HOP_LENGTH, window=self.window, return_complex=True)[..., :-1]
        power = spectra.real.square() + spectra.imag.square()
        level = (power.transpose(1, 2) @ self.filters).transpose(1, 2).clamp(min=1e-10).log10()
        loudest = level.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(level, loudest - 8.0) + 4.0) / 4.0
