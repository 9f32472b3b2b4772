"""Measure discontinuities at the joins between sentences and between windows.

    python -m evaluation.joins [--seed 0]

The command generates speech and video for a text, then video for that speech (in windows, with the text and
without it), then speech for that video. A join is the border between two sentences or windows. Three kinds of
steps are measured at each join: between the adjacent samples, between the loudness of the 20 ms before and
after, and between the head's yaw, pitch and shift in the adjacent frames. A join is smooth if its step is no
larger than the 99.5th percentile of the same kind of step at all other frame borders.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from talker.signals import announce, command, exit_on_signals

if __name__ == "__main__":  # before imports that take seconds
    announce("evaluation.joins")

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.report import Cell, table, write_wav
from heads.streams import Streams
from talker.clips.animate import Animation
from talker.clips.clip import Take
from talker.clips.dub import Dubbing
from talker.clips.say import Utterance
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.media.readers import stream_audio
from talker.pipeline import Talker

PERCENTILE = 99.5
PIECE = SAMPLE_RATE // 50  # samples of a loudness measurement
SOUND = ("sample", "loudness")
HEAD = {"yaw": (0,), "pitch": (1,), "shift": (3, 4)}
"""Columns of the head's pose in the motion latents of the default model."""
KINDS = (*SOUND, *HEAD)
TEXT = (
    "The train leaves at seven. We have time for a cup of tea. It rained all night, and the roads are "
    "wet. Somebody left the window open. My brother lives in a small town by the sea. He writes to me "
    "every week. Do you remember the old harbor? It looks quite different now. They painted the boats "
    "in bright colors. Children run along the wall in the evening. The bakery opens before the sun is "
    "up. You can smell the bread from far away. I usually buy two loaves and a bun. The woman there "
    "knows my name. She asks about my family. Then I walk back through the park. There is a bench under "
    "the tall trees. I like to sit there for a while. Nobody is in a hurry in the morning. That is how "
    "the day begins."
)


def steps(pcm: NDArray[np.float32], motion: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Return the steps (T - 1,) of each kind at the frame borders of pcm (960 T,) and raw motion (T, M)."""
    borders = np.arange(1, len(motion)) * HOP
    power = np.square(pcm.reshape(-1, PIECE).astype(np.float64)).mean(1)
    level = 10 * np.log10(power + 1e-7)
    found = {
        "sample": np.abs(pcm[borders] - pcm[borders - 1]).astype(np.float64),
        "loudness": np.abs(level[borders // PIECE] - level[borders // PIECE - 1]),
    }
    for name, columns in HEAD.items():
        found[name] = np.linalg.norm(np.diff(motion[:, columns].astype(np.float64), axis=0), axis=1)
    return found


def smooth(
    found: dict[str, NDArray[np.float64]], joins: Sequence[int]
) -> tuple[list[dict[str, Cell]], float]:
    """Return a table row per kind of step, and the share of joins that are smooth in every kind.

    joins: index of the first frame after each join.
    """
    borders = np.array(joins) - 1
    inside = np.ones(len(next(iter(found.values()))), bool)
    inside[borders] = False
    rows: list[dict[str, Cell]] = []
    every = np.ones(len(borders), bool)
    for name, values in found.items():
        bound = float(np.percentile(values[inside], PERCENTILE))
        good = values[borders] <= bound
        every &= good
        rows.append(
            {
                "step": name,
                "inside_median": float(np.median(values[inside])),
                "inside_995": bound,
                "joins_median": float(np.median(values[borders])),
                "joins_worst": float(values[borders].max()),
                "smooth": float(good.mean()),
            }
        )
    return rows, float(every.mean())


@dataclass(frozen=True)
class Made:
    """A result: pcm (960 T,), raw motion (T, M), and the first frame of every part but the first."""

    pcm: NDArray[np.float32]
    motion: NDArray[np.float32]
    joins: list[int]


@torch.inference_mode()
def spoken(utterance: Utterance) -> Made:
    """Generate both streams, sentence by sentence."""
    take = utterance.take()
    patches = list(take.latents())
    pcm = np.concatenate(list(utterance.system.decode(patch["audio"] for patch in patches)))
    return Made(pcm, _motion(patches), _frames(take))


@torch.inference_mode()
def moved(animation: Animation) -> Made:
    """Generate the motion for a recording in windows."""
    take = animation.take()
    motion = _motion(list(take.latents()))
    pcm = torch.cat(list(stream_audio(animation.source))).numpy()
    return Made(np.pad(pcm, (0, len(motion) * HOP - len(pcm))), motion, _frames(take))


@torch.inference_mode()
def dubbed(dubbing: Dubbing) -> Made:
    """Generate the sound for a video in windows; the motion is the encoded video."""
    take, motion = dubbing.take(), dubbing.motion().numpy()
    pcm = np.concatenate(list(dubbing.system.decode(patch["audio"] for patch in take.latents())))
    return Made(pcm[: len(motion) * HOP], motion, _frames(take))


def _motion(patches: list[Streams]) -> NDArray[np.float32]:
    return torch.cat([patch["motion"] for patch in patches]).numpy()


def _frames(take: Take) -> list[int]:
    assert take.clip is not None
    return [start * take.clip.system.patch_frames for start in take.starts[1:]]


def report(title: str, made: Made, kinds: Sequence[str]) -> None:
    """Print how smooth the joins are in the given kinds of steps."""
    found = steps(made.pcm, made.motion)
    rows, share = smooth({name: found[name] for name in kinds}, made.joins)
    print(f"{title}: {len(made.joins)} joins in {len(made.motion) / FRAME_RATE:.0f} s")
    print(table(rows))
    print(f"{share:.0%} of the joins are smooth in every step\n", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", default=TEXT, help="what to say")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="folder of a native checkpoint (default: the embedded model)")
    options = parser.parse_args()
    with exit_on_signals(f"nothing is saved; start again with: {command()}"):
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Generate speech and video, and print how smooth their joins are."""
    talker = Talker.from_pretrained(options.model)
    voice, face = talker.voice(), talker.portrait()
    utterance = talker.say(options.text, voice, face, options.seed)
    made = spoken(utterance)
    report("sentences", made, KINDS)
    far = np.abs(made.motion[:, [column for columns in HEAD.values() for column in columns]]).max(0)
    print(
        f"largest yaw, pitch, shift x and shift y of the head: {', '.join(f'{value:.2f}' for value in far)}\n"
    )
    with tempfile.TemporaryDirectory() as name:
        sound, video = Path(name) / "said.wav", Path(name) / "said.mp4"
        write_wav(sound, torch.from_numpy(made.pcm))
        for title, text in (("A2V with text", options.text), ("A2V without text", None)):
            animation = talker.animate(sound, face, text, seed=options.seed)
            report(title, moved(animation), tuple(HEAD))
        utterance.save(video)
        dubbing = talker.dub(video, options.text, voice, crop="none", seed=options.seed)
        report("V2A", dubbed(dubbing), SOUND)


if __name__ == "__main__":
    main()
