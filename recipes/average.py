"""The exponential moving average of the weights: what a recipe validates and exports."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from recipes.checkpoints import submodule_weights


class Average:
    """An exponential moving average of a module's floating-point weights and buffers; the others are copied.

    Args:
        module: the trained module. The average starts as a copy of it.
        decay: weight of the old average in one update, at most. Update `step`, counted from 0, uses
            min(decay, (1 + step) / (10 + step)), so that the first weights are soon forgotten.
        part: name of the submodule to average; empty for all of `module`.
    """

    def __init__(self, module: nn.Module, decay: float, part: str = "") -> None:
        self.module = copy.deepcopy(module.get_submodule(part)).requires_grad_(False).eval()
        self.decay, self.part = decay, part

    @torch.no_grad()
    def update(self, weights: dict[str, Tensor], step: int) -> None:
        """Move towards `weights`, the state dict of the trained module after step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged, now = self.module.state_dict(), submodule_weights(weights, self.part)
        floating = [name for name, tensor in now.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [averaged[name] for name in floating], [now[name] for name in floating], 1 - decay
        )
        for name in now.keys() - set(floating):
            averaged[name].copy_(now[name])

    def load(self, weights: dict[str, Tensor]) -> None:
        """Load an average: weights of the averaged part, or of the whole module that contains it.

        Raises:
            RuntimeError: names or shapes do not fit the averaged part.
        """
        self.module.load_state_dict(submodule_weights(weights, self.part))
