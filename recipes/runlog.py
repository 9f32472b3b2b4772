"""The log of a run: `log.jsonl`, TensorBoard and stdout; means of losses, speed and memory."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from recipes import ranks
from recipes.device import peak_flops


class RunLog:
    """Writes lines to stdout, to `run/log.jsonl` and to `run/tensorboard`. Only rank 0 writes."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._tensorboard: Any = None

    def write(self, step: int, seconds: float, **values: Any) -> None:
        """Write one line: step, minutes of training so far, and `values`; TensorBoard gets the numbers."""
        if ranks.rank() > 0:
            return
        row = {"step": step, "minutes": round(seconds / 60, 2), **values}
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        with contextlib.suppress(OSError):  # the terminal was closed; the file has the line
            tqdm.write("  ".join(shown))
        if self._tensorboard is None:
            self._tensorboard = tensorboard(self.run / "tensorboard", step)
        for name, value in values.items():
            if self._tensorboard and isinstance(value, int | float):
                self._tensorboard.add_scalar(name, value, step)


def tensorboard(folder: Path, step: int) -> Any:
    """Return a TensorBoard writer that continues at `step`; False if the extra `train` is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    return SummaryWriter(str(folder), purge_step=step)


class Means:
    """Means of named scalars over ranks and over the steps since the last line of the log."""

    def __init__(self) -> None:
        self._local: dict[str, list[Tensor]] = {}  # of this rank, not yet averaged over ranks
        self._averaged: dict[str, list[Tensor]] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Add this rank's scalars of one step."""
        for name, value in values.items():
            self._local.setdefault(name, []).append(value.detach())

    def take(self) -> dict[str, float]:
        """Return the means since the last call and start anew; empty if nothing was added.

        All ranks call it together.
        """
        values, self._averaged = self.state(), {}
        return {name: torch.stack(each).mean().item() for name, each in values.items()}

    def state(self) -> dict[str, list[Tensor]]:
        """Return all values since the last `take`, averaged over ranks, for a checkpoint.

        All ranks call it together.
        """
        for name, values in self._local.items():
            averaged = ranks.average(torch.stack(values))
            self._averaged.setdefault(name, []).extend(averaged.unbind())
        self._local = {}
        return self._averaged

    def load(self, state: dict[str, list[Tensor]], device: torch.device) -> None:
        """Continue from what `state` returned; the values go to `device`."""
        self._averaged = {name: [value.to(device) for value in values] for name, values in state.items()}


class Meter:
    """Measures speed and memory between two lines of the log."""

    def __init__(self) -> None:
        self.restart(0)

    def restart(self, step: int) -> None:
        """Measure from now on, after `step` steps."""
        self._started, self._step = time.monotonic(), step

    def read(self, step: int, samples: int, flops: float = 0.0) -> dict[str, float]:
        """Return the measures since the last call.

        Args:
            step: number of steps done in all.
            samples: samples in a step, over all ranks.
            flops: what this rank computed since the last call.

        Returns:
            samples_s: samples a second; memory_gib: peak memory of this rank, of its GPU if it has one; mfu:
            achieved share of the GPU's peak in bfloat16, if `flops` and the peak are known.
        """
        seconds = max(time.monotonic() - self._started, 1e-9)
        shown = {"samples_s": samples * (step - self._step) / seconds}
        self.restart(step)
        if not torch.cuda.is_available():
            return shown | {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
        shown["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        peak = peak_flops()
        return shown | ({"mfu": flops / seconds / peak} if peak and flops else {})
