"""Voices and portraits of a server, by name. Each is computed when it is first used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, TypeVar

from talker.errors import UserError
from talker.identity import Portrait, Voice
from talker.pipeline import Talker
from talker.shipped import shipped_names

Item = TypeVar("Item")


class Lazy(Generic[Item]):
    """A table of items that are computed when they are first used."""

    def __init__(self, kind: str, loaders: Mapping[str, Callable[[], Item]]) -> None:
        """`kind`: for error messages; `loaders`: compute the items by name. The first is the default."""
        self._kind, self._loaders = kind, dict(loaders)
        self._items: dict[str, Item] = {}
        self._lock = threading.Lock()

    def get(self, name: str | None) -> Item:
        """The item of a name; None: the default.

        Raises:
            UserError: there is no such item.
        """
        name = next(iter(self._loaders)) if name is None else name
        if name not in self._loaders:
            raise UserError(
                f"there is no {self._kind} of this name: choose one of {', '.join(self._loaders)}"
            )
        with self._lock:
            if name not in self._items:
                self._items[name] = self._loaders[name]()
            return self._items[name]


def shipped_voices(talker: Talker) -> Lazy[Voice]:
    """The voices of the package."""
    return Lazy("voice", {name: partial(talker.voice, name) for name in shipped_names("voices")})


def shipped_portraits(talker: Talker) -> Lazy[Portrait]:
    """The portraits of the package."""
    return Lazy("portrait", {name: partial(talker.portrait, name) for name in shipped_names("portraits")})
