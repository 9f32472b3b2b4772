"""Compares the phoneme error rate of speech in half precision with that in float32, on the same sentences.

python benchmarks/precision.py [--model M] [--dtype bfloat16] [-n 150] [--capacity 8] [--threads 2]

Generates held-out sentences of the corpus with the shipped voices in turn, and transcribes them with the
recogniser of the project. Prints the difference and its 95 % interval (paired bootstrap over sentences).
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from evaluation.speech import phoneme_errors, recogniser
from puppet.sentences import sentence
from talker.pipeline import Talker
from talker.shipped import shipped_names
from talker.text.tokenizer import PhonemeTokenizer

RESAMPLES = 10_000


def errors_of(model: str | None, dtype: str, texts: list[str], capacity: int) -> np.ndarray:
    """Number of edits and number of phonemes of each sentence: (n, 2)."""
    talker, phones = Talker.from_pretrained(model, dtype=dtype), PhonemeTokenizer().phones
    voices = [talker.voice(name) for name in shipped_names("voices")]
    clips = [
        talker.say(text, voices[number % len(voices)], seed=number, audio_only=True)
        for number, text in enumerate(texts)
    ]
    found = []
    for text, take in zip(texts, talker.map(clips, capacity), strict=True):
        pcm = torch.from_numpy(np.concatenate([chunk.pcm for chunk in take]))
        errors = phoneme_errors(recogniser().transcribe(pcm), phones(text))
        found.append((errors.edits, errors.reference))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16"))
    parser.add_argument("-n", type=int, default=150)
    parser.add_argument("--capacity", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    texts = [sentence("heldout", index) for index in range(options.n)]
    wide, half = (
        errors_of(options.model, dtype, texts, options.capacity) for dtype in ("float32", options.dtype)
    )
    for name, found in (("float32", wide), (options.dtype, half)):
        print(f"{name:>9}: PER {100 * found[:, 0].sum() / found[:, 1].sum():.2f} %")
    drawn = np.random.default_rng(0).integers(0, options.n, (RESAMPLES, options.n))
    edits, phonemes = half[:, 0] - wide[:, 0], wide[:, 1]
    differences = 100 * edits[drawn].sum(1) / phonemes[drawn].sum(1)
    low, high = np.percentile(differences, [2.5, 97.5])
    print(
        f"{options.dtype} - float32: {100 * edits.sum() / phonemes.sum():+.2f} points "
        f"(95 % interval {low:+.2f} to {high:+.2f}), {options.n} sentences"
    )


if __name__ == "__main__":
    main()
