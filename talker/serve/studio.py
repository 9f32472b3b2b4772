"""What the routes of a server use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from talker.identity import Portrait, Voice
from talker.pipeline import Talker
from talker.serve.identities import Library
from talker.serve.jobs import Jobs
from talker.serve.keys import AccessTickets, Keys
from talker.serve.sessions import Sessions
from talker.serve.store import Store
from talker.system import System

UPLOADS_AT_ONCE = 2


@dataclass(frozen=True)
class Studio:
    """What the routes of a server use.

    Args:
        model: name of the model.
        talker: the model.
        voices, portraits: by name or id.
        sessions: the running sessions.
        store: what is kept on disk.
        jobs: videos that are generated one after another.
        keys: the keys of the owners; empty: everybody on this machine is one owner.
        hosts: further host names of this server.
        tickets: names that stand for an owner for a minute.
        upload_slots: held while an upload is decoded.
    """

    model: str
    talker: Talker
    voices: Library[Voice]
    portraits: Library[Portrait]
    sessions: Sessions
    store: Store
    jobs: Jobs
    keys: Keys = field(default_factory=lambda: Keys({}))
    hosts: tuple[str, ...] = ()
    tickets: AccessTickets = field(default_factory=AccessTickets)
    upload_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS_AT_ONCE))

    @property
    def system(self) -> System:
        """The networks."""
        return self.talker.system
