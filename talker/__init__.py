"""Talking portraits: generates speech and video together from a text, a voice and a face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from talker.errors import UserError
    from talker.pipeline import Talker

__all__ = ["Talker", "UserError"]


def __getattr__(name: str) -> Any:
    """Import class `name` on first access, so that `import talker.model` imports neither PyAV nor Pillow."""
    if name == "Talker":
        from talker.pipeline import Talker

        return Talker
    if name == "UserError":
        from talker.errors import UserError

        return UserError
    raise AttributeError(f"module 'talker' has no attribute {name!r}")
