"""What a data set is to the talker's recipe: numbered clips with latents, text and a speaker embedding."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from heads.streams import Streams

PATCH_FRAMES = 4  # frames per patch of the talker
# Lower bound of the standard deviation of each channel of the latents. A channel that hardly varies holds
# mostly the rounding errors of float16, which must not be scaled up to unit variance.
LEAST_STD = 1e-2


@runtime_checkable
class Clips(Protocol):
    """Clips 0..len - 1 of one split of a data set.

    `recipes.data.latents.Latents` (the corpus) and `recipes.data.prepared.Prepared` (a data set made by
    `recipes.data.prepare`) implement it, so the talker trains on either. A clip has T frames at 25 frames
    per second, and N = ceil(T / PATCH_FRAMES) patches.
    """

    def __len__(self) -> int:
        """Number of clips."""
        ...

    @property
    def frames(self) -> NDArray[np.int64]:
        """(clips,) length of each clip in frames."""
        ...

    @property
    def shard(self) -> NDArray[np.int64]:
        """(clips,) number of the file that stores each clip; `recipes.data.order` reads file by file."""
        ...

    @property
    def voice(self) -> NDArray[np.integer[Any]]:
        """(clips,) number of each clip's speaker."""
        ...

    def of(self, stream: str, clip: int) -> Tensor:
        """Raw latents (T, C) float32 of one stream ("audio" or "motion") of a clip."""
        ...

    def ids(self, clip: int) -> list[int]:
        """Token ids of a clip's text; empty if it has none."""
        ...

    def tokens_read(self, clip: int) -> Tensor | None:
        """(N,) number of text tokens (fractional) spoken by the end of each patch; None if unknown."""
        ...

    def embedding(self, clip: int) -> Tensor:
        """(S,) float32 speaker embedding of a clip's sound."""
        ...

    @property
    def widths(self) -> dict[str, int]:
        """Number of channels of each stream's latents, by the stream's name."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the data set's content."""
        ...

    def statistics(self) -> tuple[Streams, Streams]:
        """Mean and standard deviation (C,) of each stream's raw latents; the latter at least LEAST_STD."""
        ...
