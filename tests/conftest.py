"""What every test gets: one thread, a fixed seed, no network; and what it must leave as it found it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from module_graph import PACKAGES

SHARED = Path(__file__).resolve().parents[2] / "shared"

SET_BY_LIBRARIES = {
    "PYTEST_CURRENT_TEST",
    "RAY_CLIENT_MODE",  # by Ray
    *("LD_LIBRARY_PATH", "QT_QPA_FONTDIR", "QT_QPA_PLATFORM_PLUGIN_PATH"),  # by `import cv2`
    "TORCHINDUCTOR_CACHE_DIR",  # by torch's compiler
    "PYTORCH_NVML_BASED_CUDA_CHECK",  # by DeepSpeed
}
"""Environment variables that other libraries set, usually on their first import."""


LIBRARY_LOGGERS = {"torch.__trace"}
"""Loggers that other libraries change after their first import."""

NEW_LOGGER = (logging.NOTSET, (), True, False)


def _from_pytest(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("_pytest")  # pytest adds and removes these itself


def _loggers() -> dict[str, tuple[object, ...]]:
    """Level, handlers, `propagate` and `disabled` of each logger, and the level of `logging.disable`."""
    manager = logging.Logger.manager
    named = {name: one for name, one in manager.loggerDict.items() if isinstance(one, logging.Logger)}
    found: dict[str, tuple[object, ...]] = {"logging.disable": (manager.disable,)}
    for name, logger in {"root": logging.getLogger(), **named}.items():
        own = tuple(handler for handler in logger.handlers if not _from_pytest(handler))
        found[name] = (logger.level, own, logger.propagate, logger.disabled)
    return found


def _restore_logger(name: str, before: tuple[object, ...]) -> None:
    if name == "logging.disable":
        logging.disable(before[0])  # type: ignore[arg-type]
        return
    logger = logging.getLogger(None if name == "root" else name)
    level, own, logger.propagate, logger.disabled = before  # type: ignore[assignment]
    logger.setLevel(level)  # type: ignore[arg-type]
    logger.handlers[:] = [*own, *filter(_from_pytest, logger.handlers)]  # type: ignore[misc]


@pytest.fixture(autouse=True)
def _process_state() -> Iterator[None]:
    """Fail a test that changes thread counts, loggers or the environment, and restore them.

    New loggers of other libraries, which a first import creates, are allowed.
    """
    torch.set_num_threads(1)
    loggers, environment = _loggers(), dict(os.environ)
    yield
    changes = []
    if (threads := torch.get_num_threads()) != 1:
        changes.append(f"torch.set_num_threads({threads})")
        torch.set_num_threads(1)
    for name, now in _loggers().items():
        if name in LIBRARY_LOGGERS:
            continue
        before = loggers.get(name, NEW_LOGGER if name.split(".")[0] in PACKAGES else now)
        if now != before:
            changes.append(f"logger {name}: {before} became {now}")
            _restore_logger(name, before)
    for name in (environment.keys() | os.environ.keys()) - SET_BY_LIBRARIES:
        before, after = environment.get(name), os.environ.get(name)
        if before == after:
            continue
        changes.append(f"os.environ[{name!r}]: {before!r} became {after!r}")
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    if changes:
        pytest.fail("the test changed the state of the process:\n" + "\n".join(changes), pytrace=False)


@pytest.fixture(autouse=True)
def _seed_and_network(
    _process_state: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed torch; refuse connections to other machines unless the test is marked `network`."""
    torch.manual_seed(0)
    if "network" in request.keywords:
        return
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else None
        if host not in (None, "localhost", "127.0.0.1", "::1"):
            raise OSError(f"this test is not marked `network`, but it connects to {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared beside the checkout. Tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared beside the checkout")
    return SHARED
