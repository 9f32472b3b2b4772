"""Voices whose recording is the prefix of the speech: a sentence of its own, or the start of the text."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from talker.clips.text import sentences_of
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.errors import UserError
from talker.identity import Voice
from talker.media.loudness import LoudnessNormalizer
from talker.system import System

LONGEST_PREFIX_SECONDS = 10
# Least and greatest length of a recording, in usual lengths of its transcript; pauses are added.
FASTEST, SLOWEST, PAUSES = 0.4, 3.0, 2.0


def clone_voice(
    system: System, voice: Voice, pcm: Tensor, text: str | None, prefix_seconds: float | None
) -> Voice:
    """Add whole patches of the recording to a voice as its prefix.

    Args:
        system: the networks.
        voice: the voice without a prefix.
        pcm: (samples,) the recording, mono at 24 kHz.
        text, prefix_seconds: see `Talker.voice`.

    Raises:
        UserError: both options are given, the recording is too short or too long, or the text cannot be
            spoken.
    """
    if text is not None and prefix_seconds is not None:
        raise UserError("give the text of the recording or the seconds of its prefix, not both")
    samples, size = len(pcm), system.patch_frames * HOP
    if prefix_seconds is not None:
        samples = int(min(samples, prefix_seconds * SAMPLE_RATE)) if prefix_seconds > 0 else 0
    samples -= samples % size
    if not samples:
        raise UserError(f"the prefix is too short: give at least {system.patch_frames / FRAME_RATE} s")
    if samples > LONGEST_PREFIX_SECONDS * SAMPLE_RATE:
        seconds = samples / SAMPLE_RATE
        raise UserError(f"the prefix of {seconds:.1f} s is too long: give {LONGEST_PREFIX_SECONDS} s or less")
    said = "" if text is None else " ".join(sentences_of(system, text))
    if said:
        _check_pace(system, said, samples / SAMPLE_RATE)
    return replace(voice, prefix=system.encode(LoudnessNormalizer()(pcm[:samples])), said=said)


def _check_pace(system: System, said: str, seconds: float) -> None:
    """Raise UserError if a transcript cannot be that of a recording of this length."""
    usual = system.generator.durations(said).usual
    if seconds < FASTEST * usual:
        raise UserError(
            f"the text of the voice's recording is too long for {seconds:.1f} s: give the words in it"
        )
    if seconds > SLOWEST * usual + PAUSES:
        raise UserError(
            f"the text of the voice's recording is too short for {seconds:.1f} s: give all words in it"
        )
