"""What depends on the device of a training: precision, where batches live, and known peak speeds."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import torch

Batch = TypeVar("Batch")
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12}  # dense bfloat16


def to_device(device: torch.device | str, batch: Batch) -> Batch:
    """Return a copy of `batch`, a dataclass of tensors, whose tensors are on `device`."""
    moved = {field.name: getattr(batch, field.name).to(device) for field in dataclasses.fields(batch)}  # type: ignore[arg-type]
    return dataclasses.replace(batch, **moved)  # type: ignore[type-var]


def bfloat16_autocast(device: torch.device | str) -> torch.autocast:
    """Return an autocast context: bfloat16 on GPUs and on CPUs with AVX-512 BF16, otherwise disabled.

    CPUs without bfloat16 instructions run float32 faster.
    """
    kind = torch.device(device).type
    has_bfloat16 = kind != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16)


def peak_flops() -> float | None:
    """Return the peak FLOP/s of this process's GPU in bfloat16; None for an unknown GPU, or without one."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for chip, peak in PEAK_FLOPS.items() if chip in name), None)
