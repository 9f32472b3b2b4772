"""Made once, kept in pieces: what a recipe prepares before it trains, resumable after any kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talker.checkpoint import atomic

Arrays = dict[str, NDArray[Any]]


def shards(folder: Path, count: int, size: int, make: Callable[[range], Arrays]) -> Arrays:
    """Items 0..count-1, `size` to a file under `folder`, concatenated along their first axis.

    `make(numbers)` gives the arrays of some items; it is called for the files that are not there yet.

    Raises:
        ValueError: nothing is asked for.
    """
    if count < 1:
        raise ValueError(f"{count} clips are none to train on or to validate with: ask for more")
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Arrays] = []
    for first in range(0, count, size):
        numbers = range(first, min(first + size, count))
        path = folder / f"{first:06d}-{numbers.stop:06d}.npz"
        if not path.exists():
            made = make(numbers)
            with atomic(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **made)
            print(f"{path}: made", flush=True)
        with np.load(path) as held:
            parts.append({name: held[name] for name in held.files})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
