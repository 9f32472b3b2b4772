"""Collective operations of one training in one or more processes. Each is an identity in a single process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def join() -> torch.device:
    """Join the processes that a launcher (torchrun, deepspeed) started; returns the device of this one.

    Without a launcher this is the only process. GPUs communicate through NCCL, CPUs through gloo.
    """
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        # The other ranks wait while rank 0 makes data or validates, which can take hours.
        dist.init_process_group("nccl" if gpu else "gloo", timeout=timedelta(hours=6))
    return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def check_divisible(samples: int, group: int = 1) -> None:
    """Check that every rank gets equally many of a step's samples, in whole groups of `group`.

    Raises:
        ValueError: it does not.
    """
    if size() > 1 and samples % (size() * group):
        groups = f" in groups of {group}" if group > 1 else ""
        raise ValueError(
            f"{samples} samples a step cannot be divided among {size()} processes{groups}: "
            f"set rows to a multiple of {size() * group}"
        )


def own(samples: int) -> list[int]:
    """Return the indices of this rank's samples among the `samples` of a step: every `size()`-th one."""
    return list(range(rank(), samples, size()))


def total(values: Tensor) -> Tensor:
    """Return the sum of `values` (any shape) over all ranks, detached."""
    values = values.detach().clone()
    if size() > 1:
        dist.all_reduce(values)
    return values


def average(values: Tensor) -> Tensor:
    """Return the elementwise mean of `values` (any shape) over all ranks, detached."""
    return total(values) / size()


def mean(values: Tensor) -> Tensor:
    """Return the mean, a scalar, of all elements of `values` on all ranks, detached."""
    return average(values.mean())


class _Sum(torch.autograd.Function):
    """Sum over ranks, with the gradient summed over ranks too: a rank's values affect the losses of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return total(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return total(gradients[0])


def gather(rows: Tensor) -> Tensor:
    """Return the samples of all ranks in the order of the step, on every rank.

    Differentiable: a loss of all samples, computed on every rank, has the gradient that one process computes.

    Args:
        rows: (b, ...) this rank's samples, those of `own`.

    Returns:
        (b * size, ...) all samples.
    """
    if size() == 1:
        return rows
    whole = rows.new_zeros(len(rows), size(), *rows.shape[1:])
    whole[:, rank()] = rows
    gathered: Tensor = _Sum.apply(whole)
    return gathered.flatten(0, 1)


class _BatchNorm(nn.BatchNorm1d):
    """Batch norm over the samples of all ranks, on CPUs too, where torch's SyncBatchNorm does not run."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, T) -> the same shape."""
        if not self.training:
            return super().forward(x)
        rows = x.movedim(1, -1).flatten(0, -2)
        count = len(rows) * size()
        mean = _Sum.apply(rows.sum(0)) / count
        variance = _Sum.apply((rows - mean).square().sum(0)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum or 0.1)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.1)
        normal = (rows - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normal.unflatten(0, (len(x), *x.shape[2:])).movedim(-1, 1)


def synchronise_batch_norms(module: nn.Module) -> None:
    """Make every 1D batch norm inside `module` use the samples of all ranks, if there are several."""
    for child in module.modules():
        if size() > 1 and isinstance(child, nn.BatchNorm1d):
            child.__class__ = _BatchNorm


def any_rank(*flags: bool) -> list[bool]:
    """Return for each flag whether it is true on any rank: the same answer on all ranks."""
    if size() == 1:
        return list(flags)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return [count > 0 for count in total(torch.tensor(flags, dtype=torch.int32, device=device)).tolist()]


def barrier() -> None:
    """Wait until all ranks arrive here."""
    if size() > 1:
        dist.barrier()


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the body on rank 0 first, then on the others, which find on disk what rank 0 made."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()
