"""Runs the app of a server until a signal arrives."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import logging
import math
import socket
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import uvicorn

from talker.errors import UserError
from talker.pipeline import Talker
from talker.serve.app import create_app
from talker.serve.capacity import measured_capacity, measured_sessions
from talker.serve.events import events_to_stderr
from talker.serve.identities import portrait_library, voice_library
from talker.serve.jobs import Jobs
from talker.serve.keys import NO_KEYS_OWNER, Keys
from talker.serve.protocol import LONGEST_MESSAGE
from talker.serve.session import Limits
from talker.serve.sessions import Sessions
from talker.serve.store import Store
from talker.serve.studio import Studio

log = logging.getLogger(__name__)

SEND_BUFFER = 64 * 1024  # bytes of a socket; larger ones hide a reader that does not read
THREADS = 64  # for the work of routes
M_ARENA_MAX = -8  # option of glibc's `mallopt`


def listen(host: str, port: int, keys: Keys) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: the port or address does not exist or is in use; or the address is not on the loopback
            interface and there are no keys.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port} is no port: give a number from 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"--host {host} is no address of this machine: use --host 127.0.0.1") from error
    if not keys and not ipaddress.ip_address(address[0]).is_loopback:
        raise UserError(
            f"--host {host} is refused, because every machine in the network could use this server: create "
            "a key with `talker key keys.txt` and add --keys keys.txt, or use --host 127.0.0.1"
        )
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    try:
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another --port"
        ) from error
    return listener


def share_heaps() -> None:
    """Let all threads allocate from two heaps, where the C library is glibc.

    By default glibc gives threads up to eight heaps per core. Each of them keeps the memory of the largest
    work of any session that used it, so the memory of the process would grow over hundreds of sessions.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


class Server(uvicorn.Server):
    """Serves an app until a signal arrives and its sessions have ended, or a second signal arrives."""

    def __init__(self, studio: Studio) -> None:
        """`studio`: what the sessions are made of."""
        config = uvicorn.Config(
            create_app(studio),
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=4 * LONGEST_MESSAGE,  # bytes; a character has up to 4
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)
        self._sessions = studio.sessions
        self._stopping = False

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end."""
        self._loop = asyncio.get_running_loop()
        # By default there are only four more threads than cores, and every speech waits in one.
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS, "route"))
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on SIGINT and SIGTERM."""
        if self._stopping:
            self.should_exit = True
            return
        self._stopping = True
        log.info("shutting down: waiting up to %g s for the sessions", self._sessions.limits.drain)
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        async def drain() -> None:
            await self._sessions.drain()
            self.should_exit = True

        self._draining = asyncio.create_task(drain())


def serve(
    talker: Talker,
    model: str,
    listener: socket.socket,
    store: Store,
    keys: Keys,
    hosts: tuple[str, ...] = (),
    capacity: int | None = None,
    idle_limit: float = Limits.idle,
) -> None:
    """Serve sessions until SIGINT or SIGTERM.

    Args:
        talker: the model.
        model: its name.
        listener: from `listen`.
        store: what is kept on disk.
        keys: the keys of the owners.
        hosts: further host names of this server.
        capacity: number of rows of the batch; None: see `measured_capacity`.
        idle_limit: see `Limits.idle`; 0: no limit.
    """
    share_heaps()
    voices, portraits = voice_library(talker, store), portrait_library(talker, store)
    voice, portrait = voices.get(None, NO_KEYS_OWNER), portraits.get(None, NO_KEYS_OWNER)
    if capacity is None:
        capacity = measured_capacity(talker.system, voice, portrait)
    most = measured_sessions(talker.system, voice, portrait, capacity)
    with (
        contextlib.closing(store),
        listener,
        talker.system.generator.scheduler(capacity) as scheduler,
        events_to_stderr(),
    ):
        sessions = Sessions(scheduler, Limits(idle=idle_limit or math.inf), most)
        jobs = Jobs(talker, voices, portraits, sessions, store)
        studio = Studio(model, talker, voices, portraits, sessions, store, jobs, keys, hosts)
        address = listener.getsockname()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        log.info(
            "serving up to %d session%s on http://%s:%d; uploads and results are kept for %g h in %s",
            most,
            "s"[: most > 1],
            host,
            address[1],
            store.retained / 3600,
            store.folder,
        )
        asyncio.run(Server(studio).serve([listener]))
