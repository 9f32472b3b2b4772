"""Decoders of both forms, from hidden frames to a waveform, and their receptive fields."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audio_vae.config import ConvolutionalConfig, SpectralConfig
from audio_vae.conv import ConvNeXt, ResidualUnit, Snake, convolution, upsample
from audio_vae.spectral import Float32Buffers, inverse


class SpectralDecoder(Float32Buffers):
    """The puppet's decoder: predicts a complex spectrogram and inverts it, as Vocos does (Siuzdak, 2023).

    Causal blocks at the frame rate of the latents, a linear layer that splits every frame into `fold` frames,
    blocks at the frame rate of the spectra, magnitude and phase, inverse transform. The first blocks are
    causal because every frame of lookahead delays a live stream.
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
            *[ConvNeXt(coarse, kernels[1], expansion, lookahead=0) for _ in range(coarse_blocks)]
        )
        self.split = nn.Linear(coarse, config.fold * fine)
        self.fine = nn.Sequential(*[ConvNeXt(fine, kernels[0], expansion) for _ in range(fine_blocks)])
        self.norm = nn.LayerNorm(fine)
        self.head = nn.Linear(fine, config.size + 2)
        self.width = coarse

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden frames (B, T, width) -> waveform (B, hop T) in [-1, 1], in float32."""
        coarse = self.split(self.coarse(hidden))
        batch, count, width = coarse.shape
        fine = self.fine(coarse.reshape(batch, count * self.fold, width // self.fold))
        level, phase = self.head(self.norm(fine)).float().chunk(2, dim=-1)
        spectra = torch.polar(level.clamp(max=6.0).exp(), phase)
        return inverse(spectra, self.window, self.shift).clamp(-1.0, 1.0)


class DecoderStage(nn.Module):
    """A transposed convolution to half the channels, then residual units."""

    def __init__(self, channels: int, stride: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.snake = Snake(channels)
        self.up = upsample(channels, channels // 2, stride)
        self.units = nn.Sequential(*[ResidualUnit(channels // 2, dilation) for dilation in dilations])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) -> (B, C / 2, 1, T stride)."""
        return self.units(self.up(self.snake(x)))


class ConvolutionalDecoder(nn.Module):
    """The published decoder: convolutions, up-sampling stages and a final tanh."""

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
        """Hidden frames (B, T, hidden) -> waveform (B, hop T) in [-1, 1], in float32."""
        image = hidden.unsqueeze(1).permute(0, 3, 1, 2)
        return self.out(self.snake(self.stages(self.stem(image)))).flatten(1).float().tanh()


def decoder_receptive_field(form: SpectralConfig | ConvolutionalConfig) -> tuple[int, int]:
    """(context, lookahead): how many latent frames before and after it a decoded frame depends on."""
    if isinstance(form, SpectralConfig):
        fine = form.decoder_blocks[0] * (form.fine_kernel // 2) + form.size // (2 * form.shift)
        slow = form.decoder_blocks[1] * (form.coarse_kernel - 1)
        first, last = -fine, form.fold - 1 + fine
        return slow - first // form.fold, last // form.fold
    unit = sum(3 * dilation for dilation in form.dilations)
    first, last = -3, form.hop - 1 + 3  # samples at the input of the last convolution
    for stride in form.strides:
        padding = (stride + 1) // 2
        first, last = first - unit, last + unit
        first, last = -((2 * stride - 1 - padding - first) // stride), (last + padding) // stride
    return 3 - first, last + 3
