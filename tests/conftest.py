"""One thread, fixed seeds, no network: so that every test says the same thing on every machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _steady(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if "network" not in request.keywords:
        connect = socket.socket.connect

        def local_only(self: socket.socket, address: object) -> None:
            host = address[0] if isinstance(address, tuple) else None
            if host not in (None, "localhost", "127.0.0.1", "::1"):
                raise OSError(f"tests use no network, yet one connects to {host}")
            connect(self, address)  # type: ignore[arg-type]

        monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared material beside the checkout; a test that wants it skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the shared material beside the checkout (../shared)")
    return SHARED
