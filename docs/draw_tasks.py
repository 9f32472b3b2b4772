"""Draw docs/tasks.svg, a diagram of the tasks, and docs/tasks.png, frames of a clip that was measured.

python docs/draw_tasks.py                               draws docs/tasks.svg only
python docs/draw_tasks.py runs/evaluation/NAME/0005     a clip of `evaluation.run --parts tasks --name NAME`
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

from talker.model.layout import Layout
from talker.model.tasks import PUPPET_TASKS, Task

SLOTS = 6  # positions that are shown of each task
CELL, GAP, LEFT, HEIGHT = 74, 6, 190, 128  # pixels: width of a patch, between patches, left margin, of a task
GIVEN, GENERATED, ABSENT, LINE = "#9cc5ea", "#f4b183", "#ddd", "#333"
TITLES = {
    "tts": "TTS: say --audio-only",
    "t2av": "T2AV: say",
    "a2v": "A2V: animate",
    "v2a": "V2A: dub",
}


def main() -> None:
    """Draw the diagram: for each task its text, and the patch of each stream at every position."""
    height = HEIGHT * len(PUPPET_TASKS) + 50
    width = LEFT + 110 + SLOTS * (CELL + GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, task in enumerate(PUPPET_TASKS):
        parts += band(task, 20 + number * HEIGHT)
    y = height - 28
    for x, colour, words in (
        (LEFT, GIVEN, "given"),
        (LEFT + 110, GENERATED, "generated"),
        (LEFT + 220, ABSENT, "absent"),
    ):
        parts += [box(x, y, 18, 14, colour), text(x + 26, y + 12, words)]
    parts.append("</svg>")
    Path("docs/tasks.svg").write_text("\n".join(parts) + "\n")


def band(task: Task, top: int) -> list[str]:
    """Return the SVG elements of one task, whose upper border is at `top`."""
    plan = Layout().plan(0, task.delay)
    parts = [
        text(10, top + 44, TITLES[task.name], 15, bold=True),
        text(10, top + 64, f"delay {task.delay:+d}"),
    ]
    parts += [box(LEFT, top + 6, 100, 90, GIVEN), text(LEFT + 32, top + 56, "text")]
    for row, stream in enumerate(("audio", "motion")):
        y = top + 6 + row * 48
        for slot in range(SLOTS):
            x, patch = LEFT + 110 + slot * (CELL + GAP), plan.patch(stream, slot)
            if stream in task.absent:
                parts.append(box(x, y, CELL, 42, ABSENT))
            elif patch >= 0:
                colour = GIVEN if stream in task.given else GENERATED
                parts += [box(x, y, CELL, 42, colour), text(x + 8, y + 26, f"{stream} {patch}")]
    return parts


def box(x: int, y: int, width: int, height: int, colour: str) -> str:
    """Return a rectangle."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{colour}" stroke="{LINE}"/>'


def text(x: int, y: int, words: str, size: int = 13, bold: bool = False) -> str:
    """Return a line of text."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{LINE}"{weight}>{words}</text>'


def strip(clip: str, tiles: int = 8, size: int = 160) -> None:
    """Draw frames of a clip: the given video, A2V with its text, and A2V without text.

    Args:
        clip: path of the clip in the folder of the evaluation, without the ending.
        tiles: number of frames in a row.
        size: width and height of a frame in pixels.
    """
    rows = []
    for kind in ("given", "a2v", "a2v_no_text"):
        with av.open(f"{clip}-{kind}.mp4") as file:
            frames = [frame.to_image() for frame in file.decode(video=0)]
        chosen = np.linspace(6, len(frames) - 6, tiles).astype(int)
        rows.append(np.concatenate([frames[k].resize((size, size)) for k in chosen], axis=1))
    Image.fromarray(np.concatenate(rows)).save(Path("docs/tasks.png"))


if __name__ == "__main__":
    main()
    if sys.argv[1:]:
        strip(sys.argv[1])
