"""A stand-in for the corpus's teacher, for tests without its files."""

import time
from pathlib import Path

import numpy as np

from puppet import speech_bank
from puppet.mixes import Mix
from puppet.teacher import FRAME, Utterance
from talker.clock import SAMPLE_RATE
from talker.text.phonemes import STRESS_MARKS

KEY = "0123456789abcdef"  # of a bank, in place of the digits that identify what it depends on
VOWELS = "iɪɛæɑɔʊuʌəɜɚɐeao"


class ToneTeacher:
    """Speaks vowels as loud tones, consonants as faint noise and the rest as silence, 4 frames each."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.spoken = pause, 0

    def speak(self, tokens: list[str], speaker: Mix, speed: float) -> Utterance:
        time.sleep(self.pause)
        self.spoken += 1
        rng, lead, durations = np.random.default_rng(len(tokens)), 10, [4] * len(tokens)
        pieces = [np.zeros(lead * FRAME)]
        for token in tokens:
            samples = np.arange(4 * FRAME) / SAMPLE_RATE
            if token in " ,.?!":
                pieces.append(0 * samples)
            elif token.lstrip(STRESS_MARKS)[0] in VOWELS:
                pieces.append(0.3 * np.sign(np.sin(2 * np.pi * 150 * samples)))
            else:
                pieces.append(0.01 * rng.standard_normal(len(samples)))
        return Utterance(np.concatenate(pieces).astype(np.float32), lead, durations)


def write_slowly(folder: Path, shard: int) -> None:
    """Write an hour of speech in files of `shard` clips: a process to kill."""
    speech_bank.SHARD, speech_bank.key = shard, lambda: KEY  # computing the key takes 1 s
    speech_bank.write(folder, 1, teacher=ToneTeacher(pause=0.02))
