"""A container for the audio and motion streams, of which either may be absent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NAMES = ("audio", "motion")


@dataclass(frozen=True)
class Streams:
    """One tensor per stream, of any shape. None: the stream is absent."""

    audio: Tensor | None = None
    motion: Tensor | None = None

    @classmethod
    def of(cls, names: Iterable[str], make: Callable[[str], Tensor]) -> Streams:
        """Streams with the tensor `make(name)` for each of `names`."""
        return cls(**{name: make(name) for name in names})

    @classmethod
    def cat(cls, several: Sequence[Streams], dim: int = 0) -> Streams:
        """Concatenate along `dim`. The result has the streams of the first element."""
        return cls.of(several[0].names, lambda name: torch.cat([each[name] for each in several], dim))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the present streams, in the order of NAMES."""
        return tuple(name for name, _ in self.items())

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of a stream. Raises KeyError if it is absent."""
        value = getattr(self, name) if name in NAMES else None
        if value is None:
            raise KeyError(f"stream {name!r} is absent; present: {list(self.names)}")
        return value

    def __contains__(self, name: str) -> bool:
        return name in NAMES and getattr(self, name) is not None

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of the present streams, in the order of NAMES."""
        for name in NAMES:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def map(self, fn: Callable[[Tensor], Tensor]) -> Streams:
        """Apply `fn` to each present stream."""
        return Streams.of(self.names, lambda name: fn(self[name]))

    def zip(self, other: Streams, fn: Callable[[Tensor, Tensor], Tensor]) -> Streams:
        """Apply `fn(own, other)` to each stream that is present in both."""
        return Streams.of([n for n in self.names if n in other], lambda name: fn(self[name], other[name]))

    def only(self, names: Iterable[str]) -> Streams:
        """Keep the present streams whose names are in `names`."""
        return Streams.of([name for name in self.names if name in tuple(names)], lambda name: self[name])

    def split(self, size: int, dim: int = 0) -> list[Streams]:
        """Split into pieces of at most `size` along `dim`, in which all streams must have equal lengths."""
        columns = [value.split(size, dim) for _, value in self.items()]
        return [Streams(**dict(zip(self.names, row, strict=True))) for row in zip(*columns, strict=True)]


NO_STREAMS = Streams()
