"""The speaker encoder: a voice becomes one vector. Published form: WavLM; the default's: a filter bank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks, resample

from talker.speaker.ecapa import Ecapa

PCM_RATE = 24_000
FLOOR = 14.0
"""What lies further (in nepers of power, here 61 dB) below a voice's loudest moment counts as silence."""


@dataclass(frozen=True, kw_only=True)
class WavLMSizes:
    """A WavLM of the "large" kind: layer norms in the convolutions, norms before the transformer's layers.

    Attributes:
        conv: (channels, kernel, stride) of each convolution on the waveform.
        position_kernel, position_groups: of the convolution that gives positions.
        buckets, max_distance: of the relative position bias.
    """

    layers: int = 24
    width: int = 1024
    heads: int = 16
    ffn: int = 4096
    conv: tuple[tuple[int, int, int], ...] = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)
    position_kernel: int = 128
    position_groups: int = 16
    buckets: int = 320
    max_distance: int = 800


@dataclass(frozen=True, kw_only=True)
class SpeakerEncoderConfig:
    """Sizes of a speaker encoder.

    Attributes:
        sample_rate: what the front end works at; `embed` resamples to it.
        channels, merged, bottleneck: inner widths of the ECAPA-TDNN.
        embedding: width of the result.
        normalise: scale the result to length sqrt(embedding), so that its values are about 1.
        mels: filter-bank channels; used where there is no WavLM.
        wavlm: sizes of the WavLM front end, or None for the filter bank.
    """

    sample_rate: int
    channels: int
    merged: int
    bottleneck: int
    embedding: int
    normalise: bool
    mels: int = 80
    wavlm: WavLMSizes | None = None

    @classmethod
    def tiny(cls) -> SpeakerEncoderConfig:
        """For tests."""
        return cls(
            sample_rate=PCM_RATE, channels=32, merged=64, bottleneck=16, embedding=16, normalise=True, mels=40
        )

    @classmethod
    def puppet(cls) -> SpeakerEncoderConfig:
        """The embedded default: half a million parameters, no resampling."""
        return cls(
            sample_rate=PCM_RATE, channels=128, merged=384, bottleneck=64, embedding=128, normalise=True
        )

    @classmethod
    def base(cls) -> SpeakerEncoderConfig:
        """The published size."""
        return cls(
            sample_rate=16_000,
            channels=512,
            merged=1536,
            bottleneck=128,
            embedding=256,
            normalise=False,
            wavlm=WavLMSizes(),
        )


class FilterBank(nn.Module):
    """Log-mel features measured from the loudest one down, so without the recording's level.

    Their mean over time stays: the colour of a voice is part of it.
    """

    bank: Tensor
    window: Tensor

    def __init__(self, sample_rate: int, mels: int) -> None:
        super().__init__()
        self.width = mels
        self.hop, self.length, self.fft = sample_rate // 100, sample_rate // 40, 1024
        bank = melscale_fbanks(self.fft // 2 + 1, 20.0, min(8000.0, sample_rate / 2), mels, sample_rate)
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(self.length), persistent=False)

    @property
    def shortest(self) -> int:
        """Samples of the shortest waveform that has features."""
        return self.fft

    def forward(self, waves: Tensor) -> Tensor:
        """(B, samples) -> (B, mels, samples // hop + 1)"""
        spectrum = torch.stft(
            waves, self.fft, self.hop, self.length, self.window, return_complex=True, pad_mode="constant"
        )
        mel = (spectrum.abs().square().transpose(1, 2) @ self.bank).transpose(1, 2)
        features = torch.log(mel + 1e-9)
        below = (features - features.amax((1, 2), keepdim=True)).clamp(min=-FLOOR)
        return below * (2 / FLOOR) + 1


class StateMixture(nn.Module):
    """A learned mixture of all hidden states, normalised over time."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(states))

    def forward(self, states: Tensor) -> Tensor:
        """(states, B, T, width) -> (B, width, T)"""
        weight = torch.softmax(self.weight, dim=0)
        mixed = (weight[:, None, None, None] * states).sum(0).transpose(1, 2)
        return F.instance_norm(mixed + 1e-6)


class WavLMFeatures(nn.Module):
    """The mixture of a WavLM's hidden states."""

    shortest = 720

    def __init__(self, sizes: WavLMSizes) -> None:
        super().__init__()
        # Loading transformers takes seconds, and the default has no WavLM.
        from transformers import WavLMConfig, WavLMModel

        self.width = sizes.width
        channels, kernels, strides = zip(*sizes.conv, strict=True)
        config = WavLMConfig(
            num_hidden_layers=sizes.layers,
            hidden_size=sizes.width,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.ffn,
            conv_dim=channels,
            conv_kernel=kernels,
            conv_stride=strides,
            num_conv_pos_embeddings=sizes.position_kernel,
            num_conv_pos_embedding_groups=sizes.position_groups,
            num_buckets=sizes.buckets,
            max_bucket_distance=sizes.max_distance,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            mask_time_prob=0.0,
            mask_feature_prob=0.0,
            layerdrop=0.0,
        )
        self.wavlm = WavLMModel(config).eval()
        self.mixture = StateMixture(sizes.layers + 1)

    def train(self, mode: bool = True) -> WavLMFeatures:
        """The WavLM stays in evaluation mode whatever the rest does: it has no dropout to train with."""
        super().train(mode)
        self.wavlm.eval()
        return self

    def hidden_states(self, waves: Tensor) -> Tensor:
        """(B, samples) at 16 kHz -> (layers + 1, B, T, width): the input of each layer, and the output.

        The output is the one after the encoder's last norm; transformers' own last entry is the one before.
        """
        # Each waveform is normalised alone. The published epsilon matters for quiet ones.
        found: Any = self.wavlm(F.layer_norm(waves, waves.shape[-1:], eps=1e-5), output_hidden_states=True)
        return torch.stack([*found.hidden_states[:-1], found.last_hidden_state])

    def forward(self, waves: Tensor) -> Tensor:
        """(B, samples) at 16 kHz -> (B, width, T)"""
        return self.mixture(self.hidden_states(waves))


class SpeakerEncoder(nn.Module):
    """Front end and ECAPA-TDNN."""

    def __init__(self, config: SpeakerEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.front: FilterBank | WavLMFeatures = (
            FilterBank(config.sample_rate, config.mels)
            if config.wavlm is None
            else WavLMFeatures(config.wavlm)
        )
        self.ecapa = Ecapa(
            features=self.front.width,
            channels=config.channels,
            merged=config.merged,
            bottleneck=config.bottleneck,
            embedding=config.embedding,
        )

    def forward(self, waves: Tensor) -> Tensor:
        """(B, samples) at `config.sample_rate` -> (B, embedding)"""
        embedding = self.ecapa(self.front(waves))
        if self.config.normalise:
            embedding = F.normalize(embedding, dim=-1) * self.config.embedding**0.5
        return embedding

    @torch.no_grad()
    def embed(self, pcm: Tensor) -> Tensor:
        """(B, samples) at 24 kHz -> (B, embedding); all rows are of one length and without padding.

        Raises:
            ValueError: the sound is too short.
        """
        waves = resample(pcm, PCM_RATE, self.config.sample_rate)
        if waves.shape[-1] < self.front.shortest:
            seconds = self.front.shortest / self.config.sample_rate
            raise ValueError(f"a voice needs at least {seconds:.2f} s of sound, better some seconds")
        return self(waves)
