"""The free head: a head-and-shoulders mesh with morphs, loaded from the shipped asset (made by
build_head.py).

Units are 0.1 m; x to the person's left (the image's right), y up, z out of the face.
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
    """Sparse displacements: morph m moves vertices[starts[m] : starts[m + 1]] by the deltas (.,3) float32."""

    names: tuple[str, ...]
    starts: NDArray[np.int32]
    vertices: NDArray[np.int32]
    deltas: NDArray[np.float32]

    def add(self, points: NDArray[np.float32], name: str, weight: float) -> None:
        """points (V,3) += weight * morph, in place. Raises KeyError for an unknown name."""
        if name not in _index(self.names):
            raise KeyError(f"no morph {name!r} in the head asset")
        m = _index(self.names)[name]
        rows = slice(self.starts[m], self.starts[m + 1])
        points[self.vertices[rows]] += np.float32(weight) * self.deltas[rows]


@dataclass(frozen=True)
class Head:
    """vertices (V,3) float32, triangles (F,3) int32, groups (V,) index into GROUPS, masks (5,V) in [0,1]."""

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
    """The one head of the corpus. Its arrays are shared: copy before writing."""
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
