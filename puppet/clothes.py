"""Clothes, a shell over the shoulders that ends at a neckline with a collar; and glasses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from puppet import raster
from puppet.chart import noise_at
from puppet.face import Identity
from puppet.head import INSIDE, Head, load_head
from puppet.scene import Part, eye_centre, follow_share

FloatArray = NDArray[Any]  # floating point; float32 where the kernels read it
# The cloth texture covers x from -WIDE / 2 to WIDE / 2 and y from TOP down to TOP - HIGH, in 0.1 m.
WIDE, TOP, HIGH = 7.0, -0.9, 2.8
_NECK_AXIS = -0.9  # z of the neck's axis
_RING = 96  # points around a collar
# Cross-sections of collars as (outward, up) in 0.1 m, from the inner edge over the top to the outer edge.
_PROFILES = {
    "t-shirt": ((-0.03, 0.05), (0.01, 0.075), (0.045, 0.06), (0.06, 0.0), (0.055, -0.07)),
    "jumper": ((-0.04, 0.02), (-0.02, 0.12), (0.04, 0.15), (0.10, 0.10), (0.11, 0.0), (0.09, -0.08)),
    "shirt": ((0.0, -0.02), (0.0, 0.20), (0.03, 0.27), (0.075, 0.24), (0.13, 0.06), (0.18, -0.10)),
    "polo": ((0.0, -0.02), (0.01, 0.15), (0.04, 0.20), (0.08, 0.17), (0.13, 0.02), (0.17, -0.10)),
    "jacket": ((0.0, -0.05), (0.0, 0.14), (0.03, 0.20), (0.08, 0.17), (0.14, 0.0), (0.20, -0.16)),
}


def template_positions() -> FloatArray:
    """Return the template's vertices (V, 3) relative to the midpoint of its eyes."""
    head = load_head()
    return head.vertices - (eye_centre(head.vertices, head, 1) + eye_centre(head.vertices, head, 2)) / 2


def below_neckline(position: FloatArray, person: Identity, collar: bool = False) -> FloatArray:
    """Return the signed distance (N,) of template positions (N, 3) below the neckline of the outfit.

    With `collar`, the neckline has no opening at the throat.
    """
    x, y, z = position.T
    depth = -1.66 - (y + 0.55 * (z - _NECK_AXIS))
    front = np.clip((z + 0.75) / 0.2, 0, 1)
    garment = person.outfit.garment
    if garment == "jumper" and person.outfit.scale > 1.25:  # a polo neck
        depth = depth + 0.30
    around = np.hypot(x / 1.05, z + 0.95)
    depth = np.maximum(depth, np.minimum(around - 0.60, -1.2 - y))
    if collar:
        return depth.astype(np.float32)
    if garment == "t-shirt" and person.outfit.scale < 0.85:  # a V neck
        depth = depth - front * 1.1 * np.clip(0.32 - np.abs(x), 0, 1)
    if garment in ("shirt", "polo"):
        depth = depth - front * 1.9 * np.clip(0.15 - np.abs(x), 0, 1)
    return depth.astype(np.float32)


def dress(person: Identity, points: FloatArray) -> list[Part]:
    """Return the garment, shell and collar, for head vertices (V, 3)."""
    head = load_head()
    position = template_positions()
    depth = below_neckline(position, person)
    body = (head.groups == 0) & (head.masks[INSIDE] < 0.2) & (position[:, 1] < -0.9)
    chosen = head.triangles[(body & (depth > -0.35))[head.triangles].all(axis=1)]
    used, triangles = np.unique(chosen, return_inverse=True)
    triangles = triangles.reshape(chosen.shape).astype(np.int32)
    normals = np.zeros_like(points)
    raster.vertex_normals(points, head.triangles, normals)
    folds = noise_at(points[used], (1.6, 1.1, 1.6), person.seed * 16 + 11) + 0.5 * noise_at(
        points[used], 3.6, person.seed * 16 + 12
    )
    thick = {"t-shirt": 0.05, "shirt": 0.055, "polo": 0.055, "jumper": 0.10, "jacket": 0.12}[
        person.outfit.garment
    ]
    shell = points[used] + normals[used] * (thick + 0.025 * folds)[:, None].astype(np.float32)
    attributes = np.stack([np.ones(len(used)), np.zeros(len(used)), depth[used]], axis=1).astype(np.float32)
    # The collar shades the cloth next to it.
    attributes[:, 0] = 1 - 0.25 * np.exp(-np.clip(depth[used], 0, 9) / 0.12)
    part = _cloth_part(
        shell, triangles, attributes, cloth_coordinates(shell)[triangles], used.astype(np.int32)
    )
    ring = _neck_ring(
        shell,
        triangles,
        below_neckline(position[used], person, collar=person.outfit.garment in ("shirt", "polo", "jacket")),
    )
    return [part, _collar(person, ring)] if ring is not None else [part]


def covered(person: Identity) -> NDArray[np.bool_]:
    """Return a mask (F,) of the head's triangles that the garment covers completely."""
    head = load_head()
    hidden = (below_neckline(template_positions(), person) > 0.22) & (head.groups == 0)
    return hidden[head.triangles].all(axis=1)


def cloth_coordinates(points: FloatArray) -> FloatArray:
    """Convert points (N, 3) to texture coordinates (N, 2) by a projection from the front."""
    return np.stack([points[:, 0] / WIDE + 0.5, (TOP - points[:, 1]) / HIGH], axis=1).astype(np.float32)


def _cloth_part(
    points: FloatArray,
    triangles: NDArray[Any],
    attributes: FloatArray,
    uvs: FloatArray,
    anchors: NDArray[Any],
) -> Part:
    """Return a part of cloth with N points and F triangles; see `Part` for the shapes."""
    count = len(points)
    return Part(
        points=points.astype(np.float32),
        triangles=triangles,
        materials=np.full(len(triangles), raster.CLOTH, np.uint8),
        uvs=uvs,
        attributes=attributes,
        occlusion=np.full(count, 0.9, np.float32),
        wraps=np.full((count, 3), 0.15, np.float32),
        sharpness=np.ones(count, np.uint8),
        follow=follow_share(points),
        anchors=anchors,
    )


def _neck_ring(points: FloatArray, triangles: NDArray[Any], depth: FloatArray) -> FloatArray | None:
    """Return the curve (R, 3) where the shell crosses the neckline, ordered by the angle around the neck.

    `depth` (N,) is the distance of the shell's points below the neckline. Returns None without a crossing.
    """
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    crossing = edges[(depth[edges[:, 0]] < 0) & (depth[edges[:, 1]] >= 0)]
    if len(crossing) < 12:
        return None
    low, high = depth[crossing[:, 0]], depth[crossing[:, 1]]
    share = (-low / (high - low))[:, None]
    spots = points[crossing[:, 0]] * (1 - share) + points[crossing[:, 1]] * share
    angle = np.arctan2(spots[:, 0], spots[:, 2] - _NECK_AXIS)
    order = np.argsort(angle)
    angle, spots = angle[order], spots[order]
    target = np.linspace(-np.pi, np.pi, _RING, endpoint=False)
    radius = np.interp(target, angle, np.hypot(spots[:, 0], spots[:, 2] - _NECK_AXIS), period=2 * np.pi)
    height = np.interp(target, angle, spots[:, 1], period=2 * np.pi)
    for _ in range(3):
        radius, height = ((np.roll(v, 1) + 2 * v + np.roll(v, -1)) / 4 for v in (radius, height))
    return np.stack([radius * np.sin(target), height, radius * np.cos(target) + _NECK_AXIS], axis=1).astype(
        np.float32
    )


def _collar(person: Identity, ring: FloatArray) -> Part:
    """Return a collar: a profile swept along the ring (R, 3).

    Collars of shirts, polo shirts and jackets are open and pointed in front.
    """
    garment = person.outfit.garment
    profile = np.array(_PROFILES[garment], np.float32)
    if garment == "jumper" and person.outfit.scale > 1.25:
        profile = np.array(
            ((-0.02, 0.0), (-0.02, 0.32), (0.03, 0.40), (0.09, 0.36), (0.12, 0.1), (0.13, -0.12)), np.float32
        )
    target = np.linspace(-np.pi, np.pi, _RING, endpoint=False)
    outward = np.stack([np.sin(target), 0 * target, np.cos(target)], axis=1)
    pointed = garment in ("shirt", "polo", "jacket")
    points = np.empty((_RING, len(profile), 3), np.float32)
    front = np.exp(-((np.abs(target) / 0.42) ** 2)) if pointed else np.zeros(_RING)
    for k, (out, up) in enumerate(profile):
        fall = front * (k >= len(profile) - 2) * (0.10 if k == len(profile) - 2 else 0.26)
        points[:, k] = (
            ring + outward * (out + 0.25 * fall[:, None]) + np.array([0, 1, 0]) * (up - fall[:, None])
        )
        points[:, k, 1] -= front * 0.10 * (k < len(profile) - 2)
    index = np.arange(_RING * len(profile)).reshape(_RING, len(profile))
    after = np.roll(index, -1, axis=0)
    if pointed:  # leave a gap at the throat
        keep = np.abs(target) > (0.5 if garment == "jacket" else 0.16)
        keep &= np.abs(np.roll(target, -1)) > (0.5 if garment == "jacket" else 0.16)
        index_k, after_k = index[keep], after[keep]
    else:
        index_k, after_k = index, after
    a, b, c, d = index_k[:, :-1], after_k[:, :-1], after_k[:, 1:], index_k[:, 1:]
    triangles = (
        np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2)
        .reshape(-1, 3)[:, ::-1]
        .astype(np.int32)
    )
    flat = points.reshape(-1, 3)
    level = np.broadcast_to(
        np.array([0.55, 0.8, 1.0, 1.0, 1.0, 0.9])[: len(profile)], (_RING, len(profile))
    ).reshape(-1)
    attributes = np.stack([level, 0 * level, 0 * level + 1], axis=1).astype(np.float32)
    around = np.broadcast_to(np.abs(target / np.pi * 0.95)[:, None], (_RING, len(profile))).reshape(-1)
    uv = np.stack([around, 0.97 + 0 * around], axis=1).astype(np.float32)
    return _cloth_part(flat, triangles, attributes, uv[triangles], np.full(len(flat), -1, np.int32))


def paint_cloth(person: Identity, width: int) -> FloatArray:
    """Return the texture (H, W, 4) of the cloth: linear colour and gloss, seen from the front.

    The last rows are the collar.
    """
    height = int(width * HIGH / WIDE)
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (u / width - 0.5) * WIDE, TOP - v / height * HIGH
    position = np.stack([x, y, 0 * x], axis=-1)
    outfit, seed = person.outfit, person.seed * 16
    crease = noise_at(position, (2.4, 1.5, 1.0), seed + 13)
    weave = noise_at(position, (30.0, 30.0, 1.0), seed + 14)
    wx, wy = x + 0.04 * crease, y + 0.05 * crease
    first, second = np.array(outfit.colour, np.float32), np.array(outfit.second, np.float32)
    mix = np.zeros_like(x)
    pitch = 0.22 * outfit.scale
    if outfit.pattern == "stripes":
        mix = np.clip(6 * (np.abs((wy / pitch) % 1 - 0.5) - 0.27), 0, 1)
    elif outfit.pattern == "checks":
        bars = [np.clip(6 * (np.abs((w / pitch) % 1 - 0.5) - 0.3), 0, 1) for w in (wx, wy)]
        mix = 0.5 * (bars[0] + bars[1])
    elif outfit.pattern == "melange":
        mix = np.clip(0.25 + 0.5 * noise_at(position, (14.0, 5.0, 1.0), seed + 15), 0, 0.6)
    cloth = first * (1 - mix[..., None]) + second * mix[..., None]
    shade = 1 + 0.12 * crease + 0.07 * weave
    if outfit.pattern == "knit":
        rows = np.abs((wy * 11 + np.abs((wx * 9) % 1 - 0.5) * 1.0) % 1 - 0.5)
        shade = shade * (0.72 + 0.5 * rows)
    cloth = cloth * shade[..., None]
    cloth = _front_details(cloth, x, y, person)
    collar = second if outfit.garment == "polo" else first
    start = int(height * 0.94)
    ribs = 1 + 0.12 * np.sin(u[start:] / width * 2 * np.pi * 90)[..., None] * (
        outfit.garment in ("t-shirt", "jumper")
    )
    cloth[start:] = collar * (1.0 + 0.06 * weave[start:, :, None]) * ribs
    gloss = np.full((height, width, 1), 0.02 if outfit.garment != "jacket" else 0.035, np.float32)
    return np.ascontiguousarray(np.concatenate([np.clip(cloth, 0.004, 0.9), gloss], axis=2), np.float32)


def _front_details(cloth: FloatArray, x: FloatArray, y: FloatArray, person: Identity) -> FloatArray:
    """Draw plackets and buttons, or the lapels of a jacket and the shirt between them; return the texture."""
    garment = person.outfit.garment
    if garment in ("shirt", "polo"):
        line = np.exp(-(((np.abs(x) - 0.10) / 0.012) ** 2)) * (y < -1.9)
        cloth = cloth * (1 - 0.35 * line[..., None])
        for row in range(2 if garment == "polo" else 4):
            dot = np.clip(2.2 - np.hypot(x, y + 2.22 + 0.38 * row) / 0.018, 0, 1)[..., None]
            cloth = cloth * (1 - dot) + np.float32(0.55) * dot
    if garment == "jacket":
        edge = 0.12 + 0.42 * np.clip((y + 3.1) / 1.3, 0, 1)
        inside = np.clip((edge - np.abs(x)) / 0.02, 0, 1)[..., None]
        shirt = np.array(person.outfit.second, np.float32) * 0.4 + 0.45
        cloth = (
            cloth * (1 - inside)
            + shirt * inside * (1 - 0.25 * np.exp(-(((np.abs(x) - edge) / 0.05) ** 2)))[..., None]
        )
        seam = np.exp(-(((np.abs(x) - edge - 0.26 - 0.12 * np.sin(y * 3)) / 0.014) ** 2))[..., None]
        cloth = cloth * (1 - 0.4 * seam)
    return cloth


def glasses(person: Identity, points: FloatArray) -> list[Part]:
    """Return rims, bridge and temples of the glasses as tubes; empty for a person without glasses."""
    shape = person.outfit.glasses
    if shape is None:
        return []
    head = load_head()
    tubes = []
    front = _glasses_plane(points, head)
    wide, high, power = 0.235 + 0.04 * shape, 0.15 + 0.075 * (1 - shape), 2.0 + 2.5 * shape
    turn = np.linspace(0, 2 * np.pi, 41)
    ears = points[head.masks[2] > 0.5]
    for side in (-1.0, 1.0):
        centre = eye_centre(points, head, 1 if side > 0 else 2)
        cx, sx = np.cos(turn), np.sin(turn)
        ring = np.stack(
            [
                centre[0] + 0.01 * side + wide * np.sign(cx) * np.abs(cx) ** (2 / power),
                centre[1]
                - 0.02
                + high * np.sign(sx) * np.abs(sx) ** (2 / power) * np.where(sx < 0, 1.05, 0.9),
                front - 0.12 * (np.abs(cx * wide + centre[0] * side - 0.1)) ** 1.5,
            ],
            axis=1,
        )
        tubes.append(ring)
        outer = ring[np.argmax(ring[:, 0] * side)]
        ear = ears[ears[:, 0] * side > 0]
        top = ear[:, 1].max() - 0.16
        tubes.append(
            np.array([outer, [side * (np.abs(ear[:, 0]).max() - 0.12), top, ear[:, 2].max() - 0.05]])
        )
    inner = 0.5 * (tubes[0][:, 0].max() + tubes[2][:, 0].min())
    left, right = tubes[0][np.argmax(tubes[0][:, 0])], tubes[2][np.argmin(tubes[2][:, 0])]
    tubes.append(np.array([left, [inner, left[1] + 0.03, front + 0.02], right]))
    return [_tube(np.asarray(path, np.float32), person.outfit.rim_width) for path in tubes]


def _glasses_plane(points: FloatArray, head: Head) -> float:
    """Return z of the glasses: in front of the lids and of the bridge of the nose."""
    lids = (head.groups == 0) & (np.abs(points[:, 1]) < 0.06) & (np.abs(points[:, 0]) < 0.5)
    nose = (head.groups == 0) & (np.abs(points[:, 1] + 0.02) < 0.09) & (np.abs(points[:, 0]) < 0.12)
    return max(float(np.quantile(points[lids, 2], 0.9)) + 0.10, float(points[nose, 2].max()) + 0.035)


def _tube(path: FloatArray, width: float) -> Part:
    """Return a tube of square cross-section along path (K, 3)."""
    tangent = (
        np.gradient(path, axis=0) if len(path) > 2 else np.repeat(path[1:] - path[:1], len(path), axis=0)
    )
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    helper = np.where(np.abs(tangent[:, 2:]) > 0.8, np.array([[0.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0]]))
    first = np.cross(tangent, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(tangent, first)
    corners = np.stack([first + second, second - first, -first - second, first - second], axis=1) * (
        0.5 * width
    )
    points = (path[:, None] + corners).astype(np.float32)
    index = np.arange(points.shape[0] * 4).reshape(-1, 4)
    a, b = index[:-1], np.roll(index[:-1], -1, axis=1)
    d, c = index[1:], np.roll(index[1:], -1, axis=1)
    triangles = (
        np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3).astype(np.int32)
    )
    flat = points.reshape(-1, 3)
    return Part(
        points=flat,
        triangles=triangles,
        materials=np.full(len(triangles), raster.RIM, np.uint8),
        uvs=np.zeros((len(triangles), 3, 2), np.float32),
        attributes=np.tile(np.array([1.0, 0.5, 0.0], np.float32), (len(flat), 1)),
        occlusion=np.full(len(flat), 0.9, np.float32),
        wraps=np.full((len(flat), 3), 0.1, np.float32),
        sharpness=np.full(len(flat), 2, np.uint8),
        follow=np.ones(len(flat), np.float32),
        anchors=np.full(len(flat), -1, np.int32),
    )
