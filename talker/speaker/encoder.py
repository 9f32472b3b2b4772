"""The speaker encoder, from a recording of a voice to one embedding.

The published form reads WavLM features, the embedded default log-mel features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks, resample

from talker.clock import SAMPLE_RATE
from talker.speaker.ecapa import Ecapa

FLOOR = 14.0
"""Natural logarithm of a power ratio (61 dB): features further below the loudest one count as silence."""


@dataclass(frozen=True, kw_only=True)
class WavLMSizes:
    """Sizes of a WavLM of the "large" kind: layer norms in the convolutions, pre-norm transformer layers.

    Attributes:
        layers, width, heads, ffn: sizes of the transformer.
        conv: (channels, kernel size, stride) of each convolution on the waveform.
        position_kernel, position_groups: kernel size and groups of the positional convolution.
        buckets, max_distance: number of buckets and largest distance of the relative position bias.
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
        sample_rate: samples per second of the front end; `embed` resamples to it.
        channels, merged, bottleneck: inner widths of the ECAPA-TDNN.
        embedding: width of the embedding.
        normalise: scale the embedding to length sqrt(embedding), so that its values are about 1.
        mels: mel bands of the filter bank; ignored with WavLM.
        wavlm: sizes of the WavLM front end, or None for the filter bank.
        pcm_rate: samples per second of the input of `embed`.
    """

    sample_rate: int
    channels: int
    merged: int
    bottleneck: int
    embedding: int
    normalise: bool
    mels: int = 80
    wavlm: WavLMSizes | None = None
    pcm_rate: int = SAMPLE_RATE

    @classmethod
    def tiny(cls) -> SpeakerEncoderConfig:
        """For tests."""
        return cls(
            sample_rate=SAMPLE_RATE,
            channels=32,
            merged=64,
            bottleneck=16,
            embedding=16,
            normalise=True,
            mels=40,
        )

    @classmethod
    def puppet(cls) -> SpeakerEncoderConfig:
        """The embedded default: half a million parameters, no resampling."""
        return cls(
            sample_rate=SAMPLE_RATE, channels=128, merged=384, bottleneck=64, embedding=128, normalise=True
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
    """Log-mel features relative to the loudest one, so that they do not depend on the recording level.

    The mean over time is not removed, because it characterises the voice. Computed in float32.
    """

    bank: Tensor
    window: Tensor

    def __init__(self, sample_rate: int, mels: int) -> None:
        super().__init__()
        self.width = mels
        self.hop_length, self.win_length, self.n_fft = sample_rate // 100, sample_rate // 40, 1024
        bank = melscale_fbanks(self.n_fft // 2 + 1, 20.0, min(8000.0, sample_rate / 2), mels, sample_rate)
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(self.win_length), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FilterBank:
        """Moves and converts the module; filters and window stay in float32."""
        constants = {"bank": self.bank, "window": self.window}
        super()._apply(fn, recurse)
        for name, constant in constants.items():
            converted = getattr(self, name)
            if converted.dtype != constant.dtype:
                setattr(self, name, constant.to(converted.device))
        return self

    @property
    def shortest(self) -> int:
        """The shortest waveform that has features, in samples."""
        return self.n_fft

    def forward(self, waves: Tensor) -> Tensor:
        """Waveforms (B, samples) -> features (B, mels, samples // hop_length + 1)."""
        spectrum = torch.stft(
            waves.float(),
            self.n_fft,
            self.hop_length,
            self.win_length,
            self.window,
            return_complex=True,
            pad_mode="constant",
        )
        mel = (spectrum.abs().square().transpose(1, 2) @ self.bank).transpose(1, 2)
        features = torch.log(mel + 1e-9)
        below = (features - features.amax((1, 2), keepdim=True)).clamp(min=-FLOOR)
        return below * (2 / FLOOR) + 1


class StateMixture(nn.Module):
    """A learned weighted sum of the hidden states of all layers, normalised over time."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(states))

    def forward(self, states: Tensor) -> Tensor:
        """Hidden states (states, B, T, width) -> features (B, width, T) in float32."""
        weight = torch.softmax(self.weight.float(), dim=0)
        mixed = (weight[:, None, None, None] * states).sum(0).transpose(1, 2)
        return F.instance_norm(mixed + 1e-6)


class WavLMFeatures(nn.Module):
    """The WavLM front end: a `StateMixture` of the hidden states of all layers."""

    shortest = 720

    def __init__(self, sizes: WavLMSizes) -> None:
        super().__init__()
        # Imported here because it takes seconds, and the embedded default has no WavLM.
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
        """Sets the mode of this module; the WavLM inside always stays in evaluation mode."""
        super().train(mode)
        self.wavlm.eval()
        return self

    def hidden_states(self, waves: Tensor) -> Tensor:
        """Waveforms (B, samples) at 16 kHz -> hidden states (layers + 1, B, T, width).

        These are the input of every layer, then the output after the last norm of the encoder (the last entry
        of `hidden_states` in transformers is the one before that norm).
        """
        # Normalises each waveform on its own; the published epsilon matters for quiet ones.
        normalised = F.layer_norm(waves.float(), waves.shape[-1:], eps=1e-5)
        outputs: Any = self.wavlm(normalised.to(self.mixture.weight.dtype), output_hidden_states=True)
        return torch.stack([*outputs.hidden_states[:-1], outputs.last_hidden_state])

    def forward(self, waves: Tensor) -> Tensor:
        """Waveforms (B, samples) at 16 kHz -> features (B, width, T) in float32."""
        return self.mixture(self.hidden_states(waves))


class SpeakerEncoder(nn.Module):
    """A front end and an ECAPA-TDNN.

    The weights may be float32, bfloat16 or float16; embeddings are returned in float32.
    """

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
        """Waveforms (B, samples) at `config.sample_rate` -> embeddings (B, embedding) in float32."""
        embedding = self.ecapa(self.front(waves)).float()
        if self.config.normalise:
            embedding = F.normalize(embedding, dim=-1) * self.config.embedding**0.5
        return embedding

    @torch.no_grad()
    def embed(self, pcm: Tensor) -> Tensor:
        """Recordings (B, samples) at `config.pcm_rate`, not padded -> embeddings (B, embedding).

        Raises:
            ValueError: the recordings are too short.
        """
        waves = resample(pcm.float(), self.config.pcm_rate, self.config.sample_rate)
        if waves.shape[-1] < self.front.shortest:
            seconds = self.front.shortest / self.config.sample_rate
            raise ValueError(
                f"the recording of the voice is too short: it must last at least {seconds:.2f} s, "
                f"preferably several seconds"
            )
        return self(waves)
