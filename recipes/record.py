"""The record of a run, `run.json`: its resolved config, the code, the data and the machine."""

from __future__ import annotations

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
PACKAGE = Path(__file__).parent
NEW_NAMES = {  # of fields that had other names when runs were recorded
    "noise.fed": "feedback",
    "noise.read": "motion",
    "noise.shake": "position",
    "noise.memory": "correlation",
    "slip": "latent_noise",
    "glance": "centre_jitter",
}


def write_record(run: Path, recipe: str, config: Any, data: str) -> None:
    """Write `run/run.json`: recipe, config (a frozen dataclass), fingerprint of the data, code, environment.

    If the run continues from a checkpoint with other data or another config than recorded, print what
    changed.
    """
    if ranks.rank() > 0:
        return
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "safetensors")}
    record = {
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
    text = json.dumps(record, indent=1) + "\n"
    if (run / NAME).exists() and (run / STATE).exists():
        before = read_record(run)
        before["config"] = _with_defaults(type(config), before["config"])
        for change in _changes(before, json.loads(text)):
            print(f"{run}: {change}", flush=True)
    run.mkdir(parents=True, exist_ok=True)
    with atomic(run / NAME) as path:
        path.write_text(text)


def read_record(run: Path) -> dict[str, Any]:
    """Return the content of `run/run.json`, or of the same file in an exported component.

    Raises:
        ValueError: the file cannot be read, or is no record.
    """
    path = run / NAME
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record["config"], dict):
            raise ValueError("its config is no object")
        return {"recipe": "", "data": "", **record}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(_unusable(path, error)) from error


def _unusable(path: Path, error: Exception) -> str:
    reason = f"{error} is missing" if isinstance(error, KeyError) else error
    return f"{path} cannot be used ({reason}): remove it and start the training again, which writes it anew"


def _config(run: Path, config_class: type, part: str) -> Any:
    """Return the recorded config, or its part `part` if it has such a part."""
    values = _with_new_names(read_record(run)["config"])
    try:
        return config_from_dict(config_class, values.get(part, values))
    except ValueError as error:
        raise ValueError(_unusable(run / NAME, error)) from error


def _with_defaults(config_class: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of an old record with defaults for fields that did not exist then."""
    try:
        found = config_to_dict(config_from_dict(config_class, _with_new_names(values)))
    except ValueError:  # of another recipe, or with fields that no longer exist
        return values
    return json.loads(json.dumps(found))


def _with_new_names(config: Any, prefix: str = "") -> Any:
    """Return a recorded config whose renamed fields have their new names."""
    if not isinstance(config, dict):
        return config
    return {
        NEW_NAMES.get(prefix + name, name): _with_new_names(value, f"{prefix}{name}.")
        for name, value in config.items()
    }


def _changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield a message for each difference between a run's record and the present."""
    if before["data"] != now["data"]:
        yield (
            f"the data changed since this run was trained ({before['data']}, now {now['data']}): latents "
            "keep the units of the old data, and the order of the clips is another one; "
            "choose another --run to start anew"
        )
    old, new = _flat(before["config"]), _flat(now["config"])
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if changed:
        listed = ", ".join(f"{name} {old.get(name)} -> {new.get(name)}" for name in changed)
        yield f"the config changed since this run was trained: {listed}"


def _flat(config: Any, name: str = "") -> dict[str, Any]:
    """Return the values of a nested config by the names that --set takes."""
    if not isinstance(config, dict):
        return {name: config}
    parts = (_flat(value, f"{name}.{key}".lstrip(".")) for key, value in config.items())
    return {key: value for part in parts for key, value in part.items()}


def read_config(run: Path, config_class: type, default: Any) -> Any:
    """Return the config that a run was trained with; `default` if the run has no record.

    Raises:
        ValueError: the record is damaged.
    """
    return _config(run, config_class, "") if (run / NAME).exists() else default


def read_model_config(run: Path, config_class: type, default: Any) -> Any:
    """Return the config of the network that a run trained; `default` if the run has no record.

    Old records hold the network's config alone.

    Raises:
        ValueError: the record is damaged.
    """
    return _config(run, config_class, "model") if (run / NAME).exists() else default


def code_version(folder: Path = PACKAGE) -> str:
    """Return the package's version and, if the code is a checkout, its commit (+: with changes).

    Args:
        folder: a top-level folder of the code, whose parent is the checkout.
    """
    version = importlib.metadata.version("talker")
    top = _git(folder, "rev-parse", "--show-toplevel")
    # An installed package may lie inside the repository of another project, in its .venv for example.
    if not top or Path(top).resolve() != folder.resolve().parent:
        return version
    return f"{version} {_git(folder, 'describe', '--always', '--dirty=+', '--abbrev=12')}".strip()


def _git(folder: Path, *command: str) -> str:
    """Return the output of a git command in `folder`; empty if it fails or git is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def fingerprint(arrays: Iterable[np.ndarray]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of arrays: their shapes, types and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()[:16]
