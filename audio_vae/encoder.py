"""Encoders of both forms, from a waveform to hidden frames, and their receptive fields."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audio_vae.config import ConvolutionalConfig, SpectralConfig
from audio_vae.conv import ConvNeXt, ResidualUnit, Snake, convolution, downsample
from audio_vae.spectral import Float32Buffers, log_mel, mel_filters


class SpectralEncoder(Float32Buffers):
    """The puppet's encoder: a log-mel spectrogram, ConvNeXt blocks, and `fold` frames merged into one."""

    filters: Tensor
    window: Tensor

    def __init__(self, config: SpectralConfig, sample_rate: int) -> None:
        super().__init__()
        self.shift, self.fold, self.hop = config.shift, config.fold, config.hop
        fine, coarse = config.encoder_widths
        self.register_buffer("window", torch.hann_window(config.size), persistent=False)
        filters = mel_filters(sample_rate, config.size, config.mels)
        self.register_buffer("filters", filters, persistent=False)
        self.stem = nn.Linear(config.mels, fine)
        self.fine = _blocks(fine, config.encoder_blocks[0], config.fine_kernel, config.expansion)
        self.merge = nn.Linear(config.fold * fine, coarse)
        self.coarse = _blocks(coarse, config.encoder_blocks[1], config.coarse_kernel, config.expansion)
        self.norm = nn.LayerNorm(coarse)
        self.width = coarse

    def forward(self, pcm: Tensor) -> Tensor:
        """Waveform (B, samples) -> hidden frames (B, samples // hop, width)."""
        whole = pcm[:, : pcm.shape[1] // self.hop * self.hop]
        mel = log_mel(whole, self.window, self.filters, self.shift)
        scaled = (mel * 0.4 + 2).to(self.stem.weight.dtype)  # about zero mean and unit variance for speech
        hidden = self.fine(self.stem(scaled))
        batch, count, width = hidden.shape
        merged = self.merge(hidden.reshape(batch, count // self.fold, self.fold * width))
        return self.norm(self.coarse(merged))


def _blocks(width: int, count: int, kernel: int, expansion: float) -> nn.Sequential:
    return nn.Sequential(*[ConvNeXt(width, kernel, expansion) for _ in range(count)])


class EncoderStage(nn.Module):
    """Residual units, then a strided convolution to twice the channels."""

    def __init__(self, channels: int, stride: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.units = nn.Sequential(*[ResidualUnit(channels, dilation) for dilation in dilations])
        self.snake = Snake(channels)
        self.down = downsample(channels, 2 * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) -> (B, 2 C, 1, T / stride)."""
        return self.down(self.snake(self.units(x)))


class ConvolutionalEncoder(nn.Module):
    """The published encoder: convolutions and down-sampling stages."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.stem = convolution(1, width, 7)
        self.stages = nn.Sequential()
        for stride in config.strides:
            self.stages.append(EncoderStage(width, stride, config.dilations))
            width *= 2
        self.snake = Snake(width)
        self.out = convolution(width, config.hidden, 3)
        self.width = config.hidden

    def forward(self, pcm: Tensor) -> Tensor:
        """Waveform (B, samples) -> hidden frames (B, T, hidden), T >= samples // hop.

        The last complete frame also depends on samples of an incomplete frame after it.
        """
        assert self.stem.bias is not None
        image = pcm.to(self.stem.bias.dtype)[:, None, None].contiguous(memory_format=torch.channels_last)
        hidden = self.out(self.snake(self.stages(self.stem(image))))
        return hidden.squeeze(2).transpose(1, 2)


def encoder_receptive_field(form: SpectralConfig | ConvolutionalConfig) -> tuple[int, int]:
    """(context, lookahead): how many frames of samples before and after it an encoded frame depends on."""
    if isinstance(form, SpectralConfig):
        before, after = (form.coarse_kernel - 1) // 2, form.coarse_kernel // 2
        first, last = -form.encoder_blocks[1] * before * form.fold, form.encoder_blocks[1] * after * form.fold
        first -= form.encoder_blocks[0] * ((form.fine_kernel - 1) // 2)
        last += form.fold - 1 + form.encoder_blocks[0] * (form.fine_kernel // 2)
        margin = (form.size - form.shift) // 2
        first, last = first * form.shift - margin, last * form.shift - margin + form.size - 1
    else:
        unit = sum(3 * dilation for dilation in form.dilations)
        first, last = -1, 1
        for stride in reversed(form.strides):
            padding = (stride + 1) // 2
            first, last = first * stride - padding, last * stride - padding + 2 * stride - 1
            first, last = first - unit, last + unit
        first, last = first - 3, last + 3
    return -(first // form.hop), last // form.hop
