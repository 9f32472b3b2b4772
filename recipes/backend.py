"""What computes gradients and updates weights: the `Backend` protocol, and plain PyTorch.

The gradient of a step is the mean over ranks of what each rank passed to `backward` since the last update. A
loss that is a mean over all ranks is therefore written as (number of ranks) * (local sum) / (count over all
ranks).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from recipes import ranks

Accepts = Callable[[float], bool]


class Backend(Protocol):
    """Forward, backward, update, and whole tensors in and out, however they are divided among the ranks.

    `weights`, `optimiser_state` and `load` use the format of PyTorch's state dicts, so a checkpoint of one
    backend can be continued with another. All ranks call each method together.
    """

    def forward(self, *inputs: Any) -> Any:
        """Run the module's forward pass in the precision of the training."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of `loss`, a scalar."""
        ...

    def update(self, accepts: Accepts) -> float:
        """Average the gradients over ranks, clip and apply them if `accepts(norm)`, and clear them.

        Returns:
            The gradient norm before clipping; not finite if a gradient is not.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """Return the module's state dict with whole tensors."""
        ...

    def optimiser_state(self) -> dict[str, Any]:
        """Return the optimiser's state dict with whole tensors."""
        ...

    def load(self, weights: dict[str, Tensor], optimiser_state: dict[str, Any]) -> None:
        """Load what `weights` and `optimiser_state` return.

        Raises:
            RuntimeError, ValueError, KeyError: the state is of another model.
        """
        ...


def autocast(module: nn.Module, precision: str) -> torch.autocast:
    """Return the autocast context of a forward pass: enabled if `precision` is "bfloat16"."""
    kind = next(module.parameters()).device.type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")


class PlainBackend:
    """Plain PyTorch: whole weights on every rank; gradients are averaged in one message.

    Args:
        module: the trained module.
        optimiser: any torch optimiser of its parameters.
        clip: gradients are scaled to at most this norm.
        precision: "float32", or "bfloat16" for the forward pass; weights stay float32.
    """

    def __init__(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, clip: float, precision: str
    ) -> None:
        self.module, self.optimiser, self.clip = module, optimiser, clip
        self.autocast = autocast(module, precision)

    def forward(self, *inputs: Any) -> Any:
        with self.autocast:
            return self.module(*inputs)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def update(self, accepts: Accepts) -> float:
        if ranks.size() > 1:
            self.average_gradients()
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.clip))
        if accepts(norm):
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return norm

    def average_gradients(self) -> None:
        """Replace every gradient by its mean over ranks.

        A parameter without a gradient on any rank keeps none: an optimiser with momentum would count a
        gradient of zeros as a step.
        """
        trained = [p for p in self.module.parameters() if p.requires_grad]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        used = grads[0].new_tensor([p.grad is not None for p in trained])
        averaged = ranks.average(torch.cat([*(grad.flatten() for grad in grads), used]))
        *means, used = averaged.split([*(p.numel() for p in trained), len(trained)])
        for p, mean, share in zip(trained, means, used.tolist(), strict=True):
            p.grad = mean.view_as(p) if share else None

    def weights(self) -> dict[str, Tensor]:
        return self.module.state_dict()

    def optimiser_state(self) -> dict[str, Any]:
        return self.optimiser.state_dict()

    def load(self, weights: dict[str, Tensor], optimiser_state: dict[str, Any]) -> None:
        self.module.load_state_dict(weights)
        self.optimiser.load_state_dict(copy.deepcopy(optimiser_state))  # else it would use the mapped file
