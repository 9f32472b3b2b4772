"""Estimate the models of the phones that `puppet.timing` aligns with, from the first clips of a bank.

python -m puppet.fit_timing runs/speech     # writes puppet/assets/phone_models.npz
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("puppet.fit_timing")

import numpy as np
from numpy.typing import NDArray

from puppet.speech import PAUSE
from puppet.speech_bank import Record, SpeechBank
from puppet.timing import MODELS, Models, align, expected_starts, features, sequence, states_of

_LEAST_STD = 0.5
_QUIET = -5.0  # mean feature of a frame, in nats below loud speech (22 dB)
_LEAST_FRAMES = 20  # a state with fewer has no model


def estimate(records: Sequence[Record]) -> Models:
    """Estimate the models from clips.

    The first borders are the teacher's, each phone being cut in half; four alignments refine them.
    """
    held = []
    for one in records:
        names, spectrum = sequence(one.tokens)[0], features(one.samples())
        centres = [0.0, *expected_starts(one.tokens, one.bounds, one.voice.tract), float(len(spectrum))]
        halves = [
            (a, (a + b) / 2) if name != PAUSE else (a,)
            for name, (a, b) in zip(names, pairwise(centres), strict=True)
        ]
        edges = [min(max(round(x), 0), len(spectrum)) for pair in halves for x in pair] + [len(spectrum)]
        held.append((names, centres[1:-1], spectrum, edges))
    for repeat in range(5):
        parts: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        for names, _, spectrum, edges in held:
            for state, (a, b) in zip(states_of(names)[0], pairwise(edges), strict=True):
                parts[state].append(spectrum[a:b])
        whole = {state: np.concatenate(found) for state, found in parts.items()}
        # Most gaps between words are no pauses: the sound of their neighbours is not the sound of a pause.
        whole["_"] = whole["_"][whole["_"].mean(1) < _QUIET]
        result = {
            state: (x.mean(0), np.maximum(x.std(0), _LEAST_STD))
            for state, x in whole.items()
            if len(x) >= _LEAST_FRAMES
        }
        if repeat < 4:
            held = [(n, e, s, align(n, e, s, result)[1]) for n, e, s, _ in held]
    return result


def main() -> None:
    """Estimate the models of the phones."""
    parser = argparse.ArgumentParser("python -m puppet.fit_timing", description=main.__doc__)
    parser.add_argument("bank", type=Path)
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--clips", type=int, default=600, help="number of clips")
    options = parser.parse_args()
    bank = SpeechBank(options.bank, options.split)
    clips = [bank[index] for index in range(min(options.clips, len(bank)))]
    found = estimate(clips)
    names = sorted(found)
    np.savez(
        MODELS,
        names=np.frombuffer(" ".join(names).encode(), np.uint8),
        mean=np.stack([found[name][0] for name in names]).astype(np.float16),
        std=np.stack([found[name][1] for name in names]).astype(np.float16),
    )
    print(f"{MODELS}: {len(names)} states from {len(clips)} clips")


if __name__ == "__main__":
    main()
