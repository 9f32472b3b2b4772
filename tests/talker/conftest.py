"""Fixtures with a tiny system, for test modules whose `folder` holds a checkpoint, voice.wav and face.png."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_generator import ToyGenerator

from talker import Talker
from talker.identity import Portrait, Voice
from talker.media.encoders import VIDEO_OPTIONS
from talker.system import System


@pytest.fixture(scope="module", autouse=True)
def _each_model_is_loaded_once() -> Iterator[None]:
    """Load each model once per test module, also in the command. One instance serves any number of calls."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Talker, "from_pretrained", functools.cache(Talker.from_pretrained))
        yield


@pytest.fixture
def reproducible_x264(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode without x264's macroblock tree: with it, equal frames of 32 pixels may give other packets."""
    monkeypatch.setitem(VIDEO_OPTIONS["libx264"], "x264-params", "mbtree=0")


@pytest.fixture(scope="module")
def talker(folder: Path) -> Talker:
    return Talker.from_pretrained(folder)


@pytest.fixture(scope="module")
def toy(talker: Talker) -> Talker:
    """A talker whose generator takes no time."""
    system = talker.system
    generator = ToyGenerator(system.generator.widths, system.generator.speaker_dim)
    return Talker(System(generator, system.audio_vae, system.motion_ae, system.speaker))


@pytest.fixture(scope="module")
def voice(talker: Talker, folder: Path) -> Voice:
    return talker.voice(folder / "voice.wav")


@pytest.fixture(scope="module")
def portrait(talker: Talker, folder: Path) -> Portrait:
    return talker.portrait(folder / "face.png", crop="none")
