"""What every test gets: one thread, a fixed seed, no network; and what it must leave as it found it."""

from __future__ import annotations

import gc
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from module_graph import PACKAGES
from PIL import Image

from talker.media import face

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
    found: dict[str, tuple[object, ...]] = {
        name: _state(one) for name, one in manager.loggerDict.items() if isinstance(one, logging.Logger)
    }
    return found | {"root": _state(logging.getLogger()), "logging.disable": (manager.disable,)}


def _state(logger: logging.Logger) -> tuple[object, ...]:
    own = tuple(h for h in logger.handlers if not _from_pytest(h)) if logger.handlers else ()
    return logger.level, own, logger.propagate, logger.disabled


def _restore_logger(name: str, before: tuple[object, ...]) -> None:
    if name == "logging.disable":
        logging.disable(before[0])  # type: ignore[arg-type]
        return
    logger = logging.getLogger(None if name == "root" else name)
    level, own, logger.propagate, logger.disabled = before  # type: ignore[assignment]
    logger.setLevel(level)  # type: ignore[arg-type]
    logger.handlers[:] = [*own, *filter(_from_pytest, logger.handlers)]  # type: ignore[misc]


def pytest_collection_finish() -> None:
    """Exclude the imported libraries, half a million objects, from garbage collection; collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_sessionfinish() -> None:
    """Exclude what is left, too: the interpreter would search it several times at exit."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _each_picture_is_searched_once() -> Iterator[None]:
    """Keep the faces that the cascade found: many tests search the same few pictures, 0.1 s each."""
    detect, known = face._detect, {}

    def detect_once(picture: Image.Image, *settings: float) -> list[face.Box]:
        key = picture.tobytes(), picture.size, settings
        if key not in known:
            known[key] = detect(picture, *settings)
        return list(known[key])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(face, "_detect", detect_once)
        yield


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
    loggers_now, environment_now = _loggers(), dict(os.environ)
    for name, now in loggers_now.items() if loggers_now != loggers else ():
        if name in LIBRARY_LOGGERS:
            continue
        before = loggers.get(name, NEW_LOGGER if name.split(".")[0] in PACKAGES else now)
        if now != before:
            changes.append(f"logger {name}: {before} became {now}")
            _restore_logger(name, before)
    for name in (environment.keys() | environment_now.keys()) - SET_BY_LIBRARIES:
        before, after = environment.get(name), environment_now.get(name)
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
    # torch.manual_seed also seeds devices that are not in use, which formats a stack trace for each of them.
    torch.default_generator.manual_seed(0)
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
