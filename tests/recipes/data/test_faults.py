"""Faults of clips: the limits of lengths, values, and loudness."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recipes.data.faults import silent, values_fault, words_fault
from recipes.data.transcript import Cue
from talker.clock import HOP
from talker.media.loudness import SPEECH_LEVEL
from talker.text.tokenizer import PhonemeTokenizer


@pytest.mark.parametrize(
    ("start", "end", "good"),
    [(0.0, 2.0, True), (-0.01, 1.0, False), (1.0, 2.99, True), (1.0, 3.01, False), (2.01, 2.5, False)],
)
def test_words_start_in_the_clip_and_end_a_second_after_it_at_most(
    start: float, end: float, good: bool
) -> None:
    fault = words_fault([Cue(start, end, "so it goes")], 50, PhonemeTokenizer())
    assert (fault is None) == good
    assert good or fault.startswith("words outside of the clip: ")


class OneTokenPerLetter:
    def encode(self, text: str) -> list[int]:
        return [0] * len(text)


@pytest.mark.parametrize(
    ("letters", "frames", "good"),
    [(100, 75, True), (101, 75, False), (3, 75, True), (3, 76, False)],  # 0.03 s, less, 1 s, more per token
)
def test_a_token_takes_between_3_hundredths_of_a_second_and_one_second(
    letters: int, frames: int, good: bool
) -> None:
    fault = words_fault([Cue(0.0, 1.0, "a" * letters)], frames, OneTokenPerLetter())
    assert (fault is None) == good
    assert good or fault.startswith("text does not fit its sound: ")


def test_a_text_whose_words_together_are_not_english_is_a_fault() -> None:
    words = ("je", "ne", "sais", "pas", "pourquoi")
    french = [Cue(k / 2, k / 2 + 0.4, word) for k, word in enumerate(words)]
    assert words_fault(french, 75, PhonemeTokenizer()) == "text is not English: French"
    assert words_fault(french[:2], 75, PhonemeTokenizer()) is None


@pytest.mark.parametrize(
    ("value", "good"), [(999.0, True), (-1001.0, False), (math.nan, False), (math.inf, False)]
)
def test_values_are_finite_and_at_most_1000(value: float, good: bool) -> None:
    array = np.zeros((3, 2), np.float32)
    array[1, 1] = value
    assert values_fault("audio", array) == (None if good else "not finite or beyond 1000: audio")


@pytest.mark.parametrize(
    ("decibels", "frames", "expected"), [(-24, 25, False), (-26, 100, True), (-24, 24, True)]
)
def test_sound_is_silent_if_under_a_quarter_of_it_is_above_minus_25_db_of_speech(
    decibels: float, frames: int, expected: bool
) -> None:
    pcm = torch.zeros(100 * HOP)
    pcm[: frames * HOP] = SPEECH_LEVEL * 10 ** (decibels / 20)
    assert silent(pcm) == expected


def test_no_sound_is_silent() -> None:
    assert silent(torch.zeros(0))
