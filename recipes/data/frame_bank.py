"""Frames of many puppets on disk, rendered once: the motion autoencoder trains on pairs of one person's
frames.

    python -m recipes.data.frame_bank [--people 2048] [--workers 16]    on many cores, ahead of a training

Person i of a bank is a pure function of (split, i): identity, motion, pictures, and what the mesh knows of
them: the exact displacement of the surface between any two frames, and which part of the face a pixel shows.
Rendering goes on as training asks for more people, so a run starts at once and never sees a person that a
resumed run would not see at the same step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from puppet.corpus import IDENTITIES, Corpus
from puppet.face import identity
from puppet.head import EYELIDS, LIPS, load_head
from puppet.motion import MOTION
from puppet.render import RenderedMesh, Renderer
from puppet.sentences import Split
from recipes import ranks

SIZE = 256
FLOW_SIZE = 64
SURFACE = 7  # values that say what a pixel shows
OFFSET_UNIT = 0.1  # of the displacements among them: a centimetre
FIRST_PEOPLE, STEPS_PER_PERSON = 200, 3  # a bank grows while training runs
ROOM = {"train": 2048, "heldout": 256}  # people that a folder's files have room for
APART = 13  # frames, half a second: what measures call two moments of a clip


@dataclass(frozen=True)
class Pairs:
    """source, target (B, size, size, 3) uint8; motions (B, 24); boxes (B, 3, 4) int16 of both frames' mouth
    and eyes in pixels x0, y0, x1, y1; flow (B, 2, g, g) float16, pixels from target to source; surfaces of
    both (B, 7, g, g) float16, see `_Track.surface`."""

    source: Tensor
    target: Tensor
    source_motion: Tensor
    target_motion: Tensor
    source_boxes: Tensor
    target_boxes: Tensor
    flow: Tensor
    source_surface: Tensor
    target_surface: Tensor


class FrameBank:
    """`people` puppets of `frames` frames each, memory-mapped under `folder`, rendered as they are needed.

    Banks of up to ROOM people share a folder, whose files are sparse where nobody is rendered.
    """

    def __init__(self, folder: Path, split: Split, people: int, frames: int = 8) -> None:
        self.split, self.people, self.frames = split, people, frames
        shapes: dict[str, tuple[type, tuple[int, ...]]] = {
            "pictures": (np.uint8, (SIZE, SIZE, 3)),
            "motion": (np.float32, (len(MOTION),)),
            "boxes": (np.int16, (3, 4)),
            "flow": (np.float16, (frames, 2, FLOW_SIZE, FLOW_SIZE)),
            "surface": (np.float16, (SURFACE, FLOW_SIZE, FLOW_SIZE)),
        }
        folder.mkdir(parents=True, exist_ok=True)
        rows = max(people, ROOM[split])
        self._arrays = {
            name: _open(folder / f"{split}-{name}.npy", dtype, (rows, frames, *shape))
            for name, (dtype, shape) in shapes.items()
        }
        self._done = _open(folder / f"{split}-done.npy", np.uint8, (rows,))

    def ensure(self, people: int) -> None:
        """Render whoever of the first `people` is not there yet; raises ValueError beyond the bank's end."""
        if people > self.people:
            raise ValueError(f"the bank holds {self.people} people, not {people}")
        for index in np.flatnonzero(self._done[:people] == 0):
            self.render(int(index))

    def render(self, index: int) -> None:
        """Render a person who is not there yet."""
        if self._done[index]:
            return
        for name, value in render_person(self.split, index, self.frames).items():
            self._arrays[name][index] = value
        self._done[index] = 1

    def pairs(self, people: NDArray[np.int64], source: NDArray[np.int64], target: NDArray[np.int64]) -> Pairs:
        """Frame `source[k]` and `target[k]` of person `people[k]`, all (B,)."""

        def held(name: str, *at: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(np.asarray(self._arrays[name][people, *at]))

        return Pairs(
            source=held("pictures", source),
            target=held("pictures", target),
            source_motion=held("motion", source),
            target_motion=held("motion", target),
            source_boxes=held("boxes", source),
            target_boxes=held("boxes", target),
            flow=held("flow", target, source),
            source_surface=held("surface", source),
            target_surface=held("surface", target),
        )


def drawn_pairs(bank: FrameBank, step: int, count: int, draws: torch.Generator) -> Pairs:
    """This rank's share of the `count` pairs of a training step: any people, two different frames of each.
    Ever more people take part, and are rendered when they first do."""
    people = min(bank.people, FIRST_PEOPLE + step // STEPS_PER_PERSON)
    bank.ensure(people)
    who = torch.randint(people, (count,), generator=draws)
    frame = torch.randint(bank.frames, (count,), generator=draws)
    other = (frame + torch.randint(1, bank.frames, (count,), generator=draws)) % bank.frames
    own = ranks.own(count)
    return bank.pairs(who.numpy()[own], frame.numpy()[own], other.numpy()[own])


def first_pairs(bank: FrameBank, count: int) -> Pairs:
    """`count` pairs of the first people: frames (0, 1), (2, 3), ... of each."""
    each = bank.frames // 2
    bank.ensure(-(-count // each))
    who, pair = np.divmod(np.arange(count), each)
    return bank.pairs(who, 2 * pair, 2 * pair + 1)


def _open(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    if not path.exists():
        return open_memmap(path, "w+", dtype, shape)
    array = open_memmap(path, "r+")
    if len(array) < shape[0] or array.shape[1:] != shape[1:]:
        raise ValueError(f"{path} has shape {array.shape}, not {shape}: remove the folder or name another")
    return array


def render_person(split: Split, index: int, frames: int) -> dict[str, NDArray]:
    """Pictures (F, size, size, 3), motion (F, 24), boxes (F, 3, 4), flow (target F, source F, 2, g, g),
    surface (F, 7, g, g).
    """
    renderer = Renderer(identity(IDENTITIES[split][index]), SIZE)
    rng = np.random.default_rng([index, split == "heldout", 0xF8A3])
    spoken = frames if split == "heldout" else 3 * frames // 4
    motion = np.concatenate([speaking_motion(split, index, rng, spoken), wide_motion(rng, frames - spoken)])
    pictures, tracks = [], []
    for row in motion:
        pictures.append(renderer.frames(row[None])[0])
        tracks.append(_Track.of(renderer.mesh()))
    flow = [[target.flow_to(source) for source in tracks] for target in tracks]
    boxes = np.stack([track.boxes for track in tracks])
    return {
        "pictures": np.stack(pictures),
        "motion": motion,
        "boxes": boxes,
        "flow": np.array(flow, np.float16),
        "surface": np.stack([track.surface for track in tracks]),
    }


def speaking_motion(split: Split, index: int, rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
    """Motion (F, 24) from a clip in which someone speaks; frames 2k and 2k + 1 are APART from each other."""
    corpus, clip = Corpus(split), None
    while clip is None or clip.idle or len(clip.motion) <= 2 * APART:
        clip, index = corpus.clip(index), index + 1_000_000
    chosen: list[int] = []
    while len(chosen) < frames:
        first, second = rng.integers(len(clip.motion), size=2)
        if abs(first - second) >= APART:
            chosen += [int(first), int(second)]
    return clip.motion[chosen[:frames]]


def wide_motion(rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
    """Motion (F, 24) wider than speech: any pose, mouth, gaze and brow, each by itself, many at rest."""
    spread = {"yaw": 0.2, "pitch": 0.12, "roll": 0.09, "shift_x": 0.05, "shift_y": 0.04, "scale": 0.05}
    spread |= {"lip_width": 0.45, "gaze_x": 0.4, "gaze_y": 0.3}
    motion = np.empty((frames, len(MOTION)), np.float32)
    for column, name in enumerate(MOTION):
        if name in spread:
            motion[:, column] = np.clip(
                rng.normal(0, spread[name], frames), -2.5 * spread[name], 2.5 * spread[name]
            )
        else:
            rest = rng.random(frames) < 0.55
            motion[:, column] = np.where(rest, 0.0, rng.random(frames) ** 1.3)
    blinking = MOTION.index("lid_left"), MOTION.index("lid_right")
    winks = rng.random(frames) < 0.1
    motion[:, blinking[1]] = np.where(winks, motion[:, blinking[1]], motion[:, blinking[0]])
    return motion


@dataclass(frozen=True)
class _Track:
    """Where the surface was in one frame: screen (V, 2) in half pixels, and at a grid of pixels the visible
    triangle's corners (N, 3) and their weights (N, 3); cells (N,) are the grid's flat indices with a
    triangle. surface (7, g, g) holds 1 where there is one, its place on the head at rest, and how far the
    motion took it from there, pose aside."""

    screen: NDArray[np.float32]
    cells: NDArray[np.int64]
    corners: NDArray[np.int32]
    weights: NDArray[np.float32]
    boxes: NDArray[np.int16]
    surface: NDArray[np.float16]

    @classmethod
    def of(cls, drawn: RenderedMesh) -> _Track:
        """Of a frame just drawn."""
        screen = drawn.screen[:, :2].copy()
        step = 2 * SIZE // FLOW_SIZE
        ids = drawn.ids[step // 2 :: step, step // 2 :: step].ravel()
        cells = np.flatnonzero(ids >= 0)
        corners = drawn.triangles[ids[cells]]
        rows, columns = np.divmod(cells, FLOW_SIZE)
        at = np.stack([columns, rows], 1) * step + step // 2 + 0.5
        a, b, c = (screen[corners[:, k]] for k in range(3))
        first, second, offset = b - a, c - a, at - a
        area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
        area = np.where(np.abs(area) < 1e-6, 1e-6, area)
        wb = np.clip((offset[:, 0] * second[:, 1] - offset[:, 1] * second[:, 0]) / area, 0, 1)
        wc = np.clip((first[:, 0] * offset[:, 1] - first[:, 1] * offset[:, 0]) / area, 0, 1)
        weights = np.stack([1 - wb - wc, wb, wc], 1).astype(np.float32)
        moved = (drawn.moved - drawn.rest) / OFFSET_UNIT
        known = np.concatenate([np.ones_like(moved[:, :1]), drawn.rest, moved], axis=1)
        surface = np.zeros((FLOW_SIZE * FLOW_SIZE, SURFACE), np.float16)
        surface[cells] = (known[corners] * weights[..., None]).sum(1)
        return cls(
            screen, cells, corners, weights, _boxes(screen), surface.T.reshape(SURFACE, FLOW_SIZE, FLOW_SIZE)
        )

    def flow_to(self, source: _Track) -> NDArray[np.float32]:
        """(2, g, g): x and y displacement in pixels from this frame's grid to the same surface in `source`;
        the backdrop stays where it is."""
        moved = source.screen - self.screen
        flow = np.zeros((FLOW_SIZE * FLOW_SIZE, 2), np.float32)
        flow[self.cells] = (moved[self.corners] * self.weights[..., None]).sum(1) / 2
        return flow.T.reshape(2, FLOW_SIZE, FLOW_SIZE)


def _boxes(screen: NDArray[np.float32]) -> NDArray[np.int16]:
    """Boxes (3, 4) in pixels about the lips and both eyes, a little larger than what is marked there."""
    head = load_head()
    points = screen[: len(head.vertices)] / 2
    lips = head.masks[LIPS] > 0.5
    lids = head.masks[EYELIDS] > 0.5
    left = head.vertices[:, 0] > 0
    boxes = []
    for chosen, grow in ((lips, 1.4), (lids & left, 1.2), (lids & ~left, 1.2)):
        low, high = points[chosen].min(0), points[chosen].max(0)
        middle, half = (low + high) / 2, (high - low).max() * grow / 2
        boxes.append([*np.floor(middle - half), *np.ceil(middle + half)])
    return np.array(boxes, np.int16)


def main() -> None:
    """Render ahead."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, default=Path("runs/frames"), help="folder of rendered frames")
    parser.add_argument("--people", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(1)
    bank = FrameBank(options.frames, "train", options.people)
    bank.ensure(1)  # compiles what all workers then share
    one = partial(_render, options.frames, options.people)
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for _ in tqdm(pool.imap(one, range(options.people)), total=options.people):
            pass


def _render(folder: Path, people: int, index: int) -> None:
    FrameBank(folder, "train", people).render(index)  # files cannot travel to another process


if __name__ == "__main__":
    main()
