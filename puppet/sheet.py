"""Contact sheets of identities and expressions.

python -m puppet.sheet     writes runs/faces.png and runs/expressions.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("puppet.sheet")

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from puppet.face import identity
from puppet.motion import MOTION
from puppet.render import Renderer
from talker.progress import track

EXPRESSIONS: tuple[dict[str, float], ...] = (
    {},
    {"jaw": 0.5},
    {"jaw": 1.0},
    {"jaw": 0.3, "lip_width": 1.0},
    {"jaw": 0.4, "rounding": 1.0},
    {"rounding": 1.0},
    {"closure": 1.0, "jaw": 0.5},
    {"lip_roll": 1.0, "jaw": 0.2},
    {"jaw": 0.35, "tongue": 1.0},
    {"upper_lip": 0.8, "lower_lip": 0.8, "jaw": 0.2},
    {"smile": 1.0},
    {"smile": 1.0, "jaw": 0.4},
    {"lid_left": 1.0, "lid_right": 1.0},
    {"gaze_x": 1.0},
    {"gaze_y": 1.0, "brow_inner": 1.0, "brow_outer": 1.0},
    {"brow_lower": 1.0, "lip_width": -0.6},
    {"yaw": 0.5, "jaw": 0.3},
    {"yaw": -0.5, "smile": 0.5},
    {"pitch": 0.3},
    {"pitch": -0.3, "roll": 0.25},
)


def pose(values: dict[str, float]) -> NDArray[np.float32]:
    """Return a motion vector (24,) with the named values; the others are 0."""
    motion = np.zeros(len(MOTION), np.float32)
    for name, value in values.items():
        motion[MOTION.index(name)] = value
    return motion


def tile(pictures: list[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Arrange square pictures (S, S, 3) on one sheet, row by row."""
    size = pictures[0].shape[0]
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * size, columns * size, 3), np.uint8)
    for k, picture in enumerate(pictures):
        row, column = divmod(k, columns)
        sheet[row * size : (row + 1) * size, column * size : (column + 1) * size] = picture
    return sheet


def main() -> None:
    """Draw and save both sheets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="output folder")
    parser.add_argument("--size", type=int, default=144, help="width of a picture in pixels")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    options.out.mkdir(parents=True, exist_ok=True)
    people = []
    for seed in track(range(48), "people", 48):
        turned = pose(
            {"yaw": rng.uniform(-0.4, 0.4), "pitch": rng.uniform(-0.12, 0.12), "jaw": rng.choice([0, 0.3])}
        )
        people.append(Renderer(identity(seed), options.size).frames(turned[None])[0])
    Image.fromarray(tile(people, 8)).save(options.out / "faces.png", optimize=True)
    faces = []
    for seed in (24, 114, 3):
        faces += list(
            Renderer(identity(seed), options.size).frames(np.stack([pose(each) for each in EXPRESSIONS]))
        )
    Image.fromarray(tile(faces, 10)).save(options.out / "expressions.png", optimize=True)


if __name__ == "__main__":
    main()
