"""Are there seams where sentences or windows meet?

    python -m evaluation.joins [--sentences 20] [--seed 0]

A text is spoken in one go. At every border between two sentences these steps are measured: between the two
samples that meet, between the loudness of the 20 ms before and after, and between the head's yaw, pitch and
shift in the last frame before and the first after. Each is compared with the same step at the frame borders
inside sentences: a join is smooth where it is no larger than their 99.5th percentile.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.report import Cell, table
from talker.config import FRAME_RATE, SAMPLE_RATE
from talker.pipeline import Talker, Utterance

PERCENTILE = 99.5
PIECE = SAMPLE_RATE // 50
HEAD = {"yaw": (0,), "pitch": (1,), "shift": (3, 4)}
"""Where the default's motion code has the head's pose."""
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
    """The size of each step, at every frame border: (T - 1,) for pcm (960 T,) and raw motion (T, M)."""
    hop = SAMPLE_RATE // FRAME_RATE
    borders = np.arange(1, len(motion)) * hop
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
    """A line for each kind of step, and the share of joins (frames) that are smooth in all of them."""
    at = np.array(joins) - 1
    inside = np.ones(len(next(iter(found.values()))), bool)
    inside[at] = False
    rows: list[dict[str, Cell]] = []
    every = np.ones(len(at), bool)
    for name, values in found.items():
        bound = float(np.percentile(values[inside], PERCENTILE))
        good = values[at] <= bound
        every &= good
        rows.append(
            {
                "step": name,
                "inside_median": float(np.median(values[inside])),
                "inside_995": bound,
                "joins_median": float(np.median(values[at])),
                "joins_worst": float(values[at].max()),
                "smooth": float(good.mean()),
            }
        )
    return rows, float(every.mean())


@torch.inference_mode()
def spoken(utterance: Utterance) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:
    """pcm (960 T,), raw motion (T, M), and the frames at which a later sentence begins."""
    talker = utterance.talker
    patches = list(utterance.latents())
    pcm = np.concatenate(list(talker.decoded(patches)))
    motion = torch.cat([patch["motion"] for patch in patches]).cpu().numpy()
    return pcm, motion, [start * talker.patch_frames for start in utterance.starts[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", help="a native checkpoint folder; default: the package's")
    options = parser.parse_args()
    talker = Talker.from_pretrained(options.checkpoint)
    utterance = talker.say(options.text, seed=options.seed)
    pcm, motion, joins = spoken(utterance)
    rows, share = smooth(steps(pcm, motion), joins)
    print(table(rows))
    far = np.abs(motion[:, [column for columns in HEAD.values() for column in columns]]).max(0)
    print(f"{len(joins)} joins in {len(motion) / FRAME_RATE:.0f} s, {share:.0%} smooth in every step")
    print(f"the head's largest yaw, pitch, shift x and y: {', '.join(f'{value:.2f}' for value in far)}")


if __name__ == "__main__":
    main()
