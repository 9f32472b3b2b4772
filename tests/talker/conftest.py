"""Fixtures with a tiny system, for test modules whose `folder` holds a checkpoint, voice.wav and face.png."""

from __future__ import annotations

from pathlib import Path

import pytest

from talker import Talker
from talker.identity import Portrait, Voice


@pytest.fixture(scope="module")
def talker(folder: Path) -> Talker:
    return Talker.from_pretrained(folder)


@pytest.fixture(scope="module")
def voice(talker: Talker, folder: Path) -> Voice:
    return talker.voice(folder / "voice.wav")


@pytest.fixture(scope="module")
def portrait(talker: Talker, folder: Path) -> Portrait:
    return talker.portrait(folder / "face.png", crop="none")
