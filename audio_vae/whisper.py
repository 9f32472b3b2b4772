"""The frozen Whisper encoder beside the codec's own: where the published latents get their meaning from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from whisper.model import AudioEncoder

from audio_vae.config import WhisperConfig

SAMPLE_RATE = 16_000
SIZE, SHIFT = 400, 160
SECONDS = 30


class WhisperBranch(nn.Module):
    """Waveform (B, samples) -> Whisper features (B, T, width), two of its frames averaged to one.

    Whisper was trained on half a minute at a time: shorter signals are padded, longer ones refused. The
    weights never receive gradients.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, config: WhisperConfig, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate, self.positions = sample_rate, config.positions
        self.encoder = AudioEncoder(config.mels, config.positions, config.width, config.heads, config.layers)
        self.encoder.requires_grad_(False)
        with torch.device("cpu"):  # a constant, also while a model is built on the meta device
            filters = torchaudio.functional.melscale_fbanks(
                SIZE // 2 + 1,
                0.0,
                SAMPLE_RATE / 2,
                config.mels,
                SAMPLE_RATE,
                norm="slaney",
                mel_scale="slaney",
            )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(SIZE), persistent=False)

    def forward(self, pcm: Tensor, count: int) -> Tensor:
        """Features of the first `count` latent frames: (B, count, width)."""
        return self.features(self.log_mel(pcm), count)

    @torch.no_grad()
    def features(self, mel: Tensor, count: int) -> Tensor:
        """Features (B, count, width) of a log-mel spectrogram (B, mels, 2 positions)."""
        hidden = self.encoder(mel)[:, : 2 * count]
        return hidden.unflatten(1, (count, 2)).mean(2)

    def log_mel(self, pcm: Tensor) -> Tensor:
        """Whisper's log-mel spectrogram (B, mels, 2 positions), padded with silence before the analysis.

        Raises:
            ValueError: the signal is longer than Whisper's window.
        """
        resampled = torchaudio.functional.resample(pcm, self.sample_rate, SAMPLE_RATE)
        total = 2 * self.positions * SHIFT
        if resampled.shape[1] > total:
            seconds = resampled.shape[1] / SAMPLE_RATE
            raise ValueError(
                f"{seconds:.1f} s of audio; Whisper sees {SECONDS} s at most: encode shorter pieces"
            )
        padded = F.pad(resampled, (0, total - resampled.shape[1]))
        spectra = torch.stft(padded, SIZE, SHIFT, window=self.window, return_complex=True)[..., :-1]
        power = spectra.real.square() + spectra.imag.square()
        level = (power.transpose(1, 2) @ self.filters).transpose(1, 2).clamp(min=1e-10).log10()
        loudest = level.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(level, loudest - 8.0) + 4.0) / 4.0
