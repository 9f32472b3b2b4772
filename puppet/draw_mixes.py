"""Draw the voices of the corpus: python -m puppet.draw_mixes writes assets/mixes.txt.

Random mixes are kept one by one if they are far enough from all that were kept before. The distance is fitted
to a speaker encoder that was not trained on our voices: over all pairs of 51 voices (131 clips), the cosine
of Resemblyzer's embeddings is .83 - .15 x (distance of the styles) - .71 x |log of the ratio of the tracts|,
with a correlation of .73.
"""

import argparse
import math
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("puppet.draw_mixes")

import numpy as np
from numpy.typing import NDArray

from puppet.mixes import HELDOUT_FIRST, HELDOUT_SPEAKERS, TABLE, Mix
from puppet.teacher import ACCENTED, FOLDER, NATIVE, Teacher

_SHIPPED = (
    ("af_heart", "af_aoede", 60, 101),  # ada
    ("am_puck", "am_liam", 60, 104),  # ben
    ("af_bella", "ef_dora", 65, 95),  # carmen
    ("bm_george", "bm_daniel", 60, 102),  # daniel
    ("bf_isabella", "bf_lily", 60, 106),  # eve
    ("am_fenrir", "am_eric", 55, 94),  # frank
)
_VOICES, _HELDOUT_VOICES = 600, 48
_CANDIDATES = 6000
_ROW = 60  # of the styles: for utterances of 61 letters
_TIMBRE = 128  # the first values of a style; the others are of the prosody


def main() -> None:
    """Draw the voices and write the table."""
    parser = argparse.ArgumentParser("python -m puppet.draw_mixes", description=main.__doc__)
    parser.add_argument(
        "--teacher", type=Path, default=FOLDER, help="folder of the downloaded speech synthesiser"
    )
    teacher = Teacher(parser.parse_args().teacher)
    shipped = [Mix(number, *values) for number, values in enumerate(_SHIPPED)]
    lines = [
        "# number first second percent tract: written by puppet.draw_mixes; 0 to 5 are the shipped voices"
    ]
    for heldout, start, wanted in ((False, shipped, _VOICES), (True, [], _HELDOUT_VOICES)):
        pool = [candidate(seed, heldout) for seed in range(_CANDIDATES)]
        kept = spread(teacher, [*start, *pool], wanted)
        first = HELDOUT_FIRST if heldout else 0
        lines += [
            f"{first + n} {mix.first} {mix.second} {mix.percent} {mix.tract_percent}"
            for n, mix in enumerate(kept)
        ]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def candidate(seed: int, heldout: bool) -> Mix:
    """Draw a mix: usually of one sex, and with at least one native speaker in nine of ten."""
    rng = np.random.default_rng([seed, 0xA11CE])
    native, accented = (
        [name for name in names if (name in HELDOUT_SPEAKERS) == heldout] for names in (NATIVE, ACCENTED)
    )
    pools = ((native, native), (native, accented), (accented, accented))
    while True:
        pool = pools[int(rng.choice(3, p=[0.45, 0.45, 0.1]))]
        first, second = (names[int(rng.integers(len(names)))] for names in pool)
        if first != second and (first[1] == second[1] or rng.random() < 0.1):
            break
    return Mix(seed, first, second, int(rng.integers(35, 66)), int(rng.integers(90, 111)))


def spread(teacher: Teacher, mixes: list[Mix], wanted: int) -> list[Mix]:
    """Keep `wanted` mixes, in their order, with the largest least distance that leaves so many."""
    points = np.stack([_point(teacher, mix) for mix in mixes])
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if len(_apart(points, middle)) >= wanted else (low, middle)
    print(f"{wanted} voices of {len(mixes)} are at least {low:.3f} apart")
    return [mixes[index] for index in _apart(points, low)[:wanted]]


def _point(teacher: Teacher, mix: Mix) -> NDArray[np.float64]:
    """Position of a mix; the distance of two is about how much less alike they are than equal voices."""
    style = sum(share * teacher.style(name)[_ROW, :_TIMBRE] for name, share in mix.shares.items())
    return np.append(0.15 * np.asarray(style), 0.71 * math.log(mix.tract))


def _apart(points: NDArray[np.float64], distance: float) -> list[int]:
    kept: list[int] = []
    for index, point in enumerate(points):
        if not kept or np.linalg.norm(points[kept] - point, axis=1).min() >= distance:
            kept.append(index)
    return kept


if __name__ == "__main__":
    main()
