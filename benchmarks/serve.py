"""Live sessions at once: time to the first chunk, stalls of the playback, and real-time factor.

    python benchmarks/serve.py [--capacity 4] [--clients 1 2 4 8] [--rounds 3]

A server with CAPACITY rows and without a limit of its own runs in a process. Each client opens a session with
a text of about ten seconds, and plays like a browser: it starts with 0.3 s of media, stalls when it has none,
and reports its position twice a second. Run it on a quiet machine; the load before it is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from websockets.asyncio.client import connect

TEXT = (
    "The train to the coast leaves at seven in the morning. We should meet at the station a little earlier, "
    "so that nobody has to run. Please bring something to read."
)
START_SECONDS = 0.3  # of media before a player starts
REPORT_SECONDS = 0.5


@dataclass
class Playback:
    """What a viewer notices in one session.

    Attributes:
        first: seconds from the request to the first chunk.
        stalls: number of stalls.
        stalled: seconds without media to play.
        rtf: real-time factor, as the server says.
        done: whether all media have arrived.
    """

    first: float = math.nan
    stalls: int = 0
    stalled: float = 0.0
    rtf: float = math.nan
    done: bool = False
    _received: float = field(default=0.0, repr=False)
    _played: float = field(default=0.0, repr=False)
    _playing: bool = field(default=False, repr=False)

    def advance(self, seconds: float) -> None:
        """Play for a time."""
        if not self._playing:
            return
        possible = min(seconds, self._received - self._played)
        self._played += possible
        if possible < seconds and not self.done:
            self.stalls += 1
            self._playing = False

    def receive(self, seconds: float) -> None:
        """Add media. A player that has stalled goes on with START_SECONDS of media."""
        self._received += seconds
        self._playing = self._playing or self._received - self._played >= START_SECONDS

    @property
    def position_ms(self) -> int:
        """Playback position."""
        return round(1000 * self._played)


async def session(port: int, seed: int) -> Playback:
    """Speak TEXT in a session."""
    playback = Playback()
    async with connect(f"ws://127.0.0.1:{port}/v1/realtime/video", proxy=None, max_size=None) as server:
        asked = time.perf_counter()
        await server.send(json.dumps({"type": "session.start", "prompt": TEXT, "seed": seed}))

        async def play() -> None:
            before = time.perf_counter()
            while True:
                await asyncio.sleep(0.02)
                now = time.perf_counter()
                if not playback._playing and playback.stalls:
                    playback.stalled += now - before
                playback.advance(now - before)
                before = now

        async def report() -> None:
            while True:
                await asyncio.sleep(REPORT_SECONDS)
                await server.send(json.dumps({"type": "playback", "position_ms": playback.position_ms}))

        tasks = [asyncio.create_task(play()), asyncio.create_task(report())]
        async for data in server:
            if isinstance(data, bytes):
                continue
            event = json.loads(data)
            if event["type"] == "video.chunk_metadata":
                if math.isnan(playback.first):
                    playback.first = time.perf_counter() - asked
                playback.receive(event["num_frames"] / 25)
            elif event["type"] == "error":
                raise RuntimeError(event["message"])
            elif event["type"] == "session.done":
                playback.rtf, playback.done = event["rtf"], True
                break
        for task in tasks:
            task.cancel()
    return playback


async def measure(port: int, clients: int, rounds: int) -> list[Playback]:
    """Sessions of `rounds` rounds of `clients` clients at once."""
    found: list[Playback] = []
    for number in range(rounds):
        found += await asyncio.gather(*(session(port, number * clients + k) for k in range(clients)))
    return found


def row(clients: int, found: list[Playback]) -> str:
    """A row of the table."""
    first = sorted(one.first for one in found)
    late = first[min(len(first) - 1, math.ceil(0.95 * len(first)) - 1)]
    stalls, stalled = sum(one.stalls for one in found), sum(one.stalled for one in found)
    rtf = [one.rtf for one in found]
    return (
        f"| {clients} | {statistics.median(first):.2f} s | {late:.2f} s | {stalls / len(found):.1f} | "
        f"{stalled / len(found):.2f} s | {statistics.median(rtf):.2f} | {max(rtf):.2f} |"
    )


def serve(port: int, capacity: int) -> None:
    """Serve the default model without a limit of the number of sessions."""
    from pathlib import Path

    from talker import Talker
    from talker.serve.identities import portrait_library, voice_library
    from talker.serve.jobs import Jobs
    from talker.serve.keys import Keys
    from talker.serve.server import Server, listen
    from talker.serve.session import Limits
    from talker.serve.sessions import Sessions
    from talker.serve.store import Store
    from talker.serve.studio import Studio

    talker = Talker.from_pretrained()
    with tempfile.TemporaryDirectory() as folder, talker.system.generator.scheduler(capacity) as scheduler:
        store, sessions = Store(Path(folder)), Sessions(scheduler, Limits(), most=1000)
        voices, portraits = voice_library(talker, store), portrait_library(talker, store)
        jobs = Jobs(talker, voices, portraits, sessions, store)
        studio = Studio("puppet", talker, voices, portraits, sessions, store, jobs)
        asyncio.run(Server(studio).serve([listen("127.0.0.1", port, Keys({}))]))
        store.close()


async def ready(port: int, server: subprocess.Popen) -> None:
    """Wait until the server listens."""
    while server.poll() is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.2)
            continue
        writer.close()
        return
    raise RuntimeError(f"the server ended with exit code {server.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--capacity", type=int, default=4, choices=(1, 4, 8, 16))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int, metavar="PORT", help="only serve, as the benchmark's server")
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.capacity)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.capacity} rows", flush=True)
    command = [sys.executable, __file__, "--serve", str(port), "--capacity", str(options.capacity)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(ready(port, server))
        asyncio.run(measure(port, 1, 1))  # the first session allocates
        print("| clients | first chunk, median | 95 % | stalls a session | stalled | rtf | slowest |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for clients in options.clients:
            print(row(clients, asyncio.run(measure(port, clients, options.rounds))), flush=True)
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
