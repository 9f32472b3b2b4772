"""Fixtures of `serve_sessions` for the tests of the server."""

from serve_sessions import encoded, folder, scheduler, sessions, speak, written  # noqa: F401
