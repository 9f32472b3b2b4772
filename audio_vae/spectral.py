"""Short-time spectra whose frames tile the signal exactly, and mel filters.

Frame m of a signal covers `size` samples centred on the middle of samples [m shift, (m + 1) shift). So n
shift samples have exactly n frames, and the same holds on the way back: no reflection, no half frames at the
ends.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor


def frames(pcm: Tensor, size: int, shift: int) -> Tensor:
    """Overlapping frames of pcm (B, n shift), as a view: (B, n, size). Beyond its ends the signal is zero."""
    margin = (size - shift) // 2
    return F.pad(pcm, (margin, size - shift - margin)).unfold(1, size, shift)


def spectrum(pcm: Tensor, window: Tensor, shift: int) -> Tensor:
    """Complex spectra (B, n, size / 2 + 1) of pcm (B, n shift) through `window` (size,)."""
    return torch.fft.rfft(frames(pcm, window.shape[0], shift) * window)


def mel_filters(sample_rate: int, size: int, mels: int) -> Tensor:
    """Triangular filters on the mel scale, each of area one in bins: (size / 2 + 1, mels)."""
    with torch.device("cpu"):  # a constant, also while a model is built on the meta device
        bank = torchaudio.functional.melscale_fbanks(size // 2 + 1, 0.0, sample_rate / 2, mels, sample_rate)
    return bank / bank.sum(0).clamp(min=1e-3)


def log_mel(pcm: Tensor, window: Tensor, filters: Tensor, shift: int, floor: float = 1e-4) -> Tensor:
    """Natural logarithm of mel magnitudes (B, n, mels). A full-scale sine has a magnitude near one half."""
    magnitude = magnitudes(spectrum(pcm, window, shift)) * (2.0 / window.sum())
    return (magnitude @ filters).clamp(min=floor).log()


def magnitudes(spectra: Tensor) -> Tensor:
    """Absolute value with a finite gradient at zero; same shape."""
    return (spectra.real.square() + spectra.imag.square() + 1e-14).sqrt()


def overlap_add(segments: Tensor, shift: int) -> Tensor:
    """Add segments (B, n, size), laid `shift` apart, and cut to the n shift samples they are centred on.

    `size` is a multiple of `shift`, so the sum is size / shift shifted additions of whole rows.
    """
    batch, count, size = segments.shape
    parts = size // shift
    rows = segments.view(batch, count, parts, shift)
    total = sum(F.pad(rows[:, :, k], (0, 0, k, parts - 1 - k)) for k in range(parts))
    assert isinstance(total, Tensor)
    margin = (size - shift) // 2
    return total.reshape(batch, -1)[:, margin : margin + count * shift]


def inverse(spectra: Tensor, window: Tensor, shift: int) -> Tensor:
    """The signal (B, n shift) whose spectra are nearest to `spectra` (B, n, size / 2 + 1) in square sum.

    Griffin and Lim, 1984: window the inverse transforms, add them, divide by the sum of squared windows.
    """
    segments = torch.fft.irfft(spectra, n=window.shape[0]) * window
    weight = overlap_add(window.square().expand(1, spectra.shape[1], -1), shift)
    return overlap_add(segments, shift) / weight.clamp(min=1e-4)
