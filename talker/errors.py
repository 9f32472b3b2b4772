"""The exception for errors of the user."""

from __future__ import annotations


class UserError(ValueError):
    """An input of the user cannot be used. The message is one line and names the next step."""
