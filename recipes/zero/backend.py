"""The backend of DeepSpeed: ZeRO stages 1, 2 and 3, with the plain backend's checkpoints."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.backend import Accepts, autocast


class ZeroBackend:
    """Divides optimiser states (stage 1), gradients (2) and weights (3) among the ranks.

    Args:
        stage: 1, 2 or 3.
        module: the trained module. Its forward pass is wrapped in an autocast of `precision`.
        optimiser: one of torch's Adams.
        clip: gradients are scaled to at most this norm.
        precision: "float32", or "bfloat16" for the forward pass; weights stay float32.

    Raises:
        ValueError: there is no such stage, or DeepSpeed is not installed.
    """

    def __init__(
        self, stage: int, module: nn.Module, optimiser: torch.optim.Optimizer, clip: float, precision: str
    ) -> None:
        path = Path(__file__).with_name(f"zero{stage}.json")
        if not path.exists():
            raise ValueError(f"there is no ZeRO stage {stage}: choose zero=0 (plain PyTorch), 1, 2 or 3")
        self.stage, self.module, self.optimiser = stage, module, optimiser
        # DeepSpeed replaces the optimiser's parameters by its own flat ones.
        self._groups = optimiser.state_dict()["param_groups"]
        self._parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self._accepts: Accepts = math.isfinite
        self._guard(optimiser)
        # DeepSpeed disables an autocast that is entered outside of its own forward pass.
        module.forward = autocast(module, precision)(module.forward)  # type: ignore[method-assign]
        self.deepspeed = _initialise(module, optimiser, json.loads(path.read_text()), clip)

    def _guard(self, optimiser: torch.optim.Optimizer) -> None:
        """Make the optimiser ask `accepts` first: DeepSpeed clips and updates in one call."""
        update = optimiser.step

        def step(closure: Callable[[], float] | None = None) -> None:
            if self._accepts(float(self.deepspeed.optimizer._global_grad_norm)):
                update(closure)

        optimiser.step = step  # type: ignore[method-assign, assignment]

    def forward(self, *inputs: Any) -> Any:
        return self.deepspeed(*inputs)

    def backward(self, loss: Tensor) -> None:
        self.deepspeed.backward(loss)

    def update(self, accepts: Accepts) -> float:
        self._accepts = accepts
        self.deepspeed.step()
        norm = math.inf if self.deepspeed.optimizer.overflow else self.deepspeed.get_global_grad_norm()
        return float(norm)

    def weights(self) -> dict[str, Tensor]:
        if self.stage < 3:
            return self.module.state_dict()
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters

        with GatheredParameters(list(self.module.parameters())):
            return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def optimiser_state(self) -> dict[str, Any]:
        from deepspeed.utils import safe_get_full_optimizer_state

        states = [self.optimiser.state.get(flat, {}) for flat in self._flat_parameters()]
        if not states[0]:  # before the first step
            return {"state": {}, "param_groups": self._groups}
        state = {
            index: {
                key: value.clone() if value.dim() == 0 else safe_get_full_optimizer_state(p, key).cpu()
                for key, value in states[0].items()
            }
            for index, p in enumerate(self._parameters)
        }
        return {"state": state, "param_groups": self._groups}

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor], optimiser_state: dict[str, Any]) -> None:
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        wrapped, states = self.deepspeed.optimizer, optimiser_state["state"]
        if self.stage == 3:
            with GatheredParameters(list(self.module.parameters()), modifier_rank=0):
                self.module.load_state_dict(weights)
        else:
            self.module.load_state_dict(weights)
        wrapped.refresh_fp32_params()
        if not states:
            return
        for flat in self._flat_parameters():
            self.optimiser.state[flat] = {
                key: value.clone() if value.dim() == 0 else torch.zeros_like(flat)
                for key, value in states[0].items()
            }
        if self.stage < 3:
            wrapped._lazy_init_hp_params_optimizer_state()
        for index, p in enumerate(self._parameters):
            for key, value in states[index].items():
                if value.dim() and self.stage == 3:
                    # The function for whole tensors fails if their size is not divisible by the ranks.
                    safe_set_local_optimizer_state(p, _own_partition(p, value), key)
                elif value.dim():
                    safe_set_full_optimizer_state(p, value.to(p.device), key)

    def _flat_parameters(self) -> Iterator[nn.Parameter]:
        """Yield this rank's flat parameters, the ones that the optimiser updates."""
        wrapped = self.deepspeed.optimizer
        if self.stage == 3:
            yield from wrapped.fp32_partitioned_groups_flat
        else:
            yield from wrapped.single_partition_of_fp32_groups


def _own_partition(p: Any, whole: Tensor) -> Tensor:
    """Return this rank's part of `whole`, flat and padded as ZeRO-3 divides the parameter `p`."""
    size = p.ds_tensor.numel()
    padded = F.pad(whole.flatten(), (0, size * dist.get_world_size() - whole.numel()))
    return padded[size * dist.get_rank() :][:size].to(p.ds_tensor.device)


def _initialise(
    module: nn.Module, optimiser: torch.optim.Optimizer, config: dict[str, Any], clip: float
) -> Any:
    """Return DeepSpeed's engine. `config` is one of the JSON files here; the run config decides the rest."""
    # DeepSpeed reads both throughout the training, so they stay set.
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("LOCAL_RANK", "0")  # started with plain python, this is the only process
    try:
        import deepspeed
    except ImportError as error:
        raise ValueError(
            "DeepSpeed is not installed: run make test, which installs all packages, or set zero=0"
        ) from error

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would need a compiler
    if not dist.is_initialized():
        dist.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo", store=dist.HashStore(), rank=0, world_size=1
        )
    for p in module.parameters():  # weight normalisation leaves strides that DeepSpeed does not accept
        p.data = p.data.clone(memory_format=torch.contiguous_format)
    # `update` decides when a batch is complete, so DeepSpeed must not count batches itself.
    config |= {
        "train_micro_batch_size_per_gpu": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": clip,
        "steps_per_print": 10**9,
    }
    return deepspeed.initialize(model=module, optimizer=optimiser, config=config)[0]
