"""The audio autoencoder: a waveform to latents and back, for whole signals and for streams."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audio_vae.bottleneck import Bottleneck
from audio_vae.config import AudioVAEConfig, SourceFilterConfig
from audio_vae.decoder import ConvolutionalDecoder, SpectralDecoder, decoder_receptive_field
from audio_vae.encoder import ConvolutionalEncoder, SpectralEncoder, encoder_receptive_field
from audio_vae.source_filter import (
    SourceFilterDecoder,
    SourceFilterEncoder,
    StreamState,
    receptive_fields,
)


@dataclass
class DecoderState:
    """The state of one decoded stream. The caller owns it; `AudioVAE.decode` updates it.

    Attributes:
        pending: latents (B, n, C) from frame `first` on, which later windows still need.
        first: index of the first pending frame.
        done: number of frames decoded so far.
        rows: state of the source-filter decoder, which continues instead of decoding windows again.

    The window of latents that a chunk is decoded from depends only on the position of the chunk. The samples
    therefore do not depend on the lengths of the pieces in which the latents arrive.
    """

    pending: Tensor | None = field(default=None)
    first: int = 0
    done: int = 0
    rows: list[StreamState] = field(default_factory=list)


@dataclass
class EncoderState:
    """The state of one encoded stream. The caller owns it; `AudioVAE.encode` updates it.

    Attributes:
        pending: samples (B, n) from frame `first` on, which later windows still need.
        first: index of the first pending frame.
        done: number of frames encoded so far.

    As in `DecoderState`, windows depend only on the position of a chunk.
    """

    pending: Tensor | None = field(default=None)
    first: int = 0
    done: int = 0


class AudioVAE(nn.Module):
    """A variational autoencoder of speech whose latents have the frame rate of the video.

    In the source-filter form, `encode` and `decode` process one chunk of one row at a time. So the results of
    a stream equal those of the whole signal to the bit, and those of a row alone those of the row in a batch.

    The weights may be float32, bfloat16 or float16. Inputs of any floating-point type are converted; latents
    and waveforms are returned in float32.

    Attributes:
        sample_rate, frame_rate: samples and latent frames per second.
        hop: samples per latent frame.
        latent_dim: numbers per latent frame.
        context, lookahead: a decoded frame depends on at most so many frames before and after it.
        encoder_context, encoder_lookahead: the same for an encoded frame.
    """

    def __init__(self, config: AudioVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop = config.sample_rate, config.hop
        self.frame_rate, self.latent_dim = config.frame_rate, config.latent_dim
        form = config.form
        if isinstance(form, SourceFilterConfig):
            encoder_field, decoder_field = receptive_fields(form)
        else:
            encoder_field, decoder_field = encoder_receptive_field(form), decoder_receptive_field(form)
        self.encoder_context, self.encoder_lookahead = encoder_field
        self.context, self.lookahead = decoder_field
        self.encoder: SourceFilterEncoder | SpectralEncoder | ConvolutionalEncoder
        self.decoder: SourceFilterDecoder | SpectralDecoder | ConvolutionalDecoder
        self.whisper: nn.Module | None = None
        if config.source_filter is not None:
            self.encoder = SourceFilterEncoder(config.source_filter, config.sample_rate)
            self.decoder = SourceFilterDecoder(config.source_filter, config.sample_rate)
        elif config.spectral is not None:
            self.encoder = SpectralEncoder(config.spectral, config.sample_rate)
            self.decoder = SpectralDecoder(config.spectral)
        else:
            assert config.convolutional is not None
            self.encoder = ConvolutionalEncoder(config.convolutional)
            self.decoder = ConvolutionalDecoder(config.convolutional)
            if config.convolutional.whisper is not None:
                from audio_vae.whisper import WhisperBranch  # imported here because it takes seconds

                self.whisper = WhisperBranch(config.convolutional.whisper, config.sample_rate)
        self.bottleneck = Bottleneck(self.encoder.width, config.latent_dim, self.decoder.width)

    def posterior(self, pcm: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, each (B, T, C) in float32, of pcm (B, samples) in [-1, 1].

        T is samples // hop: an incomplete last frame is dropped.

        Raises:
            ValueError: `pcm` does not have two dimensions or is shorter than one frame.
        """
        if pcm.ndim != 2 or pcm.shape[1] < self.hop:
            raise ValueError(
                f"pcm must be (batch, samples) with at least {self.hop} samples, not {tuple(pcm.shape)}"
            )
        count = pcm.shape[1] // self.hop
        hidden = self.encoder(pcm)[:, :count]
        if self.whisper is not None:
            hidden = hidden + self.whisper(pcm, count)
        return self.bottleneck.posterior(hidden)

    @property
    def encodes_streams(self) -> bool:
        """Whether `encode` accepts a state: False with a Whisper branch, which needs the whole signal."""
        return self.whisper is None

    @torch.inference_mode()
    def silence(self) -> Tensor:
        """Raw latent (C,) of digital silence: the middle frame of one second."""
        second = torch.zeros(1, round(self.sample_rate), device=next(self.parameters()).device)
        latents = self.encode(second)[0].float()
        return latents[len(latents) // 2]

    def encode(self, pcm: Tensor, state: EncoderState | None = None, last: bool = False) -> Tensor:
        """Latents (B, T, C) of pcm (B, samples): the means of the posterior, without sampling.

        Without `state`, `pcm` is the whole signal. With a state, `pcm` is the next piece of a stream, of any
        length. The result then holds every chunk whose lookahead has arrived, and with `last` also the
        remaining complete frames.

        Raises:
            ValueError: a state was passed, but the model has a Whisper branch.
        """
        if state is None:
            if self.config.source_filter is None:
                return self.posterior(pcm)[0]
            return self.encode(pcm, EncoderState(), last=True)
        if not self.encodes_streams:
            raise ValueError(
                "a model with a Whisper branch encodes whole signals only: call encode without a state"
            )
        pcm = pcm.float()
        held = pcm if state.pending is None else torch.cat((state.pending, pcm), dim=1)
        end = state.first + held.shape[1] // self.hop
        pieces = [pcm.new_zeros(pcm.shape[0], 0, self.latent_dim)]
        while state.done < end:
            stop = state.done + self.config.chunk
            if not last and stop + self.encoder_lookahead > end:
                break
            begin = max(0, state.done - self.encoder_context)
            until = (stop + self.encoder_lookahead - state.first) * self.hop
            latents = self._means(held[:, (begin - state.first) * self.hop : until])
            pieces.append(latents[:, state.done - begin : stop - begin])
            state.done = min(stop, end)
        keep = max(state.first, state.done - self.encoder_context)
        state.pending, state.first = held[:, (keep - state.first) * self.hop :].clone(), keep
        return torch.cat(pieces, dim=1)

    def _means(self, pcm: Tensor) -> Tensor:
        """Means of the posterior (B, T, C) of the window of a chunk."""
        if self.config.source_filter is None:
            return self.posterior(pcm)[0]
        return torch.cat([self.posterior(row)[0] for row in pcm.split(1)])

    def decode(self, latents: Tensor, state: DecoderState | None = None, last: bool = False) -> Tensor:
        """Waveform of latents (B, T, C), in float32.

        Without `state`, the latents are the whole signal and the result is (B, hop T). With a state, they are
        the next piece of a stream; T may be 0. The result then holds every chunk whose lookahead has arrived,
        and with `last` also the remaining frames.

        Raises:
            ValueError: the latents do not have the shape (batch, frames, latent_dim).
        """
        if latents.ndim != 3 or latents.shape[2] != self.latent_dim:
            raise ValueError(
                f"latents must be (batch, frames, {self.latent_dim}), not {tuple(latents.shape)}"
            )
        latents = latents.float()
        if isinstance(self.decoder, SourceFilterDecoder):
            return self._continue(latents, state or DecoderState(), last or state is None)
        if state is None:
            if latents.shape[1] == 0:
                return latents.new_zeros(latents.shape[0], 0)
            return self.decoder(self.bottleneck.hidden(latents))
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

    def _continue(self, latents: Tensor, state: DecoderState, last: bool) -> Tensor:
        """Decode the next piece of a stream with the source-filter decoder."""
        assert isinstance(self.decoder, SourceFilterDecoder)
        held = latents if state.pending is None else torch.cat((state.pending, latents), dim=1)
        state.rows = state.rows or [StreamState() for _ in held]
        pieces, chunk = [latents.new_zeros(latents.shape[0], 0)], self.config.chunk
        ends = last and state.first + held.shape[1] > 0
        while ends or held.shape[1]:
            count = chunk if state.first else chunk + self.lookahead
            final = held.shape[1] < count
            if final and not last:
                break
            hidden = [self.bottleneck.hidden(row) for row in held[:, :count].split(1)]
            size = None if final else chunk * self.hop
            rows = zip(hidden, state.rows, strict=True)
            pieces.append(torch.cat([self.decoder.chunk(row, own, size) for row, own in rows]))
            state.first, state.done = state.first + count, state.done + pieces[-1].shape[1] // self.hop
            held, ends = held[:, count:], not final and last
        state.pending = held.clone()
        return torch.cat(pieces, dim=1)
