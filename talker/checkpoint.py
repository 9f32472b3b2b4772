"""Native checkpoints: one folder per component with `config.json` and `model.safetensors`, and no pickles."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Component = TypeVar("Component", bound=nn.Module)


class CheckpointError(ValueError):
    """A checkpoint cannot be used. The message names the file and the next step."""


def config_to_dict(config: Any) -> dict[str, Any]:
    """Convert a frozen config dataclass to JSON values."""
    return dataclasses.asdict(config)


def config_from_dict(config_class: type, values: Any) -> Any:
    """Build a config from JSON values: the inverse of `config_to_dict`.

    Nested dataclasses and tuples are rebuilt according to the field annotations.

    Raises:
        CheckpointError: a field is unknown or missing, or has a value of another type.
    """
    if not isinstance(values, dict):
        raise CheckpointError(f"{config_class.__name__} is no JSON object")
    hints = typing.get_type_hints(config_class)
    unknown = set(values) - set(hints)
    if unknown:
        raise CheckpointError(f"{config_class.__name__} has no field named {', '.join(sorted(unknown))}")
    try:
        return config_class(**{name: _rebuild(hints[name], value) for name, value in values.items()})
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{config_class.__name__}: {error}") from error


def _rebuild(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint):
        return config_from_dict(typing.cast(type, hint), value)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        each = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else inner
        return tuple(_rebuild(kind, item) for kind, item in zip(each, value, strict=True))
    if hint in (bool, int, float, str) and not _is(value, hint):
        raise CheckpointError(f"{value!r} is no {hint.__name__}")
    return value


def _is(value: Any, kind: type) -> bool:
    """Whether a JSON value has the type of a field; a whole number can be a float."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def save_component(module: nn.Module, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write `folder/config.json` and `folder/model.safetensors`, and replace each file atomically.

    Floating-point tensors are stored as `dtype`. Tied tensors are stored once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, tensor in module.state_dict().items():
        if tensor.data_ptr() in seen and tensor.numel():
            continue
        seen.add(tensor.data_ptr())
        kept = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        tensors[key] = kept.contiguous().clone()
    with atomic(folder / "model.safetensors") as path:
        save_file(tensors, path)
    text = json.dumps(config_to_dict(module.config), indent=1) + "\n"  # type: ignore[arg-type]
    with atomic(folder / "config.json") as path:
        path.write_text(text)


def read_config(folder: Path) -> dict[str, Any]:
    """Read the values of `folder/config.json`.

    Raises:
        CheckpointError: the file is missing or cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: a checkpoint needs config.json and model.safetensors")
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): download or export it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object: download or export it again")
    return values


def load_component(
    component: type[Component],
    config_class: type,
    folder: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Component:
    """Load a `component` that `save_component` wrote, in evaluation mode, to `device`.

    The weights are converted to `dtype` before they are copied to the device. A component that keeps some of
    its weights in float32 has a method `cast(dtype)`, which replaces `to(dtype)`.

    Raises:
        CheckpointError: a file is missing or damaged, or its keys or shapes do not match the component.
    """
    config = config_from_dict(config_class, read_config(folder))
    path = folder / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: a checkpoint needs config.json and model.safetensors")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read ({error}): download or export it again") from error
    module = component(config)
    load_strict(module, tensors, str(path))
    getattr(module, "cast", module.to)(dtype)
    return module.to(device).eval()


def load_strict(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Copy `tensors` into `module`. Names and shapes must match; only one name of tied tensors is needed.

    `source` names the file in error messages.

    Raises:
        CheckpointError: tensors are missing, unexpected, not finite, or have a wrong shape. It lists them.
    """
    own = module.state_dict()
    kept = {own[key].data_ptr() for key in tensors if key in own}
    missing = sorted(k for k, v in own.items() if k not in tensors and v.data_ptr() not in kept)
    unexpected = sorted(set(tensors) - set(own))
    shapes = sorted(
        f"{k} {tuple(t.shape)} instead of {tuple(own[k].shape)}"
        for k, t in tensors.items()
        if k in own and t.shape != own[k].shape
    )
    broken = sorted(k for k, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all())
    problems = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": shapes,
        "not finite": broken,
    }
    found = [f"{len(names)} {what}: {_some(names)}" for what, names in problems.items() if names]
    if found:
        raise CheckpointError(f"{source} does not fit {type(module).__name__}; " + "; ".join(found))
    module.load_state_dict(tensors, strict=False)


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class atomic:  # noqa: N801 - used like a function
    """Context manager that yields a temporary path, which replaces `path` at the end.

    If the block raises, the temporary file is removed and `path` is unchanged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.temporary.chmod(0o644)
            self.temporary.replace(self.path)
        else:
            self.temporary.unlink(missing_ok=True)
