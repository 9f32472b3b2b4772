"""The audio autoencoder: speech at 24 kHz to 32 numbers every 40 ms, and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audio_vae.bottleneck import Bottleneck
from audio_vae.config import AudioVAEConfig
from audio_vae.decoder import ConvolutionalDecoder, SpectralDecoder, reach
from audio_vae.encoder import ConvolutionalEncoder, SpectralEncoder, heard


@dataclass
class DecoderState:
    """What one stream has still to decode: the caller owns it, `AudioVAE.decode` updates it.

    `pending` (B, n, C) are the latents from frame `first` on that some window still needs; `done` counts the
    frames decoded. Windows follow from the position of a chunk in the stream alone, so it does not matter to
    the samples how the latents arrived.
    """

    pending: Tensor | None = field(default=None)
    first: int = 0
    done: int = 0


@dataclass
class EncoderState:
    """What one stream has still to encode: the caller owns it, `AudioVAE.encode` updates it.

    `pending` (B, n) are the samples from frame `first` on that some window still needs; `done` counts the
    frames encoded. Windows follow from a chunk's position alone, as in `DecoderState`.
    """

    pending: Tensor | None = field(default=None)
    first: int = 0
    done: int = 0


class AudioVAE(nn.Module):
    """A variational autoencoder of speech whose latents have one frame for each video frame.

    `hop` samples make a latent frame of `latent_dim` numbers. A decoded frame depends on `context` frames
    before and `lookahead` frames after it at most, an encoded one on `heard_before` and `heard_after`.
    """

    def __init__(self, config: AudioVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop = config.sample_rate, config.hop
        self.frame_rate, self.latent_dim = config.frame_rate, config.latent_dim
        self.context, self.lookahead = reach(config.form)
        self.heard_before, self.heard_after = heard(config.form)
        self.encoder: SpectralEncoder | ConvolutionalEncoder
        self.decoder: SpectralDecoder | ConvolutionalDecoder
        self.whisper: nn.Module | None = None
        if config.spectral is not None:
            self.encoder = SpectralEncoder(config.spectral, config.sample_rate)
            self.decoder = SpectralDecoder(config.spectral)
        else:
            assert config.convolutional is not None
            self.encoder = ConvolutionalEncoder(config.convolutional)
            self.decoder = ConvolutionalDecoder(config.convolutional)
            if config.convolutional.whisper is not None:
                from audio_vae.whisper import WhisperBranch  # its library takes seconds to import

                self.whisper = WhisperBranch(config.convolutional.whisper, config.sample_rate)
        self.bottleneck = Bottleneck(self.encoder.width, config.latent_dim, self.decoder.width)

    def posterior(self, pcm: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, each (B, T, C), of pcm (B, samples) in [-1, 1].

        T = samples // hop: an incomplete last frame is dropped.

        Raises:
            ValueError: `pcm` is not (B, samples) or shorter than one frame.
        """
        if pcm.ndim != 2 or pcm.shape[1] < self.hop:
            raise ValueError(
                f"pcm must be (batch, samples), {self.hop} samples at least; got {tuple(pcm.shape)}"
            )
        count = pcm.shape[1] // self.hop
        hidden = self.encoder(pcm)[:, :count]
        if self.whisper is not None:
            hidden = hidden + self.whisper(pcm, count)
        return self.bottleneck.posterior(hidden)

    @property
    def encodes_streams(self) -> bool:
        """Whether `encode` takes a state: Whisper, where it is part, hears a clip only as a whole."""
        return self.whisper is None

    def encode(self, pcm: Tensor, state: EncoderState | None = None, last: bool = False) -> Tensor:
        """Latents (B, T, C) of pcm (B, samples): the means, nothing drawn.

        Without `state` the samples are the whole signal. With a state they are the next piece of a stream,
        of any length: the result holds all chunks whose `heard_after` frames have come, and every whole frame
        that is left when `last` is set.

        Raises:
            ValueError: a state, and weights that do not encode streams.
        """
        if state is None:
            return self.posterior(pcm)[0]
        if not self.encodes_streams:
            raise ValueError("the Whisper branch hears a clip as a whole: give it without a state")
        held = pcm if state.pending is None else torch.cat((state.pending, pcm), dim=1)
        end = state.first + held.shape[1] // self.hop
        pieces = [pcm.new_zeros(pcm.shape[0], 0, self.latent_dim)]
        while state.done < end:
            stop = state.done + self.config.chunk
            if not last and stop + self.heard_after > end:
                break
            begin = max(0, state.done - self.heard_before)
            until = (stop + self.heard_after - state.first) * self.hop
            latents = self.encode(held[:, (begin - state.first) * self.hop : until])
            pieces.append(latents[:, state.done - begin : stop - begin])
            state.done = min(stop, end)
        keep = max(state.first, state.done - self.heard_before)
        state.pending, state.first = held[:, (keep - state.first) * self.hop :].clone(), keep
        return torch.cat(pieces, dim=1)

    def decode(self, latents: Tensor, state: DecoderState | None = None, last: bool = False) -> Tensor:
        """Waveform of latents (B, T, C).

        Without `state` they are the whole signal and the result is (B, hop T). With a state they are the
        next piece of a stream (T may be 0): the result holds all chunks that now have their `lookahead`, and
        everything that is left when `last` is set.

        Raises:
            ValueError: the latents have another dimension than the model's.
        """
        if latents.ndim != 3 or latents.shape[2] != self.latent_dim:
            raise ValueError(
                f"latents must be (batch, frames, {self.latent_dim}); got {tuple(latents.shape)}"
            )
        if state is None:
            if latents.shape[1] == 0:
                return latents.new_zeros(latents.shape[0], 0)
            return self.decoder(self.bottleneck.expand(latents))
        return self._decode_ready(latents, state, last)

    def _decode_ready(self, latents: Tensor, state: DecoderState, last: bool) -> Tensor:
        held = latents if state.pending is None else torch.cat((state.pending, latents), dim=1)
        end = state.first + held.shape[1]
        pieces = [latents.new_zeros(latents.shape[0], 0)]
        while state.done < end:
            stop = state.done + self.config.chunk
            if not last and stop + self.lookahead > end:
                break
            begin = max(0, state.done - self.context)
            window = held[:, begin - state.first : stop + self.lookahead - state.first]
            pcm = self.decode(window)
            pieces.append(pcm[:, (state.done - begin) * self.hop : (stop - begin) * self.hop])
            state.done = min(stop, end)
        keep = max(state.first, state.done - self.context)
        state.pending, state.first = held[:, keep - state.first :].clone(), keep
        return torch.cat(pieces, dim=1)
