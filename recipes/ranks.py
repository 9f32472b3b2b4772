"""One process or many: the few collectives that recipes need, each an identity where one process is alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def join(threads: int = 1) -> torch.device:
    """Join the processes that a launcher (torchrun, deepspeed) started; returns this one's device.

    A plain `python -m` is a world of one. GPUs talk through NCCL, processors through gloo.
    """
    torch.set_num_threads(threads)
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        # Ranks wait for rank 0, which makes the data where none is kept, and validates.
        dist.init_process_group("nccl" if gpu else "gloo", timeout=timedelta(hours=6))
    return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def check_share(samples: int, group: int = 1) -> None:
    """Raises ValueError where all ranks cannot take equally many `samples` of a step, whole groups each."""
    if size() > 1 and samples % (size() * group):
        of = f" in groups of {group}" if group > 1 else ""
        raise ValueError(f"{samples} samples a step do not divide among {size()} processes{of}; set rows")


def own(samples: int) -> list[int]:
    """Numbers of this rank's samples among all of a step: every `size()`-th one."""
    return list(range(rank(), samples, size()))


def total(values: Tensor) -> Tensor:
    """The sum of `values` (any shape) over all ranks, detached."""
    values = values.detach().clone()
    if size() > 1:
        dist.all_reduce(values)
    return values


def average(values: Tensor) -> Tensor:
    """The mean of `values` (any shape) over all ranks, value by value, detached."""
    return total(values) / size()


def mean(values: Tensor) -> Tensor:
    """The mean (a scalar) of all values of all ranks, detached."""
    return average(values.mean())


class _Sum(torch.autograd.Function):
    """A sum over ranks, through which gradients flow: what a rank gave counts in the losses of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return total(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return total(gradients[0])


def gather(rows: Tensor) -> Tensor:
    """`own` samples (b, ...) of every rank -> all samples (b size, ...) of the step in order, on all ranks.

    Differentiable: a loss of all samples, the same on all ranks, has the gradient that one process finds.
    """
    if size() == 1:
        return rows
    whole = rows.new_zeros(len(rows), size(), *rows.shape[1:])
    whole[:, rank()] = rows
    gathered: Tensor = _Sum.apply(whole)
    return gathered.flatten(0, 1)


class _BatchNorm(nn.BatchNorm1d):
    """Normalises by the samples of all ranks while it trains; torch's SyncBatchNorm does on GPUs alone."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, T) to the same."""
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


def share_norms(module: nn.Module) -> None:
    """Make every batch norm inside `module` see the samples of all ranks, where there are several."""
    for child in module.modules():
        if size() > 1 and isinstance(child, nn.BatchNorm1d):
            child.__class__ = _BatchNorm


def anyone(*flags: bool) -> list[bool]:
    """Whether any rank says so, flag by flag: all ranks leave with one answer."""
    if size() == 1:
        return list(flags)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return [count > 0 for count in total(torch.tensor(flags, dtype=torch.int32, device=device)).tolist()]


def wait() -> None:
    """Until all ranks are here."""
    if size() > 1:
        dist.barrier()


@contextmanager
def in_turn() -> Iterator[None]:
    """Rank 0 first, the others when it is through: for what is made once and then kept on disk."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()
