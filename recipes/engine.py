"""The engine of every recipe: `backward`, `step`, `save` and `load` over a backend.

A recipe is the same text for both backends, plain PyTorch and DeepSpeed. Both write the same `run/state.pt`,
and either continues runs of the other, in any number of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recipes import ranks
from recipes.average import Average
from recipes.backend import Backend, PlainBackend
from recipes.checkpoints import BEGIN, Checkpoints, read_state
from recipes.runlog import Means, Meter, RunLog
from recipes.schedule import MAX_SKIPPED_IN_A_ROW, GradientGuard, Stopwatch, constant
from recipes.zero.backend import ZeroBackend
from talker.progress import Progress
from talker.signals import SIGNALS, Interrupted, collected_signals, command

SAVE_SECONDS = 120


class Engine:
    """Trains `module` with `optimiser`, averages its weights, and resumes exactly from the run folder `run`.

    Args:
        module: the trained module; `optimiser` must hold all its parameters that require a gradient.
        optimiser: any torch optimiser; one of torch's Adams under DeepSpeed.
        run: the run folder, with `state.pt`, `log.jsonl` and the rest.
        schedule: learning-rate factor of a step, counted from 0.
        clip: gradients are scaled to at most this norm. `GradientGuard` decides which steps are skipped.
        ema: decay of the moving average, see `Average`.
        precision: "float32", or "bfloat16" for forward passes through the engine; weights stay float32.
        averaged: name of the submodule to average; empty for all of `module`.
        zero: ZeRO stage of DeepSpeed, 1, 2 or 3; 0 for plain PyTorch.

    Attributes:
        ema_module: the averaged module, in evaluation mode.
        step_count: steps done so far, skipped ones included.
        begun: whether this run started from given weights (`--begin`).

    Raises:
        ValueError: a parameter is missing in `optimiser`, there is no such stage, or DeepSpeed is not
            installed.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        run: Path,
        schedule: Callable[[int], float] = constant,
        clip: float = 1.0,
        ema: float = 0.999,
        precision: str = "float32",
        averaged: str = "",
        zero: int = 0,
    ) -> None:
        held = {id(p) for group in optimiser.param_groups for p in group["params"]}
        missing = [name for name, p in module.named_parameters() if p.requires_grad and id(p) not in held]
        if missing:
            raise ValueError(f"the optimiser does not hold {', '.join(missing[:5])}")
        self.module, self.optimiser, self.run = module, optimiser, Path(run)
        self.schedule = schedule
        self.device = next(module.parameters()).device
        self.base_rates = [group["lr"] for group in optimiser.param_groups]
        self.step_count, self.begun = 0, False
        self.average = Average(module, ema, averaged)
        self.ema_module = self.average.module
        self.guard, self.stopwatch = GradientGuard(), Stopwatch()
        self.checkpoints, self.runlog = Checkpoints(self.run), RunLog(self.run)
        self._means, self._meter = Means(), Meter()
        self._buffers: dict[str, Tensor] = {}  # as they were before this step
        self.backend: Backend
        if zero:
            self.backend = ZeroBackend(zero, module, optimiser, clip, precision)
        else:
            self.backend = PlainBackend(module, optimiser, clip, precision)

    @property
    def skipped(self) -> int:
        """Steps without a usable gradient so far."""
        return self.guard.skipped

    @property
    def seconds(self) -> float:
        """Training time so far, over all resumes."""
        return self.stopwatch.seconds

    def steps(
        self, total: int, minutes: float = math.inf, save_seconds: float = SAVE_SECONDS
    ) -> Iterator[int]:
        """Yield the numbers of the steps to do, until `total` steps are done or the run has taken `minutes`.

        The caller calls `step` once for each. Saves every `save_seconds` seconds and at the end. All ranks do
        the same steps.

        Raises:
            Interrupted: a process of the training received SIGINT, SIGTERM or SIGHUP; a checkpoint was saved.
        """
        saved = time.monotonic()
        with (
            Progress("steps", total, self.step_count, shown=ranks.rank() == 0) as progress,
            collected_signals() as requests,
        ):
            while True:
                out_of_time, save_due, *signalled = ranks.any_rank(
                    self.seconds >= 60 * minutes,
                    time.monotonic() - saved > save_seconds,
                    *(number in requests for number in SIGNALS),
                )
                if self.step_count >= total or out_of_time or any(signalled):
                    break
                if save_due:
                    self.save()
                    saved = time.monotonic()
                self._buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
                yield self.step_count
                progress.advance()
            self.save()
            if any(signalled):
                saved_in = f"step {self.step_count} is saved in {self.checkpoints.newest}"
                line = f"{saved_in}; continue with: {command()}" if ranks.rank() == 0 else ""
                raise Interrupted(SIGNALS[signalled.index(True)], line)

    # -- the four verbs ------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any) -> Any:
        """Run the module's forward pass in the engine's precision."""
        return self.backend.forward(*inputs)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of `loss`, a scalar."""
        self.backend.backward(loss)

    def step(self, batch: Any = None, **parts: Tensor) -> float:
        """Clip and apply the gradients, update the average, clear the gradients.

        Args:
            batch: this rank's batch (tensors, or containers of them), to be written if training gives up.
            parts: scalars of this rank, such as parts of its loss, for `means`.

        Returns:
            The gradient norm before clipping.

        Raises:
            RuntimeError: MAX_SKIPPED_IN_A_ROW steps in a row were skipped. The run folder then has a
                checkpoint and `batch`.
        """
        for group, rate in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * self.schedule(self.step_count)
        norm = self.backend.update(self.guard.accepts)
        if self.guard.count(norm):
            self.average.update(self.backend.weights(), self.step_count)
            self._means.add(parts | {"grad": torch.tensor(norm, device=self.device)})
        else:
            for name, buffer in self.module.named_buffers():  # the forward pass changed running statistics
                buffer.copy_(self._buffers.get(name, buffer))
            self.log(skipped=self.skipped)
            if self.guard.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
                self.save()
                path = self.checkpoints.write_bad_batch(batch, self.step_count)
                raise RuntimeError(
                    f"{MAX_SKIPPED_IN_A_ROW} steps in a row had no usable gradient (last norm {norm:.3g}, "
                    f"its batch is in {path}): lower the learning rate and continue from the last checkpoint"
                )
        self._buffers = {}
        self.step_count += 1
        return norm

    def save(self) -> None:
        """Write a checkpoint. All ranks call it together."""
        state = {
            "module": self.backend.weights(),
            "ema": self.ema_module.state_dict(),
            "optimiser": self.backend.optimiser_state(),
            "parts": self._means.state(),
            "counters": {
                "step": self.step_count,
                "skipped": self.skipped,
                "seconds": self.seconds,
                "usual_norm": self.guard.usual_norm,
                "ranks": ranks.size(),
            },
        }
        if ranks.rank() == 0:
            self.checkpoints.write(state, self.step_count)
        ranks.barrier()

    def load(self) -> int:
        """Continue from the newest checkpoint of the run folder; without one, start from --begin, if given.

        Returns:
            The number of the next step.

        Raises:
            ValueError: the checkpoint or the weights are of another model, or not every rank sees them.
        """
        path = self.checkpoints.newest
        exists, missing = ranks.any_rank(path.exists(), not path.exists())
        if not exists:
            self._begin()
            return 0
        if missing:
            raise ValueError(f"only some machines see {path}: choose a --run on a file system that all share")
        state = read_state(self.run)
        try:
            self.backend.load(state["module"], state["optimiser"])
            self.average.load(state["ema"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} is of another model: choose another --run ({reason})") from error
        counters = state["counters"]
        self.step_count = counters["step"]
        self.guard.resume(counters["step"], counters["skipped"], counters.get("usual_norm", 0.0))
        self.stopwatch.resume(counters["seconds"])
        self._means.load(state.get("parts", {}), self.device)
        self._meter.restart(self.step_count)
        processes = counters.get("ranks", 1)
        if processes != ranks.size() and ranks.rank() == 0:
            print(
                f"{path} was saved by {processes} process(es) and is continued by {ranks.size()}: the "
                f"training is the same, but sums round differently, so the curve is not the same to the bit",
                flush=True,
            )
        return self.step_count

    def _begin(self) -> None:
        """Load `run/begin.safetensors`, if it exists.

        Weights that it does not have, or has with another shape, keep their initial values.
        """
        given = self.checkpoints.initial_weights()
        if given is None:
            return
        prefix = f"{self.average.part}." if self.average.part else ""
        own = self.backend.weights()
        given = {prefix + name: tensor for name, tensor in given.items()}
        taken = {k: v.to(own[k]) for k, v in given.items() if k in own and own[k].shape == v.shape}
        if not taken:
            path = self.run / BEGIN
            raise ValueError(f"{path} has no weights for this model: name another folder with --begin")
        self.backend.load(own | taken, self.backend.optimiser_state())
        self.average.load(own | taken)
        self.begun = True
        if ranks.rank() == 0:
            print(f"{len(taken)} of {len(own)} tensors come from --begin, the rest is random", flush=True)

    # -- the log -------------------------------------------------------------------------------------------

    def log(self, **values: Any) -> None:
        """Write a line to the log, see `RunLog.write`."""
        self.runlog.write(self.step_count, self.seconds, **values)

    def means(self) -> dict[str, float]:
        """Return the means of the parts of the loss and of the gradient norm (`grad`) since the last call.

        They are over all ranks and all steps that were not skipped. All ranks call it together.
        """
        return self._means.take()

    def meter(self, samples: int, flops: float = 0.0) -> dict[str, float]:
        """Return speed and memory since the last call, see `Meter.read`."""
        return self._meter.read(self.step_count, samples, flops)
