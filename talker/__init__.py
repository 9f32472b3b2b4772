"""Talking portraits: generates speech and video together from a text, a voice and a face."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from talker.errors import UserError
    from talker.pipeline import Talker

    __version__: str

__all__ = ["Talker", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    """Import class `name` on first access, so that `import talker.model` imports neither PyAV nor Pillow."""
    if name == "__version__":
        return importlib.metadata.version("talker")
    if name == "Talker":
        from talker.pipeline import Talker

        return Talker
    if name == "UserError":
        from talker.errors import UserError

        return UserError
    raise AttributeError(f"module 'talker' has no attribute {name!r}")
