"""The voices of the corpus: mixes of two of the teacher's speakers with a scaled vocal tract."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from puppet.sentences import Split

HELDOUT_SPEAKERS = ("af_sarah", "am_michael", "bf_emma", "bm_lewis", "em_alex", "if_sara")
"""Speakers that only held-out voices consist of."""

HELDOUT_FIRST = 100_000
"""The number of the first held-out voice."""

SHIPPED = {"ada": 0, "ben": 1, "carmen": 2, "daniel": 3, "eve": 4, "frank": 5}
"""Numbers of the shipped voices."""

TABLE = Path(__file__).with_name("assets") / "mixes.txt"


@dataclass(frozen=True)
class Mix:
    """One voice.

    Attributes:
        seed: number of the voice.
        first, second: speakers of the teacher.
        percent: share of `first` in the style; the rest is that of `second`.
        tract_percent: all resonances and the pitch are scaled by it; above 100 is a shorter vocal tract.
    """

    seed: int
    first: str
    second: str
    percent: int
    tract_percent: int

    @property
    def shares(self) -> Mapping[str, float]:
        """Share of each speaker's style."""
        return {self.first: self.percent / 100, self.second: 1 - self.percent / 100}

    @property
    def tract(self) -> float:
        """Factor of all resonances."""
        return self.tract_percent / 100


@cache
def mixes() -> dict[int, Mix]:
    """Every voice by its number, from assets/mixes.txt."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = [line.split("#")[0].split() for line in lines]
    found = [Mix(int(row[0]), row[1], row[2], int(row[3]), int(row[4])) for row in rows if row]
    return {mix.seed: mix for mix in found}


def voices(split: Split) -> list[int]:
    """Numbers of the voices of a split."""
    return [seed for seed in mixes() if (seed >= HELDOUT_FIRST) == (split == "heldout")]
