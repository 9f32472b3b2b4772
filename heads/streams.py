"""Audio and motion travel together; either may be absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

NAMES = ("audio", "motion")


@dataclass(frozen=True)
class Streams:
    """One tensor per modality (None: absent), of any shape."""

    audio: Tensor | None = None
    motion: Tensor | None = None

    def __getitem__(self, name: str) -> Tensor:
        """The stream of that name; KeyError if it is absent."""
        value = getattr(self, name) if name in NAMES else None
        if value is None:
            raise KeyError(f"no stream {name!r} here; present: {[n for n, _ in self.items()]}")
        return value

    def __contains__(self, name: str) -> bool:
        return name in NAMES and getattr(self, name) is not None

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of the streams present, always in the order of NAMES."""
        for name in NAMES:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def map(self, fn: Callable[[Tensor], Tensor]) -> Streams:
        """fn applied to each stream present."""
        return Streams(**{name: fn(value) for name, value in self.items()})

    def zip(self, other: Streams, fn: Callable[[Tensor, Tensor], Tensor]) -> Streams:
        """fn(ours, theirs) for the streams present in both."""
        return Streams(**{name: fn(value, other[name]) for name, value in self.items() if name in other})

    def only(self, names: tuple[str, ...]) -> Streams:
        """The streams named, as far as they are present."""
        return Streams(**{name: value for name, value in self.items() if name in names})
