"""The talker's recipe at tiny size on random latents, as a program that a launcher can start.

torchrun --nproc-per-node 2 tests/tiny_talker.py FOLDER [--pause SECONDS] [--set NAME=VALUE]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from recipes import ranks, train_talker
from recipes.configs.override import override
from recipes.configs.talker import tiny
from recipes.data.latents import Latents

ROOT = Path(__file__).resolve().parents[1]


def random_clips(count: int = 40) -> train_talker.Data:
    """Return random clips of three to five patches; clip 3 is idle."""
    config, rng = tiny().model, np.random.default_rng(0)
    frames, letters = rng.integers(3, 6, count) * 4, rng.integers(4, 9, count)
    letters[3] = 0
    starts = [np.concatenate([[0], np.cumsum(counts)]) for counts in (frames, letters)]
    read = [np.linspace(0, n, f // 4) for n, f in zip(letters, frames, strict=True)]
    held = Latents(
        audio=rng.normal(1, 2, (frames.sum(), config.widths["audio"])).astype(np.float16),
        motion=rng.normal(size=(frames.sum(), config.widths["motion"])).astype(np.float16),
        text=rng.integers(1, 40, letters.sum()).astype(np.int16),
        read=np.concatenate(read).astype(np.float16),
        voice=rng.integers(0, 5, count).astype(np.int32),
        speaker=rng.normal(size=(count, config.global_widths["audio"])).astype(np.float16),
        frame_starts=starts[0],
        text_starts=starts[1],
    )
    return train_talker.Data.of(held)


def free_port() -> int:
    """Return the number of a free TCP port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(
    folder: Path, processes: int, *arguments: str, program: tuple[str, ...] = (__file__,)
) -> list[subprocess.Popen[str]]:
    """Start `program` in `processes` processes that train together, or in one without a process group."""
    port = free_port()
    shared = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    if processes > 1:
        shared |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, *program, str(folder), *arguments],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(processes)
    ]


def finish(processes: list[subprocess.Popen[str]], seconds: float = 600) -> str:
    """Wait for processes and return the output of rank 0; fails with all outputs if a process failed."""
    try:
        outputs = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), "\n---\n".join(
        output[-3000:] for output in outputs
    )
    return outputs[0]


def curve(folder: Path) -> list[dict[str, float]]:
    """Return the logged steps of a run; of a step that was repeated after a kill, the last row."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return list({row["step"]: row for row in rows if "audio" in row}.values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    device = ranks.join()
    run = override(tiny(), options.set)
    data = random_clips()
    trainer = train_talker.build(run, options.run, device)
    step = trainer.step
    trainer.step = lambda *given, **parts: (time.sleep(options.pause), step(*given, **parts))[1]  # type: ignore
    train_talker.train(trainer, run, data, data)


if __name__ == "__main__":
    main()
