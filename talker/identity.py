"""Voice and portrait: both are computed once and used for any number of clips."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from motion_ae.model import SourceFeatures
from talker.media.face import Box


@dataclass(frozen=True)
class Voice:
    """A voice to speak with.

    Args:
        name: shown to users.
        embedding: (G,) speaker embedding.
        prefix: (T, C) raw audio latents of a recording that precedes the speech. The output does not
            contain them.
        said: transcript of `prefix` if the prefix is a sentence of its own. Empty: the text of the clip must
            begin with the words of the prefix.
    """

    name: str
    embedding: Tensor
    prefix: Tensor | None = None
    said: str = ""

    def __repr__(self) -> str:
        begins = f", {self.prefix_frames} frames of prefix" if self.prefix_frames else ""
        return f"<Voice {self.name}: embedding of {len(self.embedding)} values{begins}>"

    @property
    def prefix_frames(self) -> int:
        """Number of frames of the prefix."""
        return 0 if self.prefix is None else len(self.prefix)


@dataclass(frozen=True)
class Portrait:
    """A face to render.

    Args:
        name: shown to users.
        source: features of the image for the renderer.
        framing: the square that the image shows, in pixels of the upright picture.
    """

    name: str
    source: SourceFeatures
    framing: Box

    def __repr__(self) -> str:
        left, top, side = self.framing.left, self.framing.top, self.framing.side
        return f"<Portrait {self.name}: square of {side:.0f} pixels at ({left:.0f}, {top:.0f})>"

    @property
    def motion(self) -> Tensor:
        """Raw motion code (M,) of the image, float32 on the CPU."""
        return self.source.motion[0].float().cpu()
