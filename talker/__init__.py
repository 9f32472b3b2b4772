"""Talking portraits: text, a voice and a face become speech and video, generated together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from talker.errors import UserError
    from talker.pipeline import Talker

__all__ = ["Talker", "UserError"]


def __getattr__(name: str) -> Any:
    """Loaded when first asked for: `import talker.model` needs neither PyAV nor pictures."""
    if name == "Talker":
        from talker.pipeline import Talker

        return Talker
    if name == "UserError":
        from talker.errors import UserError

        return UserError
    raise AttributeError(f"module 'talker' has no attribute {name!r}")
