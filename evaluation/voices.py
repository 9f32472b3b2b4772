"""Measure the phoneme error rate of speech in each shipped voice.

    python -m evaluation.voices [-n 40] [--write]

Generates the same held-out sentences, speech alone, in every shipped voice and transcribes them with the
recogniser of the project. `--write` stores the rates where `talker info` reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("evaluation.voices")

import numpy as np
import torch
from tqdm import tqdm

from evaluation.report import write_json
from evaluation.speech import Errors, phoneme_errors, recogniser
from evaluation.threads import torch_threads
from puppet.sentences import sentence
from talker.pipeline import Talker
from talker.shipped import VOICE_MEASURES, shipped_names
from talker.text.tokenizer import PhonemeTokenizer


def voice_error_rate(talker: Talker, voice: str, texts: Sequence[str], capacity: int = 8) -> float:
    """Phoneme error rate over all texts in a voice, each generated with its index as seed."""
    spoken, phones = talker.voice(voice), PhonemeTokenizer().phones
    clips = [talker.say(text, spoken, seed=seed, audio_only=True) for seed, text in enumerate(texts)]
    total = Errors()
    for text, take in zip(texts, talker.map(clips, capacity), strict=True):
        pcm = torch.from_numpy(np.concatenate([chunk.pcm for chunk in take]))
        total += phoneme_errors(recogniser().transcribe(pcm), phones(text))
    return total.rate


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=40, help="number of sentences")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--write", action="store_true", help=f"store the rates in {VOICE_MEASURES.name}")
    options = parser.parse_args()
    texts = [sentence("heldout", index) for index in range(options.n)]
    rates: dict[str, float] = {}
    with torch_threads(options.threads):
        talker = Talker.from_pretrained()
        for voice in tqdm(shipped_names("voices"), unit="voice"):
            rates[voice] = round(voice_error_rate(talker, voice, texts), 3)
    for voice, rate in rates.items():
        print(f"{voice:8} {100 * rate:5.1f} %")
    if options.write:
        write_json({"sentences": options.n, "phoneme_error_rate": rates}, VOICE_MEASURES)


if __name__ == "__main__":
    main()
