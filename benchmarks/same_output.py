"""Compare the output of the working tree with that of an earlier commit, bit for bit.

python benchmarks/same_output.py COMMIT [--threads 1]

Checks COMMIT out as a git worktree in a temporary folder and runs ten requests with each of the two trees, in
processes of their own with the same number of threads. Compares raw latents, PCM and frames, and prints one
line per request. The exit status is 1 if any request differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BOTH, AUDIO, MOTION = ("audio", "motion"), ("audio",), ("motion",)
SPOKEN = "The small dog sleeps near the fire."
"""The words of clip.mp4, the input of the `animate` and `dub` requests."""


@dataclass(frozen=True)
class Request:
    """One request. `streams`: the streams that the model generates; empty where a request has no clip."""

    name: str
    streams: tuple[str, ...]
    make: Callable[[Any, Path], Any]


def sampling(**settings: float) -> Any:
    """`Sampling` of the tree that this process runs."""
    from heads.solver import Sampling

    return Sampling(**settings)  # type: ignore[arg-type]


def say(text: str, voice: str, face: str | None, **options: Any) -> Callable[[Any, Path], Any]:
    """A `say` request with a shipped voice, and a shipped portrait or none."""

    def make(talker: Any, inputs: Path) -> Any:
        given = {key: value() if callable(value) else value for key, value in options.items()}
        if face is None:
            return talker.say(text, talker.voice(voice), audio_only=True, **given)
        return talker.say(text, talker.voice(voice), talker.portrait(face), **given)

    return make


def live(talker: Any, inputs: Path) -> Iterator[Any]:
    """An `animate_stream` request: a recording in pieces of 100 ms, as an iterator or in a channel."""
    pcm = np.load(inputs / "pcm.npy")
    pieces: Any = np.split(pcm, range(2_400, len(pcm), 2_400))
    sound = iter(pieces)
    if hasattr(talker, "system"):
        from talker.stages import Channel

        sound = Channel(len(pieces))
        for piece in pieces:
            sound.put(piece)
        sound.close()
    return talker.animate_stream(sound, talker.portrait("eve"), level=0.1, seed=5)


REQUESTS = (
    Request("say, one sentence", BOTH, say("We walked home along the river.", "ada", "ada")),
    Request(
        "say, two sentences",
        BOTH,
        say("The train was late again today. Nobody seemed to mind very much.", "ben", "ben", seed=1),
    ),
    Request(
        "say, other sampling",
        BOTH,
        say(
            *("She opened the window and listened.", "carmen", "daniel"),
            seed=2,
            sampling=lambda: sampling(steps=8, temperature=0.8, guidance=2.0),
        ),
    ),
    Request("say, audio only", AUDIO, say("Please leave the letter on my desk.", "eve", None)),
    Request(
        "say, audio only, two sentences",
        AUDIO,
        say("I will call you in the morning. The meeting starts a little later.", "frank", None, seed=3),
    ),
    Request(
        "animate with text",
        MOTION,
        lambda talker, inputs: talker.animate(inputs / "clip.mp4", talker.portrait("carmen"), text=SPOKEN),
    ),
    Request(
        "animate without text",
        MOTION,
        lambda talker, inputs: talker.animate(inputs / "clip.mp4", talker.portrait("frank"), seed=4),
    ),
    Request("animate_stream", (), live),
    Request(
        "dub",
        AUDIO,
        lambda talker, inputs: talker.dub(inputs / "clip.mp4", SPOKEN, talker.voice("daniel")),
    ),
    Request(
        "dub, other sampling",
        AUDIO,
        lambda talker, inputs: talker.dub(
            *(inputs / "clip.mp4", SPOKEN, talker.voice("carmen")),
            seed=6,
            sampling=sampling(steps=4, temperature=1.0, guidance=1.5),
        ),
    ),
)


# -- in the process of one tree ------------------------------------------------------------------------------


def prepare(inputs: Path) -> None:
    """Write clip.mp4 (a shipped face that says SPOKEN) and pcm.npy (its sound) into `inputs`."""
    from talker import Talker

    talker = Talker.from_pretrained()
    clip = talker.say(SPOKEN, talker.voice("ada"), talker.portrait("ben"), seed=9)
    clip.save(inputs / "clip.mp4")
    np.save(inputs / "pcm.npy", np.concatenate([chunk.pcm for chunk in clip]))


def collect_old(clip: Any) -> Iterator[Any]:
    """Raw latents of each patch, with the API of commit 004fc96: `made` yields Streams, or (pcm, Streams)."""
    for piece in clip.made():
        yield piece[1] if isinstance(piece, tuple) else piece


def collect_new(clip: Any) -> Iterator[Any]:
    """Raw latents of each patch, with the present API."""
    return clip.take().latents()


def collect(tree: Path, inputs: Path, output: Path) -> None:
    """Run all requests with the code of `tree` and write their arrays to `output`/<number>.npz."""
    import talker

    if not Path(talker.__file__).is_relative_to(tree):
        raise SystemExit(f"talker was imported from {talker.__file__}, not from {tree}: check PYTHONPATH")
    system = talker.Talker.from_pretrained()
    for number, request in enumerate(REQUESTS):
        clip = request.make(system, inputs)
        arrays: dict[str, np.ndarray] = {}
        if request.streams:
            latents = list(collect_new(clip) if hasattr(clip, "take") else collect_old(clip))
            for name in request.streams:
                patches = [getattr(streams, name) for streams in latents]
                arrays[f"{name} latents"] = np.concatenate([patch.cpu().numpy() for patch in patches])
        chunks = list(clip)
        arrays["PCM"] = np.concatenate([chunk.pcm for chunk in chunks])
        arrays["frames"] = np.concatenate([chunk.frames for chunk in chunks])
        np.savez(output / f"{number}.npz", **arrays)


# -- in the process that compares ----------------------------------------------------------------------------


def run(tree: Path, threads: int, *arguments: str | Path) -> None:
    """Run this file as `... --child arguments` with the packages of `tree`."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tree} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def difference(name: str, old: np.ndarray, new: np.ndarray) -> str | None:
    """What differs between two arrays of one request, or None."""
    if (old.shape, old.dtype) != (new.shape, new.dtype):
        return f"{name}: {old.dtype} {old.shape} before, {new.dtype} {new.shape} now"
    if old.tobytes() == new.tobytes():
        return None
    unequal = (old != new).reshape(len(old), -1).any(1)
    largest = np.abs(old.astype(np.float64) - new.astype(np.float64)).max()
    first = unequal.argmax()
    return f"{name}: {unequal.sum()} of {len(old)} differ by at most {largest:.3g}, the first is {first}"


def compare(before: Path, after: Path) -> bool:
    """Print one line per request; whether all are equal."""
    same = True
    for number, request in enumerate(REQUESTS):
        old, new = (dict(np.load(folder / f"{number}.npz")) for folder in (before, after))
        found = [difference(name, old[name], new[name]) for name in old]
        differences = [one for one in found if one is not None]
        same &= not differences
        sizes = ", ".join(f"{len(array)} {name}" for name, array in old.items())
        print(
            f"{request.name:32}{'DIFFERENT ' + '; '.join(differences) if differences else 'equal: ' + sizes}"
        )
    return same


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        task, *folders = sys.argv[2:]
        {"prepare": prepare, "collect": collect}[task](*map(Path, folders))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the commit to compare with")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process (default: 1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old = folder / "tree"
        inputs, before, after = (folder / part for part in ("inputs", "before", "after"))
        for part in (inputs, before, after):
            part.mkdir()
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(old), options.commit], check=True)
        try:
            run(old, options.threads, "prepare", inputs)
            run(old, options.threads, "collect", old, inputs, before)
            run(ROOT, options.threads, "collect", ROOT, inputs, after)
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=False)
            shutil.rmtree(old, ignore_errors=True)
        return 0 if compare(before, after) else 1


if __name__ == "__main__":
    sys.exit(main())
