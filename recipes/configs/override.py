"""Change single values of a frozen config by name: `--set optim.lr=2e-4`."""

from __future__ import annotations

import ast
import dataclasses
import difflib
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


def names(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all values of a config, including those of nested dataclasses."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from names(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def override(config: Config, settings: Iterable[str]) -> Config:
    """Return `config` with each `name=value` of `settings` applied in order.

    Raises:
        ValueError: a setting has no "=", its name does not exist, or its value has another type.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        known = list(names(config))
        if not equals:
            raise ValueError(f"--set expects NAME=VALUE, not {setting!r}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ValueError(f"--set {setting}: there is no {name!r}; the nearest name is {near[0]!r}")
        config = _replaced(config, name.split("."), name, text)
    return config


def _replaced(config: Any, path: list[str], name: str, text: str) -> Any:
    first, *rest = path
    if rest:
        value = _replaced(getattr(config, first), rest, name, text)
    else:
        value = _parse(get_type_hints(type(config))[first], name, text)
    return dataclasses.replace(config, **{first: value})


def _parse(kind: Any, name: str, text: str) -> Any:
    """Return `text` as a value of the annotated type `kind`."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(map(str, get_args(kind)))}, not {text!r}")
        return value
    try:
        return _convert(kind, value)
    except (ValueError, OverflowError) as error:
        shown = kind if get_origin(kind) else kind.__name__
        raise ValueError(f"{name} must be of type {shown}, not {text!r}") from error


def _convert(kind: Any, value: Any) -> Any:
    """Return `value` as a `kind` if it is one in another notation.

    Raises:
        ValueError, OverflowError: it is not.
    """
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if type(value) is tuple and kinds[-1] is ...:
            kinds = kinds[:1] * len(value)
        if type(value) is tuple and len(value) == len(kinds):
            return tuple(map(_convert, kinds, value))
    elif type(value) is kind:
        return value
    elif kind is float and type(value) is int:
        return float(value)
    elif kind is int and type(value) is float and value.is_integer():
        return int(value)
    elif kind is bool and value in ("true", "false"):
        return value == "true"
    raise ValueError
