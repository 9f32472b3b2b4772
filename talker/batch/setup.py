"""What the workers of a batch need to know. Imports no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setup:
    """Settings of a worker.

    Attributes:
        out: folder of the results.
        root: folder that contains all inputs.
        model: checkpoint folder.
        capacity: rows of the running batch.
        threads: CPU threads of an operation.
    """

    out: Path
    root: Path
    model: Path
    capacity: int
    threads: int = 1
