"""From hidden frames at the latents' rate to a waveform, in both forms, and how far each one looks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audio_vae.config import ConvolutionalConfig, SpectralConfig
from audio_vae.conv import ConvNeXt, ResidualUnit, Snake, convolution, upsample
from audio_vae.spectral import inverse


class SpectralDecoder(nn.Module):
    """Causal blocks -> each frame split into `fold` -> blocks -> magnitude and phase -> inverse transform.

    (B, T, width) -> (B, hop T). Predicting a spectrogram at a constant rate instead of upsampling to samples
    follows Vocos (Siuzdak, 2023). The slow blocks are causal because every frame they look ahead delays a
    live stream.
    """

    window: Tensor

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.shift, self.fold = config.shift, config.fold
        fine, coarse = config.decoder_widths
        fine_blocks, coarse_blocks = config.decoder_blocks
        kernels, expansion = (config.fine_kernel, config.coarse_kernel), config.expansion
        self.register_buffer("window", torch.hann_window(config.size), persistent=False)
        self.coarse = nn.Sequential(
            *[ConvNeXt(coarse, kernels[1], expansion, causal=True) for _ in range(coarse_blocks)]
        )
        self.split = nn.Linear(coarse, config.fold * fine)
        self.fine = nn.Sequential(
            *[ConvNeXt(fine, kernels[0], expansion, causal=False) for _ in range(fine_blocks)]
        )
        self.norm = nn.LayerNorm(fine)
        self.head = nn.Linear(fine, config.size + 2)
        self.width = coarse

    def forward(self, hidden: Tensor) -> Tensor:
        coarse = self.split(self.coarse(hidden))
        batch, count, width = coarse.shape
        fine = self.fine(coarse.reshape(batch, count * self.fold, width // self.fold))
        level, phase = self.head(self.norm(fine)).chunk(2, dim=-1)
        spectra = torch.polar(level.clamp(max=6.0).exp(), phase)
        return inverse(spectra, self.window, self.shift).clamp(-1.0, 1.0)


class DecoderStage(nn.Module):
    """Transposed convolution to half the channels, residual units: (B, C, 1, T) -> (B, C / 2, 1, T
    stride).
    """

    def __init__(self, channels: int, stride: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.snake = Snake(channels)
        self.up = upsample(channels, channels // 2, stride)
        self.units = nn.Sequential(*[ResidualUnit(channels // 2, dilation) for dilation in dilations])

    def forward(self, x: Tensor) -> Tensor:
        return self.units(self.up(self.snake(x)))


class ConvolutionalDecoder(nn.Module):
    """The published decoder: (B, T, hidden) -> (B, hop T), through a final tanh."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.stem = convolution(config.hidden, width, 7)
        self.stages = nn.Sequential()
        for stride in reversed(config.strides):
            self.stages.append(DecoderStage(width, stride, config.dilations))
            width //= 2
        self.snake = Snake(width)
        self.out = convolution(width, 1, 7)
        self.width = config.hidden

    def forward(self, hidden: Tensor) -> Tensor:
        image = hidden.unsqueeze(1).permute(0, 3, 1, 2)
        return self.out(self.snake(self.stages(self.stem(image)))).flatten(1).tanh()


def reach(form: SpectralConfig | ConvolutionalConfig) -> tuple[int, int]:
    """Latent frames before and after its own that a decoded frame depends on: (context, lookahead)."""
    if isinstance(form, SpectralConfig):
        fine = form.decoder_blocks[0] * (form.fine_kernel // 2) + form.size // (2 * form.shift)
        slow = form.decoder_blocks[1] * (form.coarse_kernel - 1)
        first, last = -fine, form.fold - 1 + fine
        return slow - first // form.fold, last // form.fold
    unit = sum(3 * dilation for dilation in form.dilations)
    first, last = -3, form.hop - 1 + 3  # the samples before the last convolution
    for stride in form.strides:
        padding = (stride + 1) // 2
        first, last = first - unit, last + unit
        first, last = -((2 * stride - 1 - padding - first) // stride), (last + padding) // stride
    return 3 - first, last + 3
