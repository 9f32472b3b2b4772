"""Flow matching on straight paths: the mathematics, free of networks.

Time runs from 1 (noise z) to 0 (data x). The path is (1 - t) x + t z, its velocity z - x.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from heads.streams import Streams

LOGIT_MEAN = -0.4
DROP_HIDDEN = 0.1
DROP_CONTEXT = 0.05


def on_path(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The point of the path at `time` (B,), for data and noise (B, ...)."""
    time = _column(time, data)
    return (1 - time) * data + time * noise


def velocity_target(data: Tensor, noise: Tensor) -> Tensor:
    """d/dt of the path, the same at every time: noise - data."""
    return noise - data


def data_from(point: Tensor, velocity: Tensor, time: Tensor) -> Tensor:
    """Where the straight path through `point` (B, ...) at `time` (B,) with `velocity` meets the data."""
    return point - _column(time, point) * velocity


def logit_normal(normal: Tensor) -> Tensor:
    """Standard normal numbers as times in (0, 1): sigmoid(n - 0.4), so more of them near the data."""
    return torch.sigmoid(normal + LOGIT_MEAN)


def _column(time: Tensor, like: Tensor) -> Tensor:
    return time.view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class Draws:
    """The random part of one training step, per stream and row.

    Attributes:
        time: (B,) in (0, 1).
        noise: (B, P, C) standard normal.
        keep_hidden, keep_context: (B,) bool; where False that condition is zeroed, for guidance.
    """

    time: Streams
    noise: Streams
    keep_hidden: Streams
    keep_context: Streams

    def to(self, device: torch.device | str) -> Draws:
        """The same draws on another device."""
        moved = {field.name: getattr(self, field.name).map(lambda x: x.to(device)) for field in fields(self)}
        return Draws(**moved)


def draws(
    like: Streams,
    generator: torch.Generator | None = None,
    drop_hidden: float = DROP_HIDDEN,
    drop_context: float = DROP_CONTEXT,
) -> Draws:
    """Draws for targets `like` (B, P, C), made on the CPU by `generator`, then moved to their device."""

    def uniform_above(least: float) -> Streams:
        return like.map(lambda x: (torch.rand(len(x), generator=generator) > least).to(x.device))

    return Draws(
        keep_hidden=uniform_above(drop_hidden),
        keep_context=uniform_above(drop_context),
        time=like.map(lambda x: logit_normal(torch.randn(len(x), generator=generator)).to(x.device)),
        noise=like.map(lambda x: torch.randn(x.shape, generator=generator).to(x)),
    )
