"""Flow matching on straight paths. This module uses no networks.

Time t runs from 1 (noise z) to 0 (data x). The path is (1 - t) x + t z, and its velocity is z - x.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from heads.streams import Streams

LOGIT_MEAN = -0.4  # of training times
DROP_HIDDEN = 0.1  # probability that the hidden state is dropped, for classifier-free guidance
DROP_CONTEXT = 0.05  # probability that the previous patch is dropped


def on_path(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The point of the path (B, ...) at `time` (B,), for data and noise (B, ...)."""
    time = time.view(-1, *[1] * (data.dim() - 1))
    return (1 - time) * data + time * noise


def velocity_target(data: Tensor, noise: Tensor) -> Tensor:
    """The velocity of the path, noise - data, which is the same at every time."""
    return noise - data


def logit_normal(normal: Tensor) -> Tensor:
    """Map standard normal numbers n to times in (0, 1): sigmoid(n - 0.4). More times are near the data."""
    return torch.sigmoid(normal + LOGIT_MEAN)


@dataclass(frozen=True)
class Draws:
    """Random values of one training step, per stream.

    Attributes:
        time: (B,) in (0, 1).
        noise: (B, P, C) standard normal.
        keep_hidden, keep_context: (B,) bool; the condition is set to zero in rows where it is False.
    """

    time: Streams
    noise: Streams
    keep_hidden: Streams
    keep_context: Streams

    def to(self, device: torch.device | str) -> Draws:
        """Copy the draws to another device."""
        moved = {field.name: getattr(self, field.name).map(lambda x: x.to(device)) for field in fields(self)}
        return Draws(**moved)


def draws(
    like: Streams,
    generator: torch.Generator | None = None,
    drop_hidden: float = DROP_HIDDEN,
    drop_context: float = DROP_CONTEXT,
) -> Draws:
    """Draw random values for targets.

    Args:
        like: (B, P, C) per stream, the targets. The result has their shape, dtype and device.
        generator: of the CPU, on which all values are drawn.
        drop_hidden, drop_context: probabilities that a condition is dropped.
    """

    def uniform_above(least: float) -> Streams:
        return like.map(lambda x: (torch.rand(len(x), generator=generator) > least).to(x.device))

    return Draws(
        keep_hidden=uniform_above(drop_hidden),
        keep_context=uniform_above(drop_context),
        time=like.map(lambda x: logit_normal(torch.randn(len(x), generator=generator)).to(x.device)),
        noise=like.map(lambda x: torch.randn(x.shape, generator=generator).to(x)),
    )
