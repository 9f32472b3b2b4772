"""What lies between the second stage and the third: the samples of one video in one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.data.faults import values_fault
from recipes.data.tar_shards import MEMBERS
from recipes.data.transcript import Cue
from talker.checkpoint import atomic


@dataclass(frozen=True)
class Sample:
    """One clip for training: float16 latents (T, C) of both streams, embedding (S,), cues in its seconds."""

    key: str
    audio: NDArray[np.float16]
    motion: NDArray[np.float16]
    speaker: NDArray[np.float16]
    cues: tuple[Cue, ...]
    voice: str
    heldout: bool | None = None

    @property
    def fault(self) -> str | None:
        """Why it cannot be trained on, as "reason: detail", for its values' sake."""
        return next(filter(None, (values_fault(name, getattr(self, name)) for name in MEMBERS)), None)


def write_samples(path: Path, samples: Sequence[Sample], lost: dict[str, int], notes: Sequence[str]) -> None:
    """A video's samples and what was lost on the way, in one file that is whole or not there."""
    arrays: dict[str, NDArray[Any]] = {}
    told = []
    for number, sample in enumerate(samples):
        for name in MEMBERS:
            arrays[f"{number}.{name}"] = getattr(sample, name)
        row = {"key": sample.key, "voice": sample.voice, "heldout": sample.heldout}
        told.append(row | {"cues": [asdict(cue) for cue in sample.cues]})
    text = json.dumps({"samples": told, "lost": lost, "notes": list(notes)})
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, told=np.frombuffer(text.encode(), np.uint8), **arrays)


def read_told(path: Path) -> dict[str, Any]:
    """`samples` (all but their arrays), `lost` and `notes` of a file that `write_samples` wrote."""
    with np.load(path) as held:
        told: dict[str, Any] = json.loads(held["told"].tobytes())
    return told


def read_samples(path: Path) -> list[Sample]:
    """The samples that `write_samples` wrote."""
    told = read_told(path)["samples"]
    with np.load(path) as held:
        return [
            Sample(
                row["key"],
                held[f"{number}.audio"],
                held[f"{number}.motion"],
                held[f"{number}.speaker"],
                tuple(Cue(**cue) for cue in row["cues"]),
                row["voice"],
                row["heldout"],
            )
            for number, row in enumerate(told)
        ]
