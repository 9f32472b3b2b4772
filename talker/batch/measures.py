"""Measures of a finished clip, read from its file: words, lips, loudness, voice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from evaluation.report import TILE, waveform
from evaluation.speech import Errors, phoneme_errors, recogniser
from evaluation.sync import MAX_OFFSET, Sync, best, embed_frames, offset_scores, sync_net
from talker.clips.windows import at_pauses
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.identity import Voice
from talker.media.face_track import FaceTrack
from talker.media.loudness import loudness_profile
from talker.media.programme import decode_programme, loudness_of
from talker.media.readers import blocks, stream_audio
from talker.media.tracks import find_sound_track
from talker.system import System
from talker.text.tokenizer import PhonemeTokenizer

WINDOW = 10 * FRAME_RATE  # frames that are compared with their sound at once
RECOGNISED_SECONDS = 20.0  # longest part that the recogniser hears at once
VOICE_SECONDS = 30
TILES, STRIP_WAVE = 8, 48  # pictures of a strip; height of the waveform below it
PEAKS = 64  # samples per value of the waveform


@dataclass(frozen=True)
class Spoken:
    """Words in a part of the finished clip: seconds start..end."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Measured:
    """Measures of a clip, and a picture strip with its waveform."""

    metrics: dict[str, Any]
    strip: Image.Image


def measure(
    system: System, path: Path, track: FaceTrack, spoken: Sequence[Spoken], voice: Voice | None
) -> Measured:
    """Measure a finished clip.

    The metrics are `per` (phoneme error rate), `phonemes` (their number), `offset` (frames by which the sound
    is late), `confidence`, `loudness` (LUFS) and `voice_similarity` (cosine); None where there is nothing to
    measure.

    Args:
        system: gives the speaker embedding.
        path: the file; its default audio track is measured.
        track: where the face is in it.
        spoken: the words and where they are; those without text are not compared.
        voice: the voice that was asked for; None if there is none.
    """
    errors, heard = Errors(), list[Tensor]()
    for part, pcm in zip(spoken, _parts(path, spoken), strict=True):
        if part.text:
            errors += phoneme_errors(_recognised(pcm), PhonemeTokenizer().phones(part.text))
        if sum(map(len, heard)) < VOICE_SECONDS * SAMPLE_RATE:
            heard.append(pcm)
    sync, picture = _watched(path, track, spoken)
    stream = find_sound_track(path)
    assert stream is not None
    level = loudness_of(decode_programme(path, stream, SAMPLE_RATE, "mono", Fraction(0)), SAMPLE_RATE)
    metrics = {
        "per": round(errors.rate, 4) if errors.reference else None,
        "phonemes": errors.reference,
        "offset": None if sync is None else sync.offset,
        "confidence": None if sync is None else round(sync.confidence, 4),
        "loudness": round(level, 2) if np.isfinite(level) else None,
        "voice_similarity": _similarity(system, heard, voice),
    }
    return Measured(metrics, picture)


def _parts(path: Path, spoken: Sequence[Spoken]) -> Iterator[Tensor]:
    """The samples (n,) at 24 kHz of each part, of which only one is in memory."""
    sound, done = blocks(stream_audio(path), 1200), 0
    held = torch.zeros(0)
    for part in spoken:
        first, last = round(part.start * SAMPLE_RATE), round(part.end * SAMPLE_RATE)
        pieces, count = [held], len(held)
        while done + count < last and (piece := next(sound, None)) is not None:
            count += len(piece)
            if done + count <= first:
                done, count, pieces = done + count, 0, []
            else:
                pieces.append(piece)
        joined = torch.cat(pieces) if pieces else held[:0]
        yield joined[max(0, first - done) : last - done]
        held = joined[max(0, last - done) :]
        done = max(done, min(last, done + len(joined)))


def _recognised(pcm: Tensor) -> list[str]:
    """Phonemes in samples (n,); long speech is divided at pauses."""
    if len(pcm) < HOP:
        return []
    lengths = at_pauses(loudness_profile([pcm]).speech_mask, 1, RECOGNISED_SECONDS)
    pieces = pcm.tensor_split((HOP * np.cumsum(lengths)[:-1]).tolist())
    return [phoneme for piece in pieces for phoneme in recogniser().transcribe(piece)]


def _watched(path: Path, track: FaceTrack, spoken: Sequence[Spoken]) -> tuple[Sync | None, Image.Image]:
    """Offset over all windows in which words are spoken (None without such a window), and the strip."""
    net, total, weight = sync_net(), torch.zeros(2 * MAX_OFFSET + 1), 0
    pictures, tiles, peaks = track.pictures(path, TILE), list[Image.Image](), [np.zeros(1, np.float32)]
    wanted = np.linspace(0, max(0.0, float(track.seconds) * FRAME_RATE - 1), TILES).round()
    for number, pcm in enumerate(blocks(stream_audio(path), WINDOW * HOP)):
        peaks.append(_peaks(pcm))
        frames = [(picture[0] + 1) / 2 for picture in islice(pictures, WINDOW)]
        start = number * WINDOW
        for index in wanted[(wanted >= start) & (wanted < start + len(frames))]:
            pixels = 255 * frames[int(index) - start].permute(1, 2, 0).numpy()
            tiles.append(Image.fromarray(pixels.round().astype(np.uint8)))
        length = min(len(frames), len(pcm) // HOP)
        words = any(
            part.start * FRAME_RATE < start + length and part.end * FRAME_RATE > start for part in spoken
        )
        if length > MAX_OFFSET and words:
            with torch.inference_mode():
                visual = embed_frames(net, torch.stack(frames[:length]))
                audio = net.embed_audio(pcm[None, : length * HOP])
                total, weight = total + length * offset_scores(visual, audio)[0], weight + length
    sheet = Image.new("RGB", (TILES * TILE, TILE + STRIP_WAVE), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number * TILE, 0))
    sheet.paste(waveform(np.concatenate(peaks), TILES * TILE, STRIP_WAVE), (0, TILE))
    return best(total / weight) if weight else None, sheet


def _peaks(pcm: Tensor) -> NDArray[np.float32]:
    """The largest sample of each group of PEAKS: enough for a waveform, and small for long clips."""
    groups = pcm[: len(pcm) // PEAKS * PEAKS].view(-1, PEAKS)
    chosen: NDArray[np.float32] = groups.gather(1, groups.abs().argmax(1, keepdim=True))[:, 0].numpy()
    return chosen


def _similarity(system: System, heard: list[Tensor], voice: Voice | None) -> float | None:
    """Cosine between the speaker embeddings of the first speech and of a voice."""
    pcm = torch.cat(heard)[: VOICE_SECONDS * SAMPLE_RATE] if heard else torch.zeros(0)
    if voice is None or len(pcm) < SAMPLE_RATE or not pcm.any():
        return None
    made = system.embed_voice(pcm)
    return round(float(torch.nn.functional.cosine_similarity(made, voice.embedding, dim=0)), 4)
