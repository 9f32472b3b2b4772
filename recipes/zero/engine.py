"""The engine's four verbs on DeepSpeed: ZeRO-1, 2 or 3, with the plain engine's checkpoints."""

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

from recipes.launch import Engine


class ZeroEngine(Engine):
    """`Engine`, with optimiser states (1), gradients (2) and weights (3) divided among the ranks.

    The moving average is a whole copy on every rank. A checkpoint holds whole tensors, gathered one by one,
    in the plain engine's format: any stage and any number of processes continue it.
    """

    def __init__(
        self, stage: int, module: nn.Module, optimiser: torch.optim.Optimizer, run: Path, **options: Any
    ) -> None:
        """`stage` 1, 2 or 3; `optimiser` one of torch's Adams; the rest is `Engine`'s.

        Raises:
            ValueError: no such stage, or DeepSpeed is not installed.
        """
        path = Path(__file__).with_name(f"zero{stage}.json")
        if not path.exists():
            raise ValueError(f"there is no ZeRO stage {stage}; choose 0 (the plain engine), 1, 2 or 3")
        super().__init__(module, optimiser, run, **options)
        self.stage = stage
        # DeepSpeed replaces the optimiser's parameters by its own flat ones.
        self._groups = optimiser.state_dict()["param_groups"]
        self._held = [p for group in optimiser.param_groups for p in group["params"]]
        self._guard(optimiser)
        # From within: DeepSpeed switches off what was switched on outside of its own forward pass.
        module.forward = self.arithmetic(module.forward)  # type: ignore[method-assign]
        self.deepspeed = _initialise(module, optimiser, json.loads(path.read_text()), self.clip)

    def _guard(self, optimiser: torch.optim.Optimizer) -> None:
        """DeepSpeed clips and updates in one go; between the two its optimiser asks whether to."""
        update = optimiser.step

        def step(closure: Callable[[], float] | None = None) -> None:
            if self._usable(float(self.deepspeed.optimizer._global_grad_norm)):
                update(closure)

        optimiser.step = step  # type: ignore[method-assign, assignment]

    def __call__(self, *inputs: Any) -> Any:
        return self.deepspeed(*inputs)

    def backward(self, loss: Tensor) -> None:
        self.deepspeed.backward(loss)

    def _update(self) -> float:
        self.deepspeed.step()
        norm = math.inf if self.deepspeed.optimizer.overflow else self.deepspeed.get_global_grad_norm()
        return float(norm)

    def _weights(self) -> dict[str, Tensor]:
        if self.stage < 3:
            return self.module.state_dict()
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters

        with GatheredParameters(list(self.module.parameters())):
            return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def _flat(self) -> Iterator[nn.Parameter]:
        """This rank's parts of the parameters, as the optimiser knows them."""
        own = self.deepspeed.optimizer
        yield from (
            own.fp32_partitioned_groups_flat if self.stage == 3 else own.single_partition_of_fp32_groups
        )

    def _optimiser_state(self) -> dict[str, Any]:
        from deepspeed.utils import safe_get_full_optimizer_state as whole

        states = [self.optimiser.state.get(flat, {}) for flat in self._flat()]
        if not states[0]:  # no step yet
            return {"state": {}, "param_groups": self._groups}
        kept = {}
        for index, p in enumerate(self._held):
            kept[index] = {
                key: value.clone() if value.dim() == 0 else whole(p, key).cpu()
                for key, value in states[0].items()
            }
        return {"state": kept, "param_groups": self._groups}

    @torch.no_grad()
    def _take(self, weights: dict[str, Tensor], optimiser: dict[str, Any]) -> None:
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        own = self.deepspeed.optimizer
        if self.stage == 3:
            with GatheredParameters(list(self.module.parameters()), modifier_rank=0):
                self.module.load_state_dict(weights)
        else:
            self.module.load_state_dict(weights)
        own.refresh_fp32_params()
        if not optimiser["state"]:
            return
        for flat in self._flat():
            self.optimiser.state[flat] = {
                key: value.clone() if value.dim() == 0 else torch.zeros_like(flat)
                for key, value in optimiser["state"][0].items()
            }
        if self.stage < 3:
            own._lazy_init_hp_params_optimizer_state()
        for index, p in enumerate(self._held):
            for key, value in optimiser["state"][index].items():
                if value.dim() and self.stage == 3:
                    # The whole form fails where a tensor does not divide among the ranks.
                    safe_set_local_optimizer_state(p, _own_part(p, value), key)
                elif value.dim():
                    safe_set_full_optimizer_state(p, value.to(p.device), key)


def _own_part(p: Any, whole: Tensor) -> Tensor:
    """This rank's part of `whole`, flat and padded as ZeRO-3 divides the parameter `p`."""
    size = p.ds_tensor.numel()
    padded = F.pad(whole.flatten(), (0, size * dist.get_world_size() - whole.numel()))
    return padded[size * dist.get_rank() :][:size].to(p.ds_tensor.device)


def _initialise(
    module: nn.Module, optimiser: torch.optim.Optimizer, config: dict[str, Any], clip: float
) -> Any:
    """DeepSpeed's engine; what the run config knows is filled in here, batch and rate are the recipe's."""
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    try:
        import deepspeed
    except ImportError as error:
        raise ValueError('DeepSpeed is not installed: pip install -e ".[train]", or set zero=0') from error

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would need a compiler
    os.environ.setdefault("LOCAL_RANK", "0")  # plain python -m: a world of one
    if not dist.is_initialized():
        dist.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo", store=dist.HashStore(), rank=0, world_size=1
        )
    # `step` decides when a batch is whole, so DeepSpeed's own counting of batches is idle.
    config |= {
        "train_micro_batch_size_per_gpu": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": clip,
        "steps_per_print": 10**9,
    }
    return deepspeed.initialize(model=module, optimizer=optimiser, config=config)[0]
