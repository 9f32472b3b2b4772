"""What a run was: its resolved config, the code, the data and the machine, written beside the weights."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recipes import ranks
from recipes.checkpoints import STATE
from talker.checkpoint import atomic, config_from_dict, config_to_dict

NAME = "run.json"


def record(run: Path, recipe: str, config: Any, data: str) -> None:
    """Write `run/run.json`: recipe, config (a frozen dataclass), fingerprint of data, code, environment.

    Says it where a run that has a checkpoint goes on with other data or another config than it was recorded.
    """
    if ranks.rank() > 0:
        return
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "safetensors")}
    said = {
        "recipe": recipe,
        "config": config_to_dict(config),
        "data": data,
        "code": code_version(),
        "environment": {
            "python": platform.python_version(),
            **versions,
            "processes": ranks.size(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        },
    }
    text = json.dumps(said, indent=1) + "\n"
    if (run / NAME).exists() and (run / STATE).exists():
        for change in _changes(json.loads((run / NAME).read_text()), json.loads(text)):
            print(f"{run}: {change}", flush=True)
    run.mkdir(parents=True, exist_ok=True)
    with atomic(run / NAME) as path:
        path.write_text(text)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What has changed since a run was recorded, one line each."""
    if before["data"] != now["data"]:
        yield (
            f"goes on with other data than it was trained on ({before['data']}, now {now['data']}): latents "
            "keep the units of the old data, and the place in its order means nothing in the new; "
            "choose another --run to begin anew"
        )
    old, new = _values(before["config"]), _values(now["config"])
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if changed:
        told = ", ".join(f"{name} {old.get(name)} -> {new.get(name)}" for name in changed)
        yield f"goes on with another config: {told}"


def _values(config: Any, name: str = "") -> dict[str, Any]:
    """Each value of a nested config by its name, as --set has it."""
    if not isinstance(config, dict):
        return {name: config}
    parts = (_values(value, f"{name}.{key}".lstrip(".")) for key, value in config.items())
    return {key: value for part in parts for key, value in part.items()}


def recorded(run: Path, config_class: type, otherwise: Any) -> Any:
    """The config that a run was trained with; `otherwise` where the run is older than such records."""
    path = run / NAME
    return (
        config_from_dict(config_class, json.loads(path.read_text())["config"]) if path.exists() else otherwise
    )


def recorded_model(run: Path, config_class: type, otherwise: Any) -> Any:
    """The config of the network that a run trained, which older runs recorded by itself."""
    path = run / NAME
    if not path.exists():
        return otherwise
    values = json.loads(path.read_text())["config"]
    return config_from_dict(config_class, values.get("model", values))


def code_version() -> str:
    """The package's version, and the commit where the code is a checkout (+: with changes)."""
    version = importlib.metadata.version("talker")
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return version
    return f"{version} {found}"


def fingerprint(arrays: Iterable[np.ndarray]) -> str:
    """The first 16 digits of the SHA-256 of arrays: shapes, types and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()[:16]


def tensors_of(value: Any) -> Any:
    """Dataclasses as dictionaries, in lists and tuples too: what torch loads without executing anything."""
    if dataclasses.is_dataclass(value):
        return {field.name: tensors_of(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [tensors_of(one) for one in value] if isinstance(value, list | tuple) else value
