"""Any audio file as mono 24 kHz samples, through one resampling function."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torchaudio
from torch import Tensor

from talker.errors import UserError

SAMPLE_RATE = 24_000
VOICE_SECONDS = 30.0  # a voice is settled long before; more only costs time
SHORTEST_VOICE_SECONDS = 0.3
SILENCE_RMS = 1e-3  # -60 dBFS in the loudest tenth of a second
RATES = (2_000, 400_000)  # outside of it a header is wrong, not a recording
# Media files may name further files (playlists, references); with no protocol allowed they open none.
CLOSED = {"protocol_whitelist": "none"}


def resample(pcm: Tensor, rate: int) -> Tensor:
    """Samples (..., N) at `rate` Hz -> (..., about N * 24000 / rate) at 24 kHz.

    A rate that shares no factor with 24 kHz would need a filter of gigabytes, so the ratio is the nearest
    fraction with a denominator up to 1000 (at most one millionth off).
    """
    if rate == SAMPLE_RATE:
        return pcm
    ratio = resample_ratio(rate)
    return _resampler(ratio.numerator, ratio.denominator)(pcm)


def resample_ratio(rate: int) -> Fraction:
    """`rate` over 24 kHz as `resample` takes it."""
    return Fraction(rate, SAMPLE_RATE).limit_denominator(1000)


@functools.lru_cache(maxsize=8)
def _resampler(before: int, after: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(before, after)


def read_audio(path: str | Path, seconds: float = VOICE_SECONDS) -> Tensor:
    """The first `seconds` of a file's first audio track: (N,) float32 mono at 24 kHz.

    Any container and codec that PyAV reads, videos included; any rate, width and number of channels. Damage
    in the middle is skipped. What the header claims is never believed: decoding stops after `seconds`.

    Raises:
        UserError: missing, unreadable, or without any sound.
    """
    path = readable(path)
    try:
        with path.open("rb") as file, av.open(file, "r", options=CLOSED) as container:
            if not container.streams.audio:
                raise UserError(
                    f"{path} holds no audio track: give a recording of speech (wav, mp3, m4a, ogg, ...)"
                )
            pcm, rate = _collect(container, seconds)
    except (av.FFmpegError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as audio ({reason(error)}): try a wav, mp3, m4a or ogg file"
        ) from error
    if not len(pcm):
        raise UserError(f"{path} holds no sound that can be decoded: convert it to wav or record it again")
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"{path} claims {rate} samples a second: convert it to a usual rate such as 24000")
    return resample(torch.from_numpy(pcm), rate)


def read_voice(path: str | Path) -> Tensor:
    """A reference of somebody's voice: `read_audio`, at most 30 s, that is long and loud enough to be one.

    Raises:
        UserError: unreadable, shorter than 0.3 s, or silent.
    """
    pcm = read_audio(path)
    seconds = len(pcm) / SAMPLE_RATE
    if seconds < SHORTEST_VOICE_SECONDS:
        raise UserError(
            f"{path} is {seconds:.2f} s long: give {SHORTEST_VOICE_SECONDS} s of speech or more, better 5 s"
        )
    tenths = pcm[: len(pcm) // 2400 * 2400].view(-1, 2400)
    if tenths.square().mean(1).max().sqrt() < SILENCE_RMS:
        raise UserError(f"{path} is silent: give a recording in which somebody speaks")
    return pcm


def readable(path: str | Path) -> Path:
    """`path` as a Path to an existing regular file (a device or pipe could be endless).

    Raises:
        UserError: it is missing, or something else.
    """
    path = Path(path)
    try:
        if path.is_file():
            return path
        problem = (
            "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        )
    except (OSError, ValueError) as error:  # a name too long, a NUL inside
        problem = f"cannot be opened ({reason(error)})"
    raise UserError(f"{path} {problem}: give the path of an existing file")


def _collect(container: av.container.InputContainer, seconds: float) -> tuple[np.ndarray, int]:
    """Mono float32 samples of the first audio stream, and their rate."""
    parts: list[np.ndarray] = []
    rate = count = 0
    for frame in decoded_frames(container):
        rate = rate or frame.sample_rate
        if frame.sample_rate != rate:
            raise UserError("the sample rate changes in the middle of the recording: convert it to wav first")
        parts.append(mono(frame))
        count += len(parts[-1])
        if rate <= 0 or count >= seconds * rate:
            break
    if not parts:
        return np.zeros(0, np.float32), rate
    return np.nan_to_num(np.concatenate(parts)[: int(seconds * max(rate, 1))]).clip(-1, 1), rate


def decoded_frames(container: av.container.InputContainer) -> Iterator[av.AudioFrame]:
    """Decoded frames; packets that cannot be decoded are left out."""
    stream = container.streams.audio[0]
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def mono(frame: av.AudioFrame) -> np.ndarray:
    """One frame as (samples,) float32, channels averaged; integers of any width scaled to [-1, 1]."""
    raw = frame.to_ndarray()
    raw = raw if frame.format.is_planar else raw.reshape(-1, frame.layout.nb_channels).T
    samples: np.ndarray = raw.astype(np.float32)
    if raw.dtype == np.uint8:
        samples = (samples - 128) / 128
    elif raw.dtype.kind == "i":
        samples = samples / 2.0 ** (8 * raw.dtype.itemsize - 1)
    return samples.mean(0)


def reason(error: Exception) -> str:
    """What an error of PyAV or of the system says, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
