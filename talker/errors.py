"""The one exception whose message is written for the person at the keyboard."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user gave cannot be used; the message is one line and says what to do."""
