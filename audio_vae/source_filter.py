"""Encoder and decoder of the source-filter form: waveform -> hidden frames, hidden frames -> waveform.

The encoder reads a log-mel spectrogram and the salience of every pitch, because a mel spectrogram does not
resolve the harmonics of low voices. The decoder predicts pitch and filters (`audio_vae.synthesis`) instead of
samples: the latents do not hold the positions of glottal pulses, and the source makes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_vae.config import SourceFilterConfig
from audio_vae.conv import ConvNeXt
from audio_vae.spectral import Float32Buffers, log_mel, magnitudes, mel_filters, spectrum
from audio_vae.synthesis import LOOKAHEAD, SPREAD, Controls, SynthesisState, Synthesizer, interpolation

PITCH_CENTRE, PITCH_SCALE = 5.1, 0.5
"""log F0 = PITCH_CENTRE + PITCH_SCALE x, with F0 in Hz and x of about zero mean and unit variance."""

LOWEST, PER_OCTAVE, CANDIDATES = 60.0, 48, 154
"""Candidates of the pitch: 60 to 547 Hz."""

HARMONICS, FALLOFF, SMOOTHING = 12, 0.86, 25


def candidates() -> Tensor:
    """Pitches in Hz whose salience the encoder reads, (154,)."""
    with torch.device("cpu"):
        return LOWEST * 2 ** (torch.arange(CANDIDATES, dtype=torch.float64) / PER_OCTAVE)


def comb(sample_rate: int, n_fft: int) -> Tensor:
    """Matrix (bins, candidates) that sums log magnitudes at the harmonics, minus those between harmonics.

    It first subtracts the moving average over 25 bins, so that the envelope does not count. The bins end at
    3.1 kHz; harmonics above are left out. Odd multiples of a low pitch score nearly as high as the pitch
    itself: the network tells them apart.
    """
    bins = round(3100 * n_fft / sample_rate) + 1
    with torch.device("cpu"):
        index = torch.arange(bins, dtype=torch.float64)
        multiples = torch.arange(1, 2 * HARMONICS + 1, dtype=torch.float64)[:, None] / 2
        at = multiples * candidates() * n_fft / sample_rate
        weights = torch.where(multiples % 1 == 0, 1.0, -1.0) * FALLOFF ** (multiples.ceil() - 1)
        weights = weights * (at < bins - 1)
    read = interpolation(index, at.flatten()).double().unflatten(1, at.shape)
    matrix = (read * weights).sum(1)
    matrix = matrix / (read * weights).clamp(min=0).sum((0, 1))
    near = ((index[:, None] - index).abs() <= SMOOTHING // 2).double()
    return (matrix - (near / near.sum(0)) @ matrix).float()  # (level - level @ means) @ matrix


class Salience(Float32Buffers):
    """Evidence for each candidate of the pitch: (B, n shift) samples -> (B, n, 154)."""

    window: Tensor
    comb: Tensor

    def __init__(self, sample_rate: int, n_fft: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        with torch.device("cpu"):
            self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
            self.register_buffer("comb", comb(sample_rate, n_fft), persistent=False)

    def forward(self, pcm: Tensor) -> Tensor:
        """The values are about 1 at the pitch of voiced speech, and around 0 elsewhere."""
        spectra = spectrum(pcm, self.window, self.shift)[..., : self.comb.shape[0]]
        return (magnitudes(spectra) + 1e-3).log() @ self.comb


class SourceFilterEncoder(Float32Buffers):
    """Waveform -> hidden frames, by way of the pitch of every fine frame."""

    filters: Tensor
    window: Tensor

    def __init__(self, config: SourceFilterConfig, sample_rate: int) -> None:
        super().__init__()
        self.shift, self.fold, self.hop = config.shift, config.fold, config.hop
        fine, coarse = config.encoder_widths
        with torch.device("cpu"):
            self.register_buffer("window", torch.hann_window(config.size), persistent=False)
        filters = mel_filters(sample_rate, config.size, config.mels)
        self.register_buffer("filters", filters, persistent=False)
        self.salience = Salience(sample_rate, config.pitch_size, config.shift)
        self.stem = nn.Linear(config.mels + CANDIDATES, fine)
        self.fine = _blocks(fine, config.encoder_blocks[0], config.fine_kernel, config.expansion)
        self.pitch = nn.Linear(fine, CANDIDATES)
        self.trust = nn.Parameter(torch.tensor(2.0))  # in the salience
        self.merge = nn.Linear(config.fold * (fine + 2), coarse)
        self.coarse = _blocks(coarse, config.encoder_blocks[1], config.coarse_kernel, config.expansion)
        self.norm = nn.LayerNorm(coarse)
        self.width = coarse

    def forward(self, pcm: Tensor) -> Tensor:
        """Waveform (B, samples) -> hidden frames (B, samples // hop, width)."""
        return self.analyse(pcm)[0]

    def analyse(self, pcm: Tensor) -> tuple[Tensor, Tensor]:
        """Waveform (B, samples) -> hidden frames (B, T, width) and logits of the pitch (B, fold T, 154)."""
        whole = pcm[:, : pcm.shape[1] // self.hop * self.hop].float()
        with torch.no_grad(), torch.autocast(pcm.device.type, enabled=False):
            mel = log_mel(whole, self.window, self.filters, self.shift)
            salience = 1.5 * self.salience(whole)
        dtype = self.stem.weight.dtype
        hidden = self.fine(self.stem(torch.cat((mel * 0.4 + 2, salience), dim=-1).to(dtype)))
        logits = (self.pitch(hidden) + self.trust * salience.to(dtype)).float()
        hidden = torch.cat((hidden, _read_pitch(logits).to(hidden.dtype)), dim=-1)
        merged = self.merge(hidden.unflatten(1, (-1, self.fold)).flatten(2))
        return self.norm(self.coarse(merged)), logits


def _blocks(width: int, count: int, kernel: int, expansion: float) -> nn.Sequential:
    return nn.Sequential(*[ConvNeXt(width, kernel, expansion) for _ in range(count)])


def _read_pitch(logits: Tensor) -> Tensor:
    """Logits (B, n, 154) -> (B, n, 2): scaled log F0 by the candidates around the best, and their size."""
    index = torch.arange(CANDIDATES, device=logits.device)
    best = logits.argmax(-1, keepdim=True)
    near = logits.masked_fill((index - best).abs() > 3, -torch.inf).softmax(-1)
    log_f0 = near @ (index / PER_OCTAVE * math.log(2) + math.log(LOWEST)).to(near)
    return torch.stack(((log_f0 - PITCH_CENTRE) / PITCH_SCALE, 0.1 * logits.logsumexp(-1)), dim=-1)


@dataclass
class StreamState:
    """The state of one decoded row.

    Attributes:
        pasts: inputs of each block that later outputs depend on.
        synthesis: state of the synthesis.
        ready: samples (1, n) that are complete but not returned yet.
    """

    pasts: list[Tensor | None] = field(default_factory=list)
    synthesis: SynthesisState = field(default_factory=SynthesisState)
    ready: Tensor | None = None


class SourceFilterDecoder(nn.Module):
    """Hidden frames -> pitch, voicing, levels and phase of every fine frame -> waveform.

    Causal blocks at the rate of the latents, a linear layer that splits each frame into `fold` fine frames,
    blocks with a small lookahead, linear heads, synthesis.
    """

    def __init__(self, config: SourceFilterConfig, sample_rate: int) -> None:
        super().__init__()
        self.fold, expansion = config.fold, config.expansion
        fine, coarse = config.decoder_widths
        self.coarse = nn.ModuleList(
            ConvNeXt(coarse, config.coarse_kernel, expansion, lookahead=0)
            for _ in range(config.decoder_blocks[1])
        )
        self.split = nn.Linear(coarse, config.fold * fine)
        self.fine = nn.ModuleList(
            ConvNeXt(fine, config.fine_kernel, expansion, lookahead=config.fine_lookahead)
            for _ in range(config.decoder_blocks[0])
        )
        self.norm = nn.LayerNorm(fine)
        self.pitch = nn.Linear(fine, 2)
        self.parts = (config.harmonic_knots, config.noise_knots, config.phase_knots)
        self.filters = nn.Linear(fine, 2 * sum(self.parts))
        self.synthesizer = Synthesizer(sample_rate, config.shift, *self.parts)
        self.width = coarse

    def forward(self, hidden: Tensor, state: StreamState | None = None, last: bool = False) -> Tensor:
        """Hidden frames (B, T, width) -> waveform (B, hop T) in float32, for a whole signal or a stream."""
        last, state = last or state is None, state or StreamState()
        return self.synthesizer(self.controls(hidden, state, last)[0], state.synthesis, last)

    def chunk(self, hidden: Tensor, state: StreamState, samples: int | None) -> Tensor:
        """Continue a stream with hidden frames (1, T, width): its next `samples` samples.

        If `samples` is None, the stream ends: all samples that remain.
        """
        made = self(hidden, state, last=samples is None)
        ready = made if state.ready is None else torch.cat((state.ready, made), dim=1)
        samples = ready.shape[1] if samples is None else samples
        state.ready = ready[:, samples:].clone()
        return ready[:, :samples]

    def controls(
        self, hidden: Tensor, state: StreamState | None = None, last: bool = False
    ) -> tuple[Controls, Tensor]:
        """Hidden frames (B, T, width) -> controls and logits of voicing (B, M) of the M fine frames.

        Without `state`, M is fold T; with a state, M counts the frames that are complete.
        """
        last, state = last or state is None, state or StreamState()
        if not state.pasts:
            state.pasts = [None] * (len(self.coarse) + len(self.fine))
        for index, block in enumerate((*self.coarse, *self.fine)):
            if index == len(self.coarse):
                hidden = self.split(hidden).unflatten(2, (self.fold, -1)).flatten(1, 2)
            assert isinstance(block, ConvNeXt)
            hidden, state.pasts[index] = block.step(hidden, state.pasts[index], last)
        hidden = self.norm(hidden)
        log_f0, voicing = self.pitch(hidden).float().unbind(-1)
        filters = self.filters(hidden).float().unflatten(2, (2, -1)).flatten(1, 2)
        harmonic, noise, phase = filters.split(self.parts, dim=-1)
        gate = F.logsigmoid(voicing).repeat_interleave(2, dim=1)[..., None]
        log_f0 = (PITCH_CENTRE + PITCH_SCALE * log_f0).clamp(math.log(40.0), math.log(800.0))
        return Controls(log_f0, (harmonic - 4 + gate).clamp(max=6), (noise - 5).clamp(max=6), phase), voicing


def receptive_fields(config: SourceFilterConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """(context, lookahead) in latent frames of an encoded frame and of a decoded frame.

    The phase of the pulse train depends on the pitch of all earlier frames; the context leaves that out.
    """
    before, after = (config.coarse_kernel - 1) // 2, config.coarse_kernel // 2
    count, fine_count = config.encoder_blocks[1], config.encoder_blocks[0]
    first = -count * before * config.fold - fine_count * ((config.fine_kernel - 1) // 2)
    last = count * after * config.fold + config.fold - 1 + fine_count * (config.fine_kernel // 2)
    longest = max(config.size, config.pitch_size)
    margin = (longest - config.shift) // 2
    first, last = first * config.shift - margin, last * config.shift - margin + longest - 1
    encoder = -(first // config.hop), last // config.hop
    back = config.decoder_blocks[0] * (config.fine_kernel - 1 - config.fine_lookahead) + SPREAD
    ahead = config.decoder_blocks[0] * config.fine_lookahead + LOOKAHEAD
    slow = config.decoder_blocks[1] * (config.coarse_kernel - 1)
    return encoder, (slow - (-back // config.fold), -(-ahead // config.fold))
