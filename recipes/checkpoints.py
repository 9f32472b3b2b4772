"""Files of a run folder that hold weights: checkpoints, initial weights, and a batch that could not be used.

state.pt                   the newest checkpoint
checkpoints/STEP.pt        the newest KEPT checkpoints; state.pt is a hard link to the last of them
begin.safetensors          weights that a run without a checkpoint starts from (--begin)
bad_step_STEP_rank_N.pt    the batch of the step at which training gave up
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from recipes import ranks
from talker.checkpoint import atomic

STATE, BEGIN = "state.pt", "begin.safetensors"
KEPT = 2  # checkpoints


class Checkpoints:
    """The checkpoints of the run folder `run`. A process killed at any moment leaves a complete one."""

    def __init__(self, run: Path) -> None:
        self.run = run

    @property
    def newest(self) -> Path:
        """Path of the newest checkpoint."""
        return self.run / STATE

    def write(self, state: dict[str, Any], step: int) -> None:
        """Write `state`, after `step` steps, as the newest checkpoint, and delete old ones.

        Only rank 0 calls it.
        """
        folder = self.run / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in (*folder.glob(".*.pt.*"), *self.run.glob(f".{STATE}.*")):  # of a killed process
            leftover.unlink()
        path = folder / f"{step:08d}.pt"
        with atomic(path) as temporary:
            torch.save(state, temporary)
        with atomic(self.newest) as temporary:
            temporary.unlink()
            try:
                os.link(path, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, temporary)
        for old in sorted(folder.glob("*.pt"))[:-KEPT]:
            old.unlink()

    def write_bad_batch(self, batch: Any, step: int) -> Path:
        """Write this rank's `batch` of step `step`; returns the path."""
        path = self.run / f"bad_step_{step}_rank_{ranks.rank()}.pt"
        torch.save(plain_tensors(batch), path)
        return path

    def initial_weights(self) -> dict[str, Tensor] | None:
        """Return the weights that `place_initial_weights` wrote; None if there are none."""
        path = self.run / BEGIN
        return load_file(path) if path.exists() else None


def read_state(run: Path) -> dict[str, Any]:
    """Return the newest checkpoint of a run folder, on the CPU; if it is damaged, the one before.

    Raises:
        ValueError: no checkpoint can be read.
    """
    for path in (run / STATE, *sorted((run / "checkpoints").glob("*.pt"), reverse=True)):
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
            return state
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            if ranks.rank() == 0:
                print(f"{path} cannot be read ({str(error).splitlines()[0]})", flush=True)
    raise ValueError(f"{run} has no checkpoint that can be read: remove the folder, or choose another --run")


def averaged_weights(run: Path, part: str = "") -> dict[str, Tensor]:
    """Return the averaged weights in a run folder; those of the submodule `part`, if it is named."""
    return submodule_weights(read_state(run)["ema"], part)


def submodule_weights(weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the weights of the submodule `part`, under its own names.

    `weights` may be a state dict of the whole module or of the part alone, which is returned as it is: old
    checkpoints hold an average of the whole module, new ones of the part.
    """
    prefix = f"{part}." if part else ""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)} or weights


def place_initial_weights(run: Path, component: Path) -> None:
    """Copy the weights of an exported component into a run folder that has no checkpoint yet.

    If the run has a checkpoint, print that it continues from there and copy nothing.

    Raises:
        ValueError: the component's weights are missing or damaged.
    """
    weights = component / "model.safetensors"
    try:
        with safe_open(weights, "pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise ValueError(f"--begin {component}: {weights} cannot be read ({error})") from error
    if (run / STATE).exists():
        print(f"{run} continues from its checkpoint and ignores --begin, which is for new runs", flush=True)
        return
    run.mkdir(parents=True, exist_ok=True)
    with atomic(run / BEGIN) as temporary:
        shutil.copyfile(weights, temporary)


def plain_tensors(value: Any) -> Any:
    """Return `value` with dataclasses as dictionaries, in lists and tuples too.

    torch.load reads the result with weights_only=True.
    """
    if dataclasses.is_dataclass(value):
        return {field.name: plain_tensors(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [plain_tensors(item) for item in value] if isinstance(value, list | tuple) else value
