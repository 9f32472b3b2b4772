"""Rendered frames of many puppets on disk; the motion autoencoder trains on pairs of frames of one person.

    python -m recipes.data.frame_bank [--people 2048] [--workers 16]    render on all cores before training

Person i of a bank is a function of (split, i): identity, motion, pictures, and labels from the mesh, namely
the exact displacement of the surface between any two frames and the part of the face that each pixel shows.
Training renders the people that are missing when it first needs them, so a run starts at once, and a resumed
run uses the same people at the same step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from talker.signals import announce, command, exit_on_signals, ignore_in_worker

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.data.frame_bank")

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from puppet.corpus import IDENTITIES, bench
from puppet.face import identity
from puppet.head import EYELIDS, LIPS, load_head
from puppet.motion import MOTION
from puppet.render import RenderedMesh, Renderer
from puppet.sentences import Split
from recipes import ranks
from talker.progress import track

SIZE = 256  # side of a picture in pixels
FLOW_SIZE = 64  # side g of the grid of flow and surface
SURFACE = 7  # channels of the surface label, see `_Track.surface`
OFFSET_UNIT = 0.1  # unit of its displacements: a centimetre
# A training starts with the first people; another one joins every few steps.
FIRST_PEOPLE, STEPS_PER_PERSON = 200, 3
ROOM = {"train": 2048, "heldout": 256}  # people that the files of a folder have room for
APART = 13  # frames; two moments of a clip are at least half a second apart


@dataclass(frozen=True)
class Pairs:
    """Pairs of frames, each of one person.

    Attributes:
        source, target: pictures (B, SIZE, SIZE, 3) uint8.
        source_motion, target_motion: motion vectors (B, 24).
        source_boxes, target_boxes: (B, 3, 4) int16, boxes x0, y0, x1, y1 of mouth and eyes in pixels.
        flow: (B, 2, g, g) float16, displacement in pixels from target to source.
        source_surface, target_surface: (B, 7, g, g) float16, see `_Track.surface`.
    """

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
    """`people` puppets of `frames` frames each, memory-mapped under `folder` and rendered on demand.

    Banks of different numbers of people, up to ROOM, share a folder. Its files are sparse: people that are
    not rendered take no space.
    """

    def __init__(self, folder: Path, split: Split, people: int, frames: int = 8) -> None:
        """Open or create the files of a bank.

        Raises:
            ValueError: the folder holds banks of another shape.
        """
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
        """Render those of the first `people` people that are not rendered yet.

        Raises:
            ValueError: the bank has fewer people.
        """
        if people > self.people:
            raise ValueError(f"the bank holds {self.people} people; {people} are too many")
        missing = np.flatnonzero(self._done[:people] == 0)
        for index in track(missing, f"{self.split} people", len(missing)):
            self.render(int(index))

    def render(self, index: int) -> None:
        """Render person `index`, unless it is rendered already."""
        if self._done[index]:
            return
        for name, value in render_person(self.split, index, self.frames).items():
            self._arrays[name][index] = value
        self._done[index] = 1

    def pairs(self, people: NDArray[np.int64], source: NDArray[np.int64], target: NDArray[np.int64]) -> Pairs:
        """Pairs of frame `source[k]` and frame `target[k]` of person `people[k]`; all indices (B,)."""

        def frames(name: str, *index: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(np.asarray(self._arrays[name][people, *index]))

        return Pairs(
            source=frames("pictures", source),
            target=frames("pictures", target),
            source_motion=frames("motion", source),
            target_motion=frames("motion", target),
            source_boxes=frames("boxes", source),
            target_boxes=frames("boxes", target),
            flow=frames("flow", target, source),
            source_surface=frames("surface", source),
            target_surface=frames("surface", target),
        )


def drawn_pairs(bank: FrameBank, step: int, count: int, draws: torch.Generator) -> Pairs:
    """Draw the `count` pairs of a training step and return this rank's share of them.

    Each pair is two different frames of a person drawn from the first FIRST_PEOPLE + step / STEPS_PER_PERSON
    people; these are rendered if they are not.
    """
    people = min(bank.people, FIRST_PEOPLE + step // STEPS_PER_PERSON)
    bank.ensure(people)
    who = torch.randint(people, (count,), generator=draws)
    frame = torch.randint(bank.frames, (count,), generator=draws)
    other = (frame + torch.randint(1, bank.frames, (count,), generator=draws)) % bank.frames
    own = ranks.own(count)
    return bank.pairs(who.numpy()[own], frame.numpy()[own], other.numpy()[own])


def first_pairs(bank: FrameBank, count: int) -> Pairs:
    """The first `count` pairs of a bank: frames (0, 1), (2, 3), ... of each person in turn."""
    each = bank.frames // 2
    bank.ensure(-(-count // each))
    who, pair = np.divmod(np.arange(count), each)
    return bank.pairs(who, 2 * pair, 2 * pair + 1)


def _open(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    if not path.exists():
        return open_memmap(path, "w+", dtype, shape)
    array = open_memmap(path, "r+")
    if len(array) < shape[0] or array.shape[1:] != shape[1:]:
        raise ValueError(f"{path} has shape {array.shape}, not {shape}: remove its folder or choose another")
    return array


def render_person(split: Split, index: int, frames: int) -> dict[str, NDArray]:
    """Render `frames` (F) frames of a person.

    Returns:
        `pictures` (F, SIZE, SIZE, 3), `motion` (F, 24), `boxes` (F, 3, 4), `flow` (F, F, 2, g, g) by target
        and source frame, `surface` (F, 7, g, g).
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
    """Motion (F, 24) of random frames of a spoken corpus clip; frames 2k and 2k + 1 are at least APART."""
    corpus, clip = bench(split), None
    while clip is None or clip.idle or len(clip.motion) <= 2 * APART:
        clip, index = corpus.clip(index), index + 1_000_000
    chosen: list[int] = []
    while len(chosen) < frames:
        first, second = rng.integers(len(clip.motion), size=2)
        if abs(first - second) >= APART:
            chosen += [int(first), int(second)]
    return clip.motion[chosen[:frames]]


def wide_motion(rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
    """Motion (F, 24) beyond that of speech: each value is drawn independently, and many stay at rest (0)."""
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
    """Where the points of the surface are in one frame.

    Attributes:
        screen: (V, 2) positions of the mesh's vertices in half pixels.
        cells: (N,) flat indices of the cells of the g x g grid that show a triangle of the mesh.
        corners: (N, 3) vertices of the triangle that each of these cells shows.
        weights: (N, 3) barycentric coordinates of the cell's centre in its triangle.
        boxes: (3, 4) of mouth and eyes, see `Pairs`.
        surface: (7, g, g): 1 where a triangle is shown; x, y, z of that point on the head at rest; its x, y,
            z displacement from there in OFFSET_UNIT, without the head's pose. 0 elsewhere.
    """

    screen: NDArray[np.float32]
    cells: NDArray[np.int64]
    corners: NDArray[np.int32]
    weights: NDArray[np.float32]
    boxes: NDArray[np.int16]
    surface: NDArray[np.float16]

    @classmethod
    def of(cls, drawn: RenderedMesh) -> _Track:
        """The track of the frame that the renderer drew last."""
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
        """(2, g, g): x and y displacement in pixels of each cell's surface point to its position in `source`.

        It is 0 where a cell shows the background.
        """
        moved = source.screen - self.screen
        flow = np.zeros((FLOW_SIZE * FLOW_SIZE, 2), np.float32)
        flow[self.cells] = (moved[self.corners] * self.weights[..., None]).sum(1) / 2
        return flow.T.reshape(2, FLOW_SIZE, FLOW_SIZE)


def _boxes(screen: NDArray[np.float32]) -> NDArray[np.int16]:
    """Boxes (3, 4) in pixels around the lips and both eyes, with a margin around the masked vertices."""
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
    """Render the training people of a bank in several processes."""
    parser = argparse.ArgumentParser(
        "python -m recipes.data.frame_bank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--frames", type=Path, default=Path("runs/frames"), help="folder of the bank")
    parser.add_argument("--people", type=int, default=2048, help="number of people to render")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="number of processes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with exit_on_signals(f"rendered people are kept in {options.frames}; continue with: {command()}"):
        bank = FrameBank(options.frames, "train", options.people)
        bank.ensure(1)  # compiles the renderer once for all workers
        one = partial(_render, options.frames, options.people)
        with multiprocessing.get_context("fork").Pool(options.workers, ignore_in_worker) as pool:
            for _ in track(pool.imap(one, range(options.people)), "people", options.people):
                pass


def _render(folder: Path, people: int, index: int) -> None:
    FrameBank(folder, "train", people).render(index)  # each process opens the files itself


if __name__ == "__main__":
    main()
