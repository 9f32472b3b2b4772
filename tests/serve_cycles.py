"""Connects, talks and leaves many times, with four clients at once; prints the resident memory each time.

PYTHONPATH=.:tests python tests/serve_cycles.py FOLDER CYCLES
"""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time
from pathlib import Path

import torch
from serve_sessions import studio_of
from websockets.sync.client import connect

from talker import Talker
from talker.serve.keys import Keys
from talker.serve.server import Server, listen, share_heaps
from talker.serve.session import Limits
from talker.serve.sessions import Sessions
from talker.serve.store import Store

LEAVING = ("at the end", "without a word", "by session.stop", "without a word")


def talk(address: str, leaving: str) -> None:
    """Start a session and leave it."""
    with connect(address, proxy=None, max_size=None) as socket:
        socket.send(json.dumps({"type": "session.start", "prompt": "Go on. Oh no!"}))
        while (event := json.loads(socket.recv()))["type"] != "session.done":
            assert event["type"] != "error", event
            if event["type"] != "video.chunk_metadata":
                continue
            socket.recv()
            if leaving == "at the end":
                socket.send(json.dumps({"type": "playback", "position_ms": 10**6}))
            elif event["transport_chunk_index"] == 2:
                if leaving == "without a word":
                    return
                socket.send(json.dumps({"type": "session.stop"}))


def resident() -> int:
    """Resident memory of this process in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def main(folder: Path, cycles: int) -> None:
    torch.set_num_threads(1)
    share_heaps()
    talker = Talker.from_pretrained(folder)
    voice, portrait = talker.voice(folder / "voice.wav"), talker.portrait(folder / "face.png", crop="none")
    with (
        talker.system.generator.scheduler(len(LEAVING)) as scheduler,
        listen("127.0.0.1", 0, Keys({})) as listener,
    ):
        sessions = Sessions(scheduler, dataclasses.replace(Limits(), hold=0.1))
        store = Store(folder / "data")
        server = Server(studio_of(talker, voice, portrait, sessions, store))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        address = f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/realtime/video"
        for _ in range(cycles):
            clients = [threading.Thread(target=talk, args=(address, leaving)) for leaving in LEAVING]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            while sessions.running:
                time.sleep(0.01)
            print(resident(), flush=True)
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
