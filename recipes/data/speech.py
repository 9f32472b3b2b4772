"""Speech to train on: the clips of a bank, or sentences that espeak speaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from puppet.sentences import Split, sentence
from puppet.speech import speak
from puppet.speech_bank import SpeechBank
from puppet.voices import HELDOUT_VOICES, TRAIN_VOICES, voice


@dataclass(frozen=True)
class Spoken:
    """An utterance.

    Attributes:
        pcm: (samples,) float32 in [-1, 1] at 24 kHz.
        phones: with stress marks; there can be pauses.
        voice: number of the voice in its split.
    """

    pcm: NDArray[np.float32]
    phones: list[str]
    voice: int


class Speech(Protocol):
    """Utterances, numbered from 0, and a name that identifies them."""

    name: str

    def read(self, index: int) -> Spoken:
        """Return an utterance. Raises ValueError if there are not so many."""


class EspeakSpeech:
    """All sentences of a split, spoken by espeak. The voices of the split take turns."""

    name = "espeak"

    def __init__(self, split: Split) -> None:
        self.split, self.voices = split, TRAIN_VOICES if split == "train" else HELDOUT_VOICES

    def read(self, index: int) -> Spoken:
        """Return an utterance."""
        number = index % len(self.voices)
        speech = speak(sentence(self.split, index), voice(self.voices[number]))
        return Spoken(speech.pcm, [phoneme.symbol for phoneme in speech.phonemes], number)

    def of_each_voice(self, count: int) -> list[int]:
        """Indices of the first `count` utterances of each voice, in order."""
        return list(range(count * len(self.voices)))


class BankSpeech:
    """The clips of one split of a bank.

    Attributes:
        name: identifies the speech.

    Raises:
        FileNotFoundError, ValueError: as `SpeechBank`.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.bank = SpeechBank(folder, split)
        self.name = self.bank.key
        self._seeds = [row.seed for row in self.bank.voices]
        self._numbers = {seed: number for number, seed in enumerate(dict.fromkeys(self._seeds))}

    def read(self, index: int) -> Spoken:
        """Return a clip. Raises ValueError if the bank has no such clip."""
        if index >= len(self.bank):
            raise ValueError(
                f"the bank holds {len(self.bank)} clips: write more by python -m puppet.speech_bank, "
                "or use fewer by --set clips"
            )
        clip = self.bank[index]
        return Spoken(clip.samples(), clip.phones, self._numbers[clip.voice.seed])

    def of_each_voice(self, count: int) -> list[int]:
        """Indices of the first `count` clips of each voice that has two or more, in order."""
        own = {seed: [i for i, other in enumerate(self._seeds) if other == seed] for seed in self._numbers}
        return sorted(index for found in own.values() if len(found) > 1 for index in found[:count])


def speech(bank: str, split: Split) -> BankSpeech | EspeakSpeech:
    """The speech of a split: that of the bank in the folder `bank`; that of espeak if `bank` is empty."""
    return BankSpeech(Path(bank), split) if bank else EspeakSpeech(split)
