"""Short-time spectra whose frames tile the signal exactly, and mel filters.

Frame m covers `n_fft` samples centred on the middle of samples [m hop_length, (m + 1) hop_length). So a
signal of n hop_length samples has exactly n frames, and n frames invert to n hop_length samples; nothing is
reflected at the ends. Everything here is computed in float32: half precision has no FFT.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn


class Float32Buffers(nn.Module):
    """A module whose buffers (windows, mel filters) stay in float32 when its parameters are converted."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Float32Buffers:
        constants = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)
        for name, constant in constants.items():
            converted = getattr(self, name)
            if converted.dtype != constant.dtype:
                setattr(self, name, constant.to(converted.device))
        return self


def frames(pcm: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Overlapping frames (B, n, n_fft) of pcm (B, n hop_length), as a view; zeros are added at both ends."""
    margin = (n_fft - hop_length) // 2
    return F.pad(pcm, (margin, n_fft - hop_length - margin)).unfold(1, n_fft, hop_length)


def spectrum(pcm: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """Complex spectra (B, n, n_fft / 2 + 1) of pcm (B, n hop_length) with `window` (n_fft,)."""
    return torch.fft.rfft(frames(pcm.float(), window.shape[0], hop_length) * window)


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangular filters on the mel scale (n_fft / 2 + 1, n_mels); the weights of each filter sum to 1.

    The result is on the CPU even if the default device is "meta".
    """
    with torch.device("cpu"):
        bank = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate
        )
    return bank / bank.sum(0).clamp(min=1e-3)


def log_mel(pcm: Tensor, window: Tensor, filters: Tensor, hop_length: int, floor: float = 1e-4) -> Tensor:
    """Natural logarithm of mel magnitudes, (B, n, n_mels), of pcm (B, n hop_length).

    The magnitude of a full-scale sine is about one half; magnitudes below `floor` are raised to it.
    """
    magnitude = magnitudes(spectrum(pcm, window, hop_length)) * (2.0 / window.sum())
    return (magnitude @ filters).clamp(min=floor).log()


def magnitudes(spectra: Tensor) -> Tensor:
    """Absolute values of complex `spectra`, same shape; the gradient at zero is finite."""
    return (spectra.real.square() + spectra.imag.square() + 1e-14).sqrt()


def overlap_add(segments: Tensor, hop_length: int) -> Tensor:
    """Add segments (B, n, n_fft), placed `hop_length` apart: (B, n hop_length), without the outer margins.

    `n_fft` is a multiple of `hop_length`, so the sum is n_fft / hop_length shifted additions of whole rows.
    """
    batch, count, n_fft = segments.shape
    parts = n_fft // hop_length
    rows = segments.view(batch, count, parts, hop_length)
    total = sum(F.pad(rows[:, :, k], (0, 0, k, parts - 1 - k)) for k in range(parts))
    assert isinstance(total, Tensor)
    margin = (n_fft - hop_length) // 2
    return total.reshape(batch, -1)[:, margin : margin + count * hop_length]


def inverse(spectra: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """The signal (B, n hop_length) whose spectra are closest to `spectra` (B, n, bins) in squared error.

    Griffin and Lim, 1984: multiply the inverse transforms by the window, overlap-add, divide by the sum of
    squared windows.
    """
    segments = torch.fft.irfft(spectra, n=window.shape[0]) * window
    weight = overlap_add(window.square().expand(1, spectra.shape[1], -1), hop_length)
    return overlap_add(segments, hop_length) / weight
