"""Random draws of training: a function of the seed, the step and the sample, and of nothing else."""

from __future__ import annotations

import torch


def generator(seed: int, step: int, sample: int = 0) -> torch.Generator:
    """Return a new CPU generator for one sample of one training step.

    Its numbers depend on (seed, step, sample) alone, so a resumed run draws what an uninterrupted run draws,
    and several processes draw together what one process draws.
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + step + sample * 1_000_000_007) % (2**63))
