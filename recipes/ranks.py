"""One process or many: the few collectives that recipes need, each an identity where one process is alone."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor


def join(threads: int = 1) -> torch.device:
    """Join the processes that a launcher (torchrun, deepspeed) started; returns this one's device.

    A plain `python -m` is a world of one. GPUs talk through NCCL, processors through gloo.
    """
    torch.set_num_threads(threads)
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if gpu else "gloo")
    return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")


def alone(recipe: str) -> None:
    """Refuse to run as one of many processes.

    Raises:
        SystemExit: a launcher started several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SystemExit(f"{recipe} trains in one process, in minutes: start it with plain python -m")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(values: Tensor) -> Tensor:
    """The sum of `values` (any shape) over all ranks, detached."""
    values = values.detach().clone()
    if size() > 1:
        dist.all_reduce(values)
    return values


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
