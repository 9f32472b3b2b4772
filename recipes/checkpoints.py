"""What lies in a run folder: checkpoints, which may be damaged, and weights to begin with."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes import ranks

STATE, BEGIN = "state.pt", "begin.safetensors"


def read_state(run: Path) -> dict[str, Any]:
    """The newest checkpoint of a run folder, on the CPU; where it is damaged, the one before.

    Raises:
        ValueError: there is none that can be read.
    """
    for path in (run / STATE, *sorted((run / "checkpoints").glob("*.pt"), reverse=True)):
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
            return state
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            if ranks.rank() == 0:
                print(f"{path} cannot be read ({str(error).splitlines()[0]})", flush=True)
    raise ValueError(f"{run} holds no checkpoint that can be read: remove it, or name another --run")


def averaged_weights(run: Path, part: str = "") -> dict[str, Tensor]:
    """The moving average that a run folder holds; of the submodule `part`, where a recipe averages that."""
    return part_of(read_state(run)["ema"], part)


def part_of(weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The weights of the submodule `part` among those of the whole; `weights` where they are its own (older
    checkpoints hold averages of the whole, newer ones of the part)."""
    start = f"{part}." if part else ""
    return {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)} or weights
