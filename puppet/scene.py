"""Meshes of one person at rest, with the vertex attributes that the kernels of shading.py read."""

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
HEAD_HEIGHT = 2.25  # 0.1 m from crown to chin, the same for every head before `Identity.size`
PIVOT = np.array([0.0, -1.0, -0.95])  # centre of the head's rotation, relative to the midpoint of the eyes
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
    """A mesh of N vertices and F triangles.

    Attributes:
        points: (N, 3) in 0.1 m, relative to the midpoint of the eyes.
        triangles: (F, 3) vertex indices.
        materials: (F,) of raster.py.
        uvs: (F, 3, 2) texture coordinates of the corners.
        attributes: (N, 3) as shading.shade reads them.
        occlusion: (N,) share of the ambient light that arrives.
        wraps, sharpness: (N, 3) and (N,) as shading.light_vertices reads them.
        follow: (N,) share of the head's rotation.
        anchors: (N,) head vertex whose displacement the vertex copies, or -1.
    """

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
    """The morphs UNITS as one sparse list for raster.deform."""

    starts: NDArray[np.int32]
    vertices: NDArray[np.int32]
    deltas: FloatArray


@lru_cache(maxsize=1)
def load_units() -> UnitMorphs:
    """Return the morphs UNITS.

    They do not move the eyeballs, because the gaze is painted on them. `tongueUp`, which the asset lacks,
    raises the tip of the tongue to the upper teeth.
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


def shape_head(person: Identity) -> FloatArray:
    """Return the head's vertices (V, 3) of a person, relative to the midpoint of the eyes.

    The height of the head is HEAD_HEIGHT times `person.size`.
    """
    head = load_head()
    points = head.vertices.copy()
    for name, amount in person.morphs:
        head.morphs.add(points, name, amount)
    points -= (eye_centre(points, head, 1) + eye_centre(points, head, 2)) / 2
    height = points[head.vertices[:, 1].argmax(), 1] - points[_chin_vertex(head), 1]
    points *= np.float32(HEAD_HEIGHT / height * person.size)
    # Move the teeth back, so that they never pass through the lips.
    points[(head.groups == 3) | (head.groups == 4)] -= np.array([0, 0, 0.03], np.float32)
    return points.astype(np.float32)


def _chin_vertex(head: Head) -> int:
    """Return the index of the vertex at the tip of the chin."""
    return int(np.linalg.norm(head.vertices - np.array([0, 6.159, 1.295]), axis=1).argmin())


def eye_centre(points: FloatArray, head: Head, group: int) -> FloatArray:
    """Return the centre (3,) of an eyeball; `group` is its index in GROUPS."""
    ball = points[head.groups == group]
    return (ball.min(axis=0) + ball.max(axis=0)) / 2


def follow_share(points: FloatArray) -> FloatArray:
    """Return the share (N,) of the head's rotation for points (N, 3): 1 in the head, 0 below the neck."""
    height = points[:, 1] + 0.30 * (points[:, 2] - PIVOT[2])
    share = np.clip((height + 1.7) / 0.95, 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)


@lru_cache(maxsize=1)
def ambient_occlusion() -> FloatArray:
    """Return the share (V,) of the sky that is visible from each vertex of the template, by 64 depth maps."""
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
    no_hem = np.zeros_like(points)
    for k in range(64):  # directions of a Fibonacci sphere
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
        raster.rasterise(screen, solid, materials, uvs, no_hem, strands, ids, depths)
        column, row = (np.clip(screen[:, c].astype(int), 0, size - 1) for c in (0, 1))
        cosine = np.clip(normals @ axis, 0, 1)
        seen += cosine * (screen[:, 2] < depths[row, column] + 0.05)
        total += cosine
    return np.clip(seen / (total + 1e-6), 0, 1).astype(np.float32)


def head_part(person: Identity, points: FloatArray) -> Part:
    """Return the mesh of the head with eyes, teeth, tongue and lashes; points (V, 3) are its vertices."""
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
    depth = 1 - 0.6 * person.skin.depth
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


def drawn_lashes(person: Identity) -> NDArray[np.bool_]:
    """Return a mask (F,) of the head's triangles to draw: all, but for men without the lower lashes."""
    head = load_head()
    lower = (head.groups == 6) & (head.vertices[:, 1] < 7.277)
    return ~lower[head.triangles].all(axis=1) | (person.sex != MALE)


def join(parts: list[Part]) -> Part:
    """Concatenate parts. The head must be the first, so that anchors and morphs keep their vertex indices."""
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
