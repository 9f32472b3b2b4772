"""Arrays that are computed once and stored in several files, so that an interrupted computation resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talker.checkpoint import atomic

Arrays = dict[str, NDArray[Any]]


def shards(folder: Path, count: int, size: int, make: Callable[[range], Arrays]) -> Arrays:
    """Load the arrays of items 0..count - 1, computing the files that do not exist yet.

    Args:
        folder: holds one .npz file for every `size` items; created if missing.
        count: number of items.
        size: items per file.
        make: computes the arrays of a range of items; items lie along the first axis.

    Returns:
        The arrays by name, concatenated over all files along their first axis.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"the number of clips is {count}; it must be at least 1")
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Arrays] = []
    for first in range(0, count, size):
        numbers = range(first, min(first + size, count))
        path = folder / f"{first:06d}-{numbers.stop:06d}.npz"
        if not path.exists():
            made = make(numbers)
            with atomic(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **made)
            print(f"{path}: written", flush=True)
        with np.load(path) as held:
            parts.append({name: held[name] for name in held.files})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
