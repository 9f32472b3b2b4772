"""A tiny system for every module here that writes its checkpoint, voice.wav and face.png into `folder`."""

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
def face(talker: Talker, folder: Path) -> Portrait:
    return talker.portrait(folder / "face.png")
