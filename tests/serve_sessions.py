"""A tiny talker with quick sampling settings, a scheduler of four rows, and sessions on it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from takes import QUICK
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from talker import Talker
from talker.clips.say import LiveUtterance
from talker.generation.scheduler import Scheduler
from talker.identity import Portrait, Voice
from talker.media import fragments
from talker.media.encoders import VideoWriter
from talker.serve import session as session_module
from talker.serve.identities import Library
from talker.serve.inputs import TextInput
from talker.serve.jobs import Jobs
from talker.serve.keys import Keys
from talker.serve.session import Limits, Session
from talker.serve.sessions import Sessions
from talker.serve.store import Store
from talker.serve.studio import Studio

CAPACITY = 4


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    config = json.loads((folder / "talker" / "config.json").read_text())
    config["defaults"]["sampling"] |= dataclasses.asdict(QUICK)
    (folder / "talker" / "config.json").write_text(json.dumps(config))
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav", 1.5)
    return folder


@pytest.fixture
def scheduler(talker: Talker) -> Iterator[Scheduler]:
    with talker.system.generator.scheduler(CAPACITY) as scheduler:
        yield scheduler


@pytest.fixture
def sessions(scheduler: Scheduler) -> Iterator[Sessions]:
    """Sessions with short time limits."""
    before = threading.active_count()
    sessions = Sessions(scheduler, dataclasses.replace(Limits(), slow_reader=0.2))
    yield sessions
    sessions.close()
    assert threading.active_count() == before


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """The chunks that each session encodes, by the name of its thread."""
    chunks: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    class Recording(fragments.FragmentEncoder):
        def encode(self, pcm: np.ndarray, frames: np.ndarray) -> bytes:
            chunks.setdefault(threading.current_thread().name, []).append((pcm, frames))
            return super().encode(pcm, frames)

    monkeypatch.setattr(session_module, "FragmentEncoder", Recording)
    return chunks


def studio_of(
    talker: Talker,
    voice: Voice,
    portrait: Portrait,
    sessions: Sessions,
    store: Store,
    keys: Keys | None = None,
) -> Studio:
    """A studio with one shipped voice, "v", and one shipped portrait, "p"."""
    voices = Library(
        "voice", {"v": lambda: voice}, lambda path, said: talker.voice(path, said or None), store
    )
    portraits = Library(
        "portrait", {"p": lambda: portrait}, lambda path, crop: talker.portrait(path, crop or "face"), store
    )
    jobs = Jobs(talker, voices, portraits, sessions, store)
    return Studio("tiny", talker, voices, portraits, sessions, store, jobs, keys or Keys({}))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """The chunks that are written to files. x264 does not always encode frames of 32 pixels alike."""
    chunks: list[tuple[np.ndarray, np.ndarray]] = []

    def write(self: VideoWriter, pcm: np.ndarray, frames: np.ndarray) -> None:
        chunks.append((pcm, frames))
        original(self, pcm, frames)

    original = VideoWriter.write
    monkeypatch.setattr(VideoWriter, "write", write)
    return chunks


Speak = Callable[..., Session]


@pytest.fixture
def speak(talker: Talker, voice, portrait, sessions: Sessions) -> Speak:
    """Start a session that speaks a text; without a text, one whose text arrives."""

    def start(text: str = "", seed: int = 0) -> Session:
        feed = TextInput(talker.system)
        if text:
            feed.whole(text)
        clip = LiveUtterance(talker.system, feed.channel, voice, portrait, seed, QUICK)
        return sessions.start(clip, feed)

    return start


def read(session: Session, plays: bool = True, index: int = 0) -> list[session_module.Fragment]:
    """Fragments of a session until its end. `plays`: whether the client reports that it plays them."""

    async def follow() -> list[session_module.Fragment]:
        found = []
        async for fragment in session.follow(index):
            found.append(fragment)
            session.report_sent(fragment)
            if plays:
                session.report_playback(10**9)
        return found

    return asyncio.run(follow())
