"""Everything of one identity that does not move: meshes, attributes and textures, laid out for the kernels
of shading.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puppet import raster
from puppet.chart import corner_coordinates
from puppet.face import MALE, Identity
from puppet.head import EYELIDS, INSIDE, LIPS, Head, load_head
from puppet.rig import UNITS

FloatArray = NDArray[Any]  # floating point; float32 where the kernels read it
HEAD_HEIGHT = 2.25  # 0.1 m, crown to chin: every head is brought to about this
PIVOT = np.array([0.0, -1.0, -0.95])  # where head meets neck, from the eyes' midpoint
_MATERIALS = (
    raster.SKIN,
    raster.EYE,
    raster.EYE,
    raster.TEETH,
    raster.TEETH,
    raster.TONGUE,
    raster.LASH,
)


@dataclass
class Part:
    """A piece of mesh. uvs (F,3,2); attributes (N,3) as shading.shade reads them; wraps (N,3), sharpness
    (N,) as light_vertices;
    anchors (N,) head vertex or -1."""

    points: FloatArray
    triangles: NDArray[np.int32]
    materials: NDArray[np.uint8]
    uvs: FloatArray
    attributes: FloatArray
    occlusion: FloatArray
    wraps: FloatArray
    sharpness: NDArray[np.uint8]
    follow: FloatArray
    anchors: NDArray[np.int32]


@dataclass(frozen=True)
class UnitMorphs:
    """The face units over the head's vertices as one sparse list (see raster.deform)."""

    starts: NDArray[np.int32]
    vertices: NDArray[np.int32]
    deltas: FloatArray


@lru_cache(maxsize=1)
def load_units() -> UnitMorphs:
    """UNITS from the asset. Eyeballs stay put (gaze is painted); tongueUp raises the tongue's tip to the
    upper teeth.
    """
    head = load_head()
    eyeballs = (head.groups == 1) | (head.groups == 2)
    starts, vertices, deltas = [0], [], []
    for name in UNITS:
        moves = np.zeros_like(head.vertices)
        if name == "tongueUp":
            tongue = head.groups == 5
            z = head.vertices[:, 2]
            tip = np.clip((z - 0.95) / 0.4, 0, 1) * tongue
            moves[:, 1], moves[:, 2] = 0.07 * tip, 0.02 * tip
        else:
            head.morphs.add(moves, "unit/" + name, 1.0)
        moves[eyeballs] = 0
        touched = np.flatnonzero(np.abs(moves).max(axis=1) > 0)
        vertices.append(touched.astype(np.int32))
        deltas.append(moves[touched])
        starts.append(starts[-1] + len(touched))
    return UnitMorphs(np.array(starts, np.int32), np.concatenate(vertices), np.concatenate(deltas))


def shape_head(who: Identity) -> FloatArray:
    """The head's vertices (V,3) for this person, about the eyes' midpoint, at the common height times
    `who.size`.
    """
    head = load_head()
    points = head.vertices.copy()
    for name, amount in who.morphs:
        head.morphs.add(points, name, amount)
    points -= (eye_centre(points, head, 1) + eye_centre(points, head, 2)) / 2
    height = points[head.vertices[:, 1].argmax(), 1] - points[_chin_vertex(head), 1]
    points *= np.float32(HEAD_HEIGHT / height * who.size)
    points[(head.groups == 3) | (head.groups == 4)] -= np.array(
        [0, 0, 0.03], np.float32
    )  # never through the lips
    return points.astype(np.float32)


def _chin_vertex(head: Head) -> int:
    """The lowest vertex of the chin's front."""
    return int(np.linalg.norm(head.vertices - np.array([0, 6.159, 1.295]), axis=1).argmin())


def eye_centre(points: FloatArray, head: Head, group: int) -> FloatArray:
    """Centre (3,) of an eyeball."""
    ball = points[head.groups == group]
    return (ball.min(axis=0) + ball.max(axis=0)) / 2


def follow_share(points: FloatArray) -> FloatArray:
    """Share (N,) of the head's rotation that each point takes: 1 for the head, falling to 0 down the neck."""
    height = points[:, 1] + 0.30 * (points[:, 2] - PIVOT[2])
    share = np.clip((height + 1.7) / 0.95, 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)


@lru_cache(maxsize=1)
def ambient_occlusion() -> FloatArray:
    """Share (V,) of the sky that each vertex of the template sees, by depth maps from 64 directions."""
    head = load_head()
    points = (head.vertices - np.array([0, 6.6, 0.4])).astype(np.float32)
    solid = head.triangles[(head.groups[head.triangles] != 6).all(axis=1)]
    normals = np.zeros_like(points)
    raster.vertex_normals(points, head.triangles, normals)
    seen, total = np.zeros(len(points)), np.zeros(len(points))
    size = 384
    ids, depths = np.empty((size, size), np.int32), np.empty((size, size), np.float32)
    materials = np.full(len(solid), raster.CLOTH, np.uint8)
    uvs, strands = np.zeros((len(solid), 3, 2), np.float32), np.zeros((1, 1), np.uint8)
    nowhere_cut = np.zeros_like(points)
    for k in range(64):  # a Fibonacci sphere
        up = 1 - 2 * (k + 0.5) / 64
        angle = k * 2.399963
        level = np.sqrt(1 - up * up)
        axis = np.array([level * np.cos(angle), up, level * np.sin(angle)])
        side = np.cross([0.1, 1, 0.2] if abs(up) < 0.9 else [1, 0, 0], axis)
        side /= np.linalg.norm(side)
        frame = np.stack([side, np.cross(axis, side), axis])
        turned = points @ frame.T
        screen = np.stack(
            [turned[:, 0] * 55 + size / 2, turned[:, 1] * 55 + size / 2, 10 - turned[:, 2]], axis=1
        ).astype(np.float32)
        raster.rasterise(screen, solid, materials, uvs, nowhere_cut, strands, ids, depths)
        column, row = (np.clip(screen[:, c].astype(int), 0, size - 1) for c in (0, 1))
        cosine = np.clip(normals @ axis, 0, 1)
        seen += cosine * (screen[:, 2] < depths[row, column] + 0.05)
        total += cosine
    return np.clip(seen / (total + 1e-6), 0, 1).astype(np.float32)


def head_part(who: Identity, points: FloatArray) -> Part:
    """The head's own mesh with eyes, teeth, tongue and lashes."""
    head = load_head()
    groups = head.groups
    attributes = np.zeros((len(points), 3), np.float32)
    skin = groups == 0
    inside = np.clip(head.masks[INSIDE] * 1.2 - head.masks[LIPS], 0, 1) * (np.abs(points[:, 0]) < 0.42)
    attributes[skin, 0] = inside[skin]
    attributes[skin, 1] = 1 - 0.8 * inside[skin]
    for group in (1, 2):
        ball = groups == group
        offset = points[ball] - eye_centre(points, head, group)
        attributes[ball] = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    occlusion = 0.25 + 0.75 * ambient_occlusion() ** 0.8
    for group in (3, 4, 5):
        tooth = groups == group
        front = points[tooth, 2]
        attributes[tooth, 0] = np.clip(1.1 + (front - front.max()) * 1.7, 0.12, 1)
        attributes[tooth, 1] = 0.10 * attributes[tooth, 0]
        occlusion[tooth] = 0.7 if group < 5 else 1.0
    occlusion[skin] *= 1 - 0.75 * inside[skin]
    occlusion[(groups == 1) | (groups == 2)] = 0.8
    attributes[groups == 6, 0] = 1.0
    wraps = np.zeros((len(points), 3), np.float32)
    depth = 1 - 0.6 * who.skin.depth
    wraps[:] = np.array([0.42, 0.22, 0.16]) * depth
    wraps[(groups > 0) & (groups < 6)] = 0.4
    wraps[groups == 5] = 0.9
    occlusion *= 1 - 0.25 * head.masks[EYELIDS] * skin
    return Part(
        points=points,
        triangles=head.triangles,
        materials=np.array(_MATERIALS, np.uint8)[groups[head.triangles[:, 0]]],
        uvs=corner_coordinates(head.vertices, head.triangles),
        attributes=attributes,
        occlusion=occlusion.astype(np.float32),
        wraps=wraps,
        sharpness=np.where(skin, 1, 2).astype(np.uint8),
        follow=follow_share(points),
        anchors=np.full(len(points), -1, np.int32),
    )


def drawn_lashes(who: Identity) -> NDArray[np.bool_]:
    """Which of the head's triangles (F,) to draw: men go without lower lashes."""
    head = load_head()
    lower = (head.groups == 6) & (head.vertices[:, 1] < 7.277)
    return ~lower[head.triangles].all(axis=1) | (who.sex != MALE)


def join(parts: list[Part]) -> Part:
    """Several parts as one; the head comes first, so that anchors and morphs keep their indices."""
    starts = np.cumsum([0] + [len(part.points) for part in parts[:-1]])
    return Part(
        points=np.concatenate([part.points for part in parts]).astype(np.float32),
        triangles=np.concatenate(
            [part.triangles + start for part, start in zip(parts, starts, strict=True)]
        ).astype(np.int32),
        materials=np.concatenate([part.materials for part in parts]),
        uvs=np.concatenate([part.uvs for part in parts]).astype(np.float32),
        attributes=np.concatenate([part.attributes for part in parts]).astype(np.float32),
        occlusion=np.concatenate([part.occlusion for part in parts]).astype(np.float32),
        wraps=np.concatenate([part.wraps for part in parts]).astype(np.float32),
        sharpness=np.concatenate([part.sharpness for part in parts]),
        follow=np.concatenate([part.follow for part in parts]).astype(np.float32),
        anchors=np.concatenate([part.anchors for part in parts]),
    )
