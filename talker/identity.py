"""Who speaks: a voice and a portrait, each computed once and used for any number of clips."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from motion_ae.model import SourceFeatures


@dataclass(frozen=True)
class Voice:
    """A way to speak.

    Args:
        name: for people.
        embedding: (G,) of the speaker.
        prefix: (T, C) raw audio latents of a recording that precedes what is said, and is not heard.
        said: the words spoken in `prefix`, where it is another sentence. Without them the text to be said
            begins with the words of the prefix.
    """

    name: str
    embedding: Tensor
    prefix: Tensor | None = None
    said: str = ""

    @property
    def prefix_frames(self) -> int:
        """Length of the prefix."""
        return 0 if self.prefix is None else len(self.prefix)


@dataclass(frozen=True)
class Portrait:
    """A face.

    Args:
        name: for people.
        source: the picture as the renderer needs it.
    """

    name: str
    source: SourceFeatures

    @property
    def motion(self) -> Tensor:
        """Its own raw motion (M,), on the CPU."""
        return self.source.motion[0].float().cpu()
