"""The template head: a mesh of head and shoulders with morphs, from the asset that build_head.py writes.

Units are 0.1 m; x points to the person's left (the right side of the image), y up, z out of the face.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ASSET = Path(__file__).parent / "assets" / "head.npz"
GROUPS = ("body", "l-eye", "r-eye", "upper-teeth", "lower-teeth", "tongue", "lashes")
LIPS, EYELIDS, EARS, INSIDE, FACE = range(5)
ANCESTRIES, SEXES, AGES = ("african", "asian", "caucasian"), ("female", "male"), ("young", "old")
WEIGHTS = ("minweight", "averageweight", "maxweight")
MACROS = tuple(f"{a}-{s}-{g}" for a in ANCESTRIES for s in SEXES for g in AGES) + tuple(
    f"universal-{s}-{g}-averagemuscle-{w}" for s in SEXES for g in AGES for w in WEIGHTS
)


@dataclass(frozen=True)
class Morphs:
    """Sparse displacements: morph m moves vertices[starts[m] : starts[m + 1]] by the same rows of deltas.

    deltas (K, 3) and vertices (K,) cover the morphs one after the other.
    """

    names: tuple[str, ...]
    starts: NDArray[np.int32]
    vertices: NDArray[np.int32]
    deltas: NDArray[np.float32]

    def add(self, points: NDArray[np.float32], name: str, weight: float) -> None:
        """Add weight * morph `name` to points (V, 3), in place. Raises KeyError for an unknown name."""
        if name not in _index(self.names):
            raise KeyError(f"the head asset has no morph {name!r}")
        m = _index(self.names)[name]
        rows = slice(self.starts[m], self.starts[m + 1])
        points[self.vertices[rows]] += np.float32(weight) * self.deltas[rows]


@dataclass(frozen=True)
class Head:
    """The mesh: vertices (V, 3), triangles (F, 3) of vertex indices, and its morphs.

    groups (V,) are indices into GROUPS. masks (5, V) in [0, 1] mark LIPS, EYELIDS, EARS, INSIDE and FACE.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    groups: NDArray[np.uint8]
    masks: NDArray[np.float32]
    morphs: Morphs


@lru_cache(maxsize=4)
def _index(names: tuple[str, ...]) -> dict[str, int]:
    return {name: position for position, name in enumerate(names)}


@lru_cache(maxsize=1)
def load_head() -> Head:
    """Return the template head. All callers share its arrays: copy before writing."""
    with np.load(ASSET) as file:
        morphs = Morphs(
            names=tuple(str(name) for name in file["morph_names"]),
            starts=file["morph_starts"],
            vertices=file["morph_vertices"].astype(np.int32),
            deltas=file["morph_deltas"].astype(np.float32),
        )
        return Head(
            vertices=file["vertices"],
            triangles=file["triangles"].astype(np.int32),
            groups=file["groups"],
            masks=file["masks"].astype(np.float32) / 255,
            morphs=morphs,
        )
