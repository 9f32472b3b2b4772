"""Arrays that are computed once and stored in several files, so that an interrupted computation resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talker.checkpoint import atomic
from talker.progress import Progress

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
    ranges = [range(first, min(first + size, count)) for first in range(0, count, size)]
    paths = {folder / f"{numbers.start:06d}-{numbers.stop:06d}.npz": numbers for numbers in ranges}
    missing = {path: numbers for path, numbers in paths.items() if not path.exists()}
    with Progress(str(folder), sum(map(len, missing.values())), shown=len(missing) > 0) as progress:
        for path, numbers in missing.items():
            made = make(numbers)
            with atomic(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **made)
            progress.advance(len(numbers))
    parts: list[Arrays] = []
    for path in paths:
        with np.load(path) as held:
            parts.append({name: held[name] for name in held.files})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def claim(folder: Path, kind: str, digest: str) -> None:
    """Store in `folder` what its content depends on.

    Args:
        folder: created if missing.
        kind: what the content depends on, a file name: "weights", "speech".
        digest: identifies it.

    Raises:
        ValueError: the folder was made by something else, or by a version that did not store it.
    """
    stored = folder / kind
    if not stored.exists() and not any(folder.glob("*.npz")):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(stored) as temporary:
            temporary.write_text(digest)
    elif not stored.exists() or stored.read_text() != digest:
        raise ValueError(f"{folder} was made by other {kind} than now: remove the folder")
