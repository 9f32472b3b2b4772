"""The file between the second and the third stage: the encoded clips (samples) of one video."""

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

_METADATA = "told"  # key of the JSON text in the .npz file; existing files have it, so it stays


@dataclass(frozen=True)
class Sample:
    """One clip for training.

    Attributes:
        key: unique name of the clip.
        audio, motion: raw latents (T, C) float16.
        speaker: speaker embedding (S,) float16.
        cues: the transcript, with times in seconds of the clip.
        voice: name of the speaker.
        heldout: whether the clip is held out from training; None: decided by its voice.
    """

    key: str
    audio: NDArray[np.float16]
    motion: NDArray[np.float16]
    speaker: NDArray[np.float16]
    cues: tuple[Cue, ...]
    voice: str
    heldout: bool | None = None

    @property
    def fault(self) -> str | None:
        """The fault of its arrays' values, as "reason: detail", or None."""
        return next(filter(None, (values_fault(name, getattr(self, name)) for name in MEMBERS)), None)


def write_samples(path: Path, samples: Sequence[Sample], lost: dict[str, int], notes: Sequence[str]) -> None:
    """Write the samples of a video, and what was left out of it, in one atomic replacement.

    Args:
        path: the .npz file to write.
        samples: the clips that are kept.
        lost: number of clips that are left out, by reason.
        notes: one line for each of these clips.
    """
    arrays: dict[str, NDArray[Any]] = {}
    rows = []
    for number, sample in enumerate(samples):
        for name in MEMBERS:
            arrays[f"{number}.{name}"] = getattr(sample, name)
        row = {"key": sample.key, "voice": sample.voice, "heldout": sample.heldout}
        rows.append(row | {"cues": [asdict(cue) for cue in sample.cues]})
    text = json.dumps({"samples": rows, "lost": lost, "notes": list(notes)})
    metadata = {_METADATA: np.frombuffer(text.encode(), np.uint8)}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **metadata, **arrays)


def read_metadata(path: Path) -> dict[str, Any]:
    """Read `samples` (without their arrays), `lost` and `notes` of a file that `write_samples` wrote."""
    with np.load(path) as held:
        metadata: dict[str, Any] = json.loads(held[_METADATA].tobytes())
    return metadata


def read_samples(path: Path) -> list[Sample]:
    """Read the samples that `write_samples` wrote."""
    rows = read_metadata(path)["samples"]
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
            for number, row in enumerate(rows)
        ]
