"""The log-mel spectrogram that the recogniser and the synchronisation network share."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from talker.clock import SAMPLE_RATE


class LogMel(nn.Module):
    """Log-mel spectrogram of 24 kHz audio, shifted and scaled to about unit variance.

    Args:
        mels: number of bands between 40 Hz and 10 kHz.
        hop: samples between two frames.
        window: length of the Hann window in samples; the FFT length is the next power of two.
    """

    def __init__(self, mels: int, hop: int, window: int) -> None:
        super().__init__()
        self.hop, self.window = hop, window
        self.fft = 1 << (window - 1).bit_length()
        bank = torchaudio.functional.melscale_fbanks(
            self.fft // 2 + 1, 40.0, 10_000.0, mels, SAMPLE_RATE, norm="slaney"
        )
        # Not persistent: the configuration determines both buffers.
        self.bank: Tensor
        self.hann: Tensor
        self.register_buffer("bank", bank / bank.sum(0).clamp_min(1e-8), persistent=False)
        self.register_buffer("hann", torch.hann_window(window), persistent=False)

    def forward(self, pcm: Tensor) -> Tensor:
        """Map pcm (B, samples) to (B, mels, samples // hop); frame t is centred on sample (t + 1/2) hop."""
        frames = pcm.shape[-1] // self.hop
        half = (self.fft - self.hop) // 2
        padded = nn.functional.pad(pcm, (half, half + self.fft))
        spectrum = torch.stft(
            padded, self.fft, self.hop, self.window, self.hann, center=False, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2) @ self.bank
        # The constant has the level of white noise of -64 dBFS (RMS 6e-4); it masks the noise of codecs.
        return ((torch.log(power + 1e-4) + 4.0) / 3.0).transpose(1, 2)[..., :frames]
