"""The engine of every recipe: four verbs (backward, step, save, load), plain here, DeepSpeed's in `zero`.

Both forms keep the same promises. The gradient of a step is the *mean over ranks* of what each passed to
`backward` since the last one, so a loss is written as (number of ranks) x (local sum) / (count over all
ranks). Both write the same `run/state.pt`, which either form continues, in any number of processes.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from recipes import ranks
from recipes.checkpoints import BEGIN, STATE, part_of, read_state
from recipes.record import tensors_of
from talker.checkpoint import atomic

Batch = TypeVar("Batch")
SAVE_SECONDS = 120
KEPT = 2  # checkpoints
EXPLODES = 100.0  # a gradient norm of so many usual ones is no step to take
SETTLED = 50  # steps until a norm can be called usual
MOST_SKIPPED = 20  # steps in a row
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12}  # dense bfloat16


class Engine:
    """Trains `module` with `optimiser`, keeps an exponential moving average, resumes exactly from `run`.

    Args:
        module: whatever is trained; its parameters must all be in `optimiser`.
        optimiser: any torch optimiser.
        run: folder of this run; `run/state.pt` is its newest checkpoint, `run/log.jsonl` its log.
        schedule: learning-rate factor of a step (counted from 0).
        clip: gradients are scaled to this norm at most; a step whose norm is not finite, or a hundred times
            the usual one, is skipped.
        ema: decay of the moving average; it starts faster, as (1 + step) / (10 + step).
        averaged: the submodule that is averaged, by name; all of `module` where it is empty.
        precision: float32, or bfloat16 for the forward pass through the engine; weights stay float32.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        run: Path,
        schedule: Callable[[int], float] = lambda step: 1.0,
        clip: float = 1.0,
        ema: float = 0.999,
        precision: str = "float32",
        averaged: str = "",
    ) -> None:
        held = {id(p) for group in optimiser.param_groups for p in group["params"]}
        forgotten = [name for name, p in module.named_parameters() if p.requires_grad and id(p) not in held]
        if forgotten:
            raise ValueError(f"the optimiser does not hold {', '.join(forgotten[:5])}")
        self.module, self.optimiser, self.run = module, optimiser, Path(run)
        self.schedule, self.clip, self.ema = schedule, clip, ema
        self.averaged = averaged
        self.ema_module = copy.deepcopy(module.get_submodule(averaged)).requires_grad_(False).eval()
        self.device = next(module.parameters()).device
        self.arithmetic = torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16")
        self.base_rates = [group["lr"] for group in optimiser.param_groups]
        self.step_count, self.skipped, self._earlier, self._since = 0, 0, 0.0, time.monotonic()
        self._usual_norm, self._skipped_in_a_row, self.begun = 0.0, 0, False
        self._metered = (time.monotonic(), 0)
        self._parts: dict[str, list[Tensor]] = {}  # of this rank
        self._averaged_parts: dict[str, list[Tensor]] = {}  # of all, from before the newest checkpoint
        self._buffers: dict[str, Tensor] = {}  # before this step
        self._board: Any = None

    @property
    def seconds(self) -> float:
        """Training time so far, over all resumes."""
        return self._earlier + time.monotonic() - self._since

    def steps(
        self, total: int, minutes: float = math.inf, save_seconds: float = SAVE_SECONDS
    ) -> Iterator[int]:
        """Numbers of the steps to do: up to `total` in all, or until the run has taken `minutes`.

        `step` is to be called once for each. Saves every `save_seconds`, and at the end. All ranks do the
        same steps.

        Raises:
            SystemExit: the process was asked to end (SIGTERM); all is saved.
        """
        asked: list[int] = []
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number)) if main else None
        saved = time.monotonic()
        bar = tqdm(total=total, initial=self.step_count, disable=ranks.rank() > 0 or None)
        try:
            while True:
                ends, over, due = ranks.anyone(
                    bool(asked), self.seconds >= 60 * minutes, time.monotonic() - saved > save_seconds
                )
                if self.step_count >= total or ends or over:
                    break
                if due:
                    self.save()
                    saved = time.monotonic()
                self._buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
                yield self.step_count
                bar.update(1)
            self.save()
        finally:
            bar.close()
            if main:
                signal.signal(signal.SIGTERM, before)
        if ends:
            raise SystemExit(128 + signal.SIGTERM)

    # -- the four verbs ------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any) -> Any:
        """The module's forward pass, in the engine's precision."""
        with self.arithmetic:
            return self.module(*inputs)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of `loss` (a scalar)."""
        loss.backward()

    def step(self, batch: Any = None, **parts: Tensor) -> float:
        """Clip, update, average, clear the gradients; returns the gradient norm before clipping.

        `parts` of this rank's loss (scalars) are for `means`.

        Raises:
            RuntimeError: MOST_SKIPPED steps in a row had no usable gradient. `batch` (this rank's; tensors,
                or containers of them) is then in the run folder, and so is the last checkpoint.
        """
        for group, rate in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * self.schedule(self.step_count)
        norm = self._update()
        if self._usable(norm):
            self._average()
            if norm > 0:  # a geometric mean: one explosion that passes hardly moves it
                share = max(1 / (self.step_count - self.skipped + 1), 1 / (2 * SETTLED))
                self._usual_norm = norm**share * (self._usual_norm or norm) ** (1 - share)
            self._skipped_in_a_row = 0
            for name, part in (parts | {"grad": torch.tensor(norm, device=self.device)}).items():
                self._parts.setdefault(name, []).append(part.detach())
        else:
            for name, buffer in self.module.named_buffers():  # batch norms count what they see
                buffer.copy_(self._buffers.get(name, buffer))
            self.skipped += 1
            self._skipped_in_a_row += 1
            self.log(skipped=self.skipped)
            if self._skipped_in_a_row == MOST_SKIPPED:
                path = self.run / f"bad_step_{self.step_count}_rank_{ranks.rank()}.pt"
                self.save()
                torch.save(tensors_of(batch), path)
                raise RuntimeError(
                    f"{MOST_SKIPPED} steps in a row had no usable gradient (norm {norm:.3g}; batch: {path}); "
                    f"lower the learning rate and continue from the last checkpoint"
                )
        self._buffers = {}
        self.step_count += 1
        return norm

    def save(self) -> None:
        """Write the checkpoint; a kill at any moment leaves the former one intact. For all ranks to call."""
        self._average_parts()
        state = {
            "module": self._weights(),
            "ema": self.ema_module.state_dict(),
            "optimiser": self._optimiser_state(),
            "parts": self._averaged_parts,
            "counters": {
                "step": self.step_count,
                "skipped": self.skipped,
                "seconds": self.seconds,
                "usual_norm": self._usual_norm,
                "ranks": ranks.size(),
            },
        }
        if ranks.rank() == 0:
            folder = self.run / "checkpoints"
            folder.mkdir(parents=True, exist_ok=True)
            for left in (*folder.glob(".*.pt.*"), *self.run.glob(".state.pt.*")):
                left.unlink()  # a kill's
            path = folder / f"{self.step_count:08d}.pt"
            with atomic(path) as temporary:
                torch.save(state, temporary)
            with atomic(self.run / STATE) as temporary:
                temporary.unlink()
                try:
                    os.link(path, temporary)
                except OSError:  # a file system without
                    shutil.copyfile(path, temporary)
            for old in sorted(folder.glob("*.pt"))[:-KEPT]:
                old.unlink()
        ranks.wait()

    def load(self) -> int:
        """Continue from the run folder when it holds a checkpoint, else begin with the weights that lie there
        (see `recipes.arguments`), if any; returns the step to do next.

        Raises:
            ValueError: the checkpoint or weights belong to another model, or are not there for all ranks.
        """
        path = self.run / STATE
        here, missing = ranks.anyone(path.exists(), not path.exists())
        if not here:
            self._begin()
            return 0
        if missing:
            raise ValueError(f"only some machines see {path}; choose a --run that all of them share")
        state = read_state(self.run)
        try:
            self._take(state["module"], state["optimiser"])
            self.ema_module.load_state_dict(part_of(state["ema"], self.averaged))
        except (RuntimeError, ValueError, KeyError) as error:
            said = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} is of another model; choose another --run ({said})") from error
        parts = state.get("parts", {}).items()
        self._averaged_parts = {name: [x.to(self.device) for x in values] for name, values in parts}
        counters = state["counters"]
        self.step_count, self.skipped = counters["step"], counters["skipped"]
        self._usual_norm = counters.get("usual_norm", 0.0)
        self._earlier, self._since = counters["seconds"], time.monotonic()
        self._metered = (time.monotonic(), self.step_count)
        others = counters.get("ranks", 1)
        if others != ranks.size() and ranks.rank() == 0:
            print(
                f"{path}: saved by {others} process(es), continued by {ranks.size()}: the same training, "
                f"but sums round differently, so the curve is no longer the same to the bit",
                flush=True,
            )
        return self.step_count

    def _begin(self) -> None:
        """Take what fits of `run/begin.safetensors`; what is not there, or in other shapes, stays fresh."""
        path = self.run / BEGIN
        if not path.exists():
            return
        own, start = self._weights(), f"{self.averaged}." if self.averaged else ""
        given = {start + name: tensor for name, tensor in load_file(path).items()}
        taken = {k: v.to(own[k]) for k, v in given.items() if k in own and own[k].shape == v.shape}
        if not taken:
            raise ValueError(f"{path} has no weights for this model: name another folder with --begin")
        self._take(own | taken, self._optimiser_state())
        self.ema_module.load_state_dict(part_of(own | taken, self.averaged))
        self.begun = True
        if ranks.rank() == 0:
            print(
                f"begins with {len(taken)} of {len(own)} tensors from {path}, the rest is fresh", flush=True
            )

    # -- what DeepSpeed does otherwise ---------------------------------------------------------------------

    def _update(self) -> float:
        if ranks.size() > 1:
            self._share_gradients()
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.clip))
        if self._usable(norm):
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return norm

    def _share_gradients(self) -> None:
        """Gradients become their mean over the ranks, as one message; what no rank used keeps none, for an
        optimiser makes steps of zeros too."""
        trained = [p for p in self.module.parameters() if p.requires_grad]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        used = grads[0].new_tensor([p.grad is not None for p in trained])
        shared = ranks.average(torch.cat([*(grad.flatten() for grad in grads), used]))
        *means, used = shared.split([*(p.numel() for p in trained), len(trained)])
        for p, mean, part in zip(trained, means, used.tolist(), strict=True):
            p.grad = mean.view_as(p) if part else None

    def _weights(self) -> dict[str, Tensor]:
        return self.module.state_dict()

    def _optimiser_state(self) -> dict[str, Any]:
        return self.optimiser.state_dict()

    def _take(self, weights: dict[str, Tensor], optimiser: dict[str, Any]) -> None:
        self.module.load_state_dict(weights)
        self.optimiser.load_state_dict(copy.deepcopy(optimiser))  # it would keep the file's own pages

    # -- bookkeeping ---------------------------------------------------------------------------------------

    def _usable(self, norm: float) -> bool:
        settled = self.step_count - self.skipped >= SETTLED
        return math.isfinite(norm) and not (settled and norm > EXPLODES * self._usual_norm > 0)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.ema, (1 + self.step_count) / (10 + self.step_count))
        averaged, now = self.ema_module.state_dict(), part_of(self._weights(), self.averaged)
        moving = [name for name, tensor in now.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([averaged[name] for name in moving], [now[name] for name in moving], 1 - decay)
        for name in now.keys() - set(moving):
            averaged[name].copy_(now[name])

    def means(self) -> dict[str, float]:
        """Of the parts of the loss and of the gradient norm (`grad`), over all ranks and the steps since the
        last call that were not skipped; empty where all were. For all ranks to call."""
        self._average_parts()
        parts, self._averaged_parts = self._averaged_parts, {}
        return {name: torch.stack(values).mean().item() for name, values in parts.items()}

    def _average_parts(self) -> None:
        for name, values in self._parts.items():
            averaged = ranks.average(torch.stack(values))
            self._averaged_parts.setdefault(name, []).extend(averaged.unbind())
        self._parts = {}

    def meter(self, samples: int, flops: float = 0.0) -> dict[str, float]:
        """Since the last call: samples a second, of `samples` a step over all ranks; the peak of this rank's
        memory; the share that its `flops` are of what its GPU could do in bfloat16, where that is known."""
        now = time.monotonic()
        (then, before), self._metered = self._metered, (now, self.step_count)
        seconds = max(now - then, 1e-9)
        shown = {"samples_s": samples * (self.step_count - before) / seconds}
        if not torch.cuda.is_available():
            return shown | {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
        shown["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        peak = next((peak for chip, peak in PEAKS.items() if chip in torch.cuda.get_device_name()), None)
        return shown | ({"mfu": flops / seconds / peak} if peak and flops else {})

    def log(self, **values: Any) -> None:
        """One line of rank 0 to stdout and `run/log.jsonl`, and scalars for TensorBoard: step, minutes, and
        `values`."""
        if ranks.rank() > 0:
            return
        row = {"step": self.step_count, "minutes": round(self.seconds / 60, 2), **values}
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        tqdm.write("  ".join(shown))
        if self._board is None:
            self._board = board(self.run / "tensorboard", self.step_count)
        for name, value in values.items():
            if self._board and isinstance(value, int | float):
                self._board.add_scalar(name, value, self.step_count)


def engine(
    zero: int, module: nn.Module, optimiser: torch.optim.Optimizer, run: Path, **options: Any
) -> Engine:
    """The plain engine (`zero` 0), or DeepSpeed's with that stage of ZeRO; `options` are `Engine`'s.

    Raises:
        ValueError: no such stage.
    """
    if zero == 0:
        return Engine(module, optimiser, run, **options)
    from recipes.zero.engine import ZeroEngine

    return ZeroEngine(zero, module, optimiser, run, **options)


def board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, going on at `step`; False where it is not installed (the extra `train`)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    return SummaryWriter(str(folder), purge_step=step)


def warmup_cosine(warmup: int, total: int, floor: float = 0.01) -> Callable[[int], float]:
    """Learning-rate factor: linear to 1 over `warmup` steps, then a cosine to `floor` at `total`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def fast_arithmetic(device: torch.device | str) -> torch.autocast:
    """Forward passes in bfloat16 where `device` multiplies it; on other processors float32 is faster."""
    kind = torch.device(device).type
    has_bfloat16 = kind != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16)


def on(device: torch.device | str, batch: Batch) -> Batch:
    """A dataclass of tensors, on `device`."""
    moved = {field.name: getattr(batch, field.name).to(device) for field in dataclasses.fields(batch)}  # type: ignore[arg-type]
    return dataclasses.replace(batch, **moved)  # type: ignore[type-var]


def generator(seed: int, step: int, sample: int = 0) -> torch.Generator:
    """The random generator of one sample of a training step: draws depend on (seed, step, sample) alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step + sample * 1_000_000_007) % (2**63))
