"""The engine of every recipe: four verbs (backward, step, save, load), here in their one-process form."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from talker.checkpoint import atomic

SAVE_SECONDS = 120


class Engine:
    """Trains `module` with `optimiser`, keeps an exponential moving average, resumes exactly from `run`.

    Args:
        module: whatever is trained; its parameters must all be in `optimiser`.
        optimiser: any torch optimiser.
        run: folder of this run; `run/state.pt` is its checkpoint, `run/log.jsonl` its log.
        schedule: learning-rate factor of a step (counted from 0).
        clip: gradients are scaled to this norm at most; a step whose norm is not finite is skipped.
        ema: decay of the moving average; it starts faster, as (1 + step) / (10 + step).
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        run: Path,
        schedule: Callable[[int], float] = lambda step: 1.0,
        clip: float = 1.0,
        ema: float = 0.999,
    ) -> None:
        held = {id(p) for group in optimiser.param_groups for p in group["params"]}
        forgotten = [name for name, p in module.named_parameters() if p.requires_grad and id(p) not in held]
        if forgotten:
            raise ValueError(f"the optimiser does not hold {', '.join(forgotten[:5])}")
        self.module, self.optimiser, self.run = module, optimiser, Path(run)
        self.schedule, self.clip, self.ema = schedule, clip, ema
        self.ema_module = copy.deepcopy(module).requires_grad_(False).eval()
        self.base_rates = [group["lr"] for group in optimiser.param_groups]
        self.step_count, self.skipped, self._earlier, self._since = 0, 0, 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time so far, over all resumes."""
        return self._earlier + time.monotonic() - self._since

    def steps(self, total: int, minutes: float = math.inf) -> Iterator[int]:
        """Numbers of the steps to do: up to `total` in all, or until the run has taken `minutes`.

        `step` is to be called once for each. Saves every two minutes, and at the end.
        """
        saved = time.monotonic()
        while self.step_count < total and self.seconds < 60 * minutes:
            yield self.step_count
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of `loss` (a scalar)."""
        loss.backward()

    def step(self) -> float:
        """Clip, update, average, clear the gradients; returns the gradient norm before clipping."""
        for group, rate in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * self.schedule(self.step_count)
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.clip))
        if math.isfinite(norm):
            self.optimiser.step()
            self._average()
        else:
            self.skipped += 1
            if self.skipped > 100:
                raise RuntimeError(f"{self.run}: 100 steps had no finite gradient; lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        self.step_count += 1
        return norm

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.ema, (1 + self.step_count) / (10 + self.step_count))
        averaged = self.ema_module.state_dict()
        for name, tensor in self.module.state_dict().items():
            if tensor.is_floating_point():
                averaged[name].lerp_(tensor, 1 - decay)
            else:
                averaged[name].copy_(tensor)

    def save(self) -> None:
        """Write the checkpoint; a kill at any moment leaves the former one intact."""
        self.run.mkdir(parents=True, exist_ok=True)
        state = {
            "module": self.module.state_dict(),
            "ema": self.ema_module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "counters": {"step": self.step_count, "skipped": self.skipped, "seconds": self.seconds},
        }
        with atomic(self.run / "state.pt") as path:
            torch.save(state, path)

    def load(self) -> int:
        """Continue from the run folder when it holds a checkpoint; returns the step to do next.

        Raises:
            ValueError: the checkpoint belongs to another model.
        """
        path = self.run / "state.pt"
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True, map_location="cpu")
        try:
            self.module.load_state_dict(state["module"])
            self.ema_module.load_state_dict(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{path} is of another model; choose another --run ({error})") from error
        counters = state["counters"]
        self.step_count, self.skipped = counters["step"], counters["skipped"]
        self._earlier, self._since = counters["seconds"], time.monotonic()
        return self.step_count

    def log(self, **values: Any) -> None:
        """One line to stdout and to `run/log.jsonl`: step, minutes, and `values`."""
        row = {"step": self.step_count, "minutes": round(self.seconds / 60, 2), **values}
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print("  ".join(shown), flush=True)


def warmup_cosine(warmup: int, total: int, floor: float = 0.01) -> Callable[[int], float]:
    """Learning-rate factor: linear to 1 over `warmup` steps, then a cosine to `floor` at `total`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def fast_arithmetic() -> torch.autocast:
    """Forward passes in bfloat16 where the processor multiplies it; elsewhere float32 is faster."""
    has_bfloat16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16)


def generator(seed: int, step: int) -> torch.Generator:
    """The random generator of one training step: draws depend on (seed, step) alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % (2**63))
