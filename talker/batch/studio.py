"""What all clips of a worker share: the model, its version, the voices, and the names of artefacts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heads.sampling import Sampling
from talker.batch.manifest import Row
from talker.batch.setup import Setup
from talker.batch.store import code_digest, key_of, weights_digest
from talker.identity import Voice
from talker.media.readers import read_voice
from talker.pipeline import Talker
from talker.system import System

GENERATED = ("speech", "motion", "starts")  # stages whose results depend on the model


class Studio:
    """The model and what depends on it alone.

    Attributes:
        setup: settings of the worker.
        talker: the model.
        version: everything that all results depend on.
    """

    def __init__(self, setup: Setup) -> None:
        """Load the model.

        Raises:
            UserError: the model cannot be loaded.
        """
        torch.set_num_threads(setup.threads)
        self.setup, self.talker = setup, Talker(System.load(setup.model))
        self.version: dict[str, Any] = {
            "code": code_digest(),
            "weights": weights_digest(setup.model),
            "capacity": setup.capacity,
            "threads": setup.threads,
            "processor": f"{self.system.device.type} {torch.backends.cpu.get_cpu_capability()}",
        }
        self._voices: dict[Path, Voice] = {}

    @property
    def system(self) -> System:
        """The networks."""
        return self.talker.system

    def name(self, stage: str, suffix: str, **inputs: Any) -> str:
        """Name of an artefact."""
        version = self.version if stage in GENERATED else {"code": self.version["code"]}
        return f"{stage}-{key_of(**version, stage=stage, **inputs)}.{suffix}"

    def voice(self, path: Path) -> Voice:
        """The voice of a file; computed once.

        Raises:
            UserError: the recording is unreadable, too short or silent.
        """
        if path not in self._voices:
            self._voices[path] = Voice(path.stem, self.system.embed_voice(read_voice(path)))
        return self._voices[path]

    def sampling(self, row: Row) -> Sampling:
        """The sampling settings of the model with the changes of a row."""
        given = {name: getattr(row, name) for name in ("steps", "guidance", "temperature", "sway")}
        changed = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(self.system.generator.defaults.sampling, **changed)

    def decode(self, latents: torch.Tensor) -> Iterator[NDArray[np.float32]]:
        """Samples (n,) of raw audio latents (T, C), piece by piece."""
        yield from self.system.decode(latents.split(self.system.patch_frames))
