"""The skin's map: directions from a point inside the template head, so that a place on the face has one
place in the texture.

u runs round the head (0.5 in front, the seam behind), denser in front; v runs from the crown (0) down (1).
"""

# ruff: noqa: ANN001, ANN202  (numba infers the kernels' types; shapes stand in the docstrings)
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from puppet.head import EARS, EYELIDS, FACE, INSIDE, LIPS, load_head

CENTRE = (0.0, 7.1, 0.25)
ASPECT = 0.75
_TOP, _BOTTOM = 1.55, -1.45  # latitudes at v = 0 and 1


@dataclass(frozen=True)
class Chart:
    """Per texel (H,W): template position (H,W,3) in 0.1 m about the eyes' midpoint, and masks in [0,1]."""

    position: NDArray[np.float32]
    lips: NDArray[np.float32]
    eyelids: NDArray[np.float32]
    ears: NDArray[np.float32]
    face: NDArray[np.float32]


def chart_coordinates(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Template points (N,3) to (N,2) texture coordinates in [0,1]."""
    x, y, z = (points[:, axis] - CENTRE[axis] for axis in range(3))
    turn = np.arctan2(x, z) / np.pi
    latitude = np.arctan2(y, np.hypot(x, z))
    u = 0.5 + 0.5 * (1.4 * turn - 0.4 * turn**3)
    return np.stack([u, (_TOP - latitude) / (_TOP - _BOTTOM)], axis=1).astype(np.float32)


def corner_coordinates(points: NDArray[np.float32], triangles: NDArray[np.int32]) -> NDArray[np.float32]:
    """(F,3,2) coordinates per corner; triangles across the seam reach past 1, and textures wrap."""
    corners = chart_coordinates(points)[triangles]
    wide = np.ptp(corners[:, :, 0], axis=1) > 0.5
    corners[wide, :, 0] += corners[wide, :, 0] < 0.5
    return corners


@lru_cache(maxsize=2)
def load_chart(width: int) -> Chart:
    """The template's maps for textures of (ASPECT * width, width) texels."""
    head = load_head()
    points = head.vertices
    # The chart shows the outside: neither the mouth's inside nor the eyes' and teeth's surfaces.
    outside = (head.groups[head.triangles] == 0).all(axis=1) & (
        head.masks[INSIDE][head.triangles].max(axis=1) < 0.6
    )
    triangles = head.triangles[outside]
    eyes = (head.groups == 1) | (head.groups == 2)
    middle = points[eyes].min(axis=0) * 0.5 + points[eyes].max(axis=0) * 0.5
    values = np.concatenate([points - middle, head.masks[[LIPS, EYELIDS, EARS, FACE]].T], axis=1)
    radius = np.linalg.norm(points - np.array(CENTRE), axis=1)
    height = int(width * ASPECT)
    image = np.zeros((height, width, values.shape[1]), np.float32)
    nearest = np.zeros((height, width), np.float32)
    paint_chart(
        corner_coordinates(points, triangles),
        triangles,
        values.astype(np.float32),
        radius.astype(np.float32),
        nearest,
        image,
    )
    _fill(nearest, image)
    return Chart(image[:, :, :3], image[:, :, 3], image[:, :, 4], image[:, :, 5], image[:, :, 6])


@njit(cache=True)
def paint_chart(corners, triangles, values, radius, nearest, image) -> None:
    """Draw vertex values (V,C) into the chart's image (H,W,C) at corners (F,3,2); the greatest radius (V,)
    wins, kept in nearest (H,W).
    """
    high, wide = nearest.shape
    for t in range(triangles.shape[0]):
        x = corners[t, :, 0] * wide - 0.5
        y = corners[t, :, 1] * high - 0.5
        area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
        if area == 0.0:
            continue
        for row in range(max(0, int(np.ceil(y.min()))), min(high - 1, int(np.floor(y.max()))) + 1):
            for column in range(int(np.ceil(x.min())), int(np.floor(x.max())) + 1):
                dx, dy = column - x[0], row - y[0]
                b = (dx * (y[2] - y[0]) - dy * (x[2] - x[0])) / area
                c = (dy * (x[1] - x[0]) - dx * (y[1] - y[0])) / area
                if b < -1e-4 or c < -1e-4 or b + c > 1.0001:
                    continue
                a = 1 - b - c
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                far = a * radius[i] + b * radius[j] + c * radius[k]
                if far > nearest[row, column % wide]:
                    nearest[row, column % wide] = far
                    for m in range(values.shape[1]):
                        image[row, column % wide, m] = a * values[i, m] + b * values[j, m] + c * values[k, m]


@njit(cache=True)
def _fill(nearest, image):
    """Give texels that no triangle touched the value of the one to their left, above or below."""
    high, wide = nearest.shape
    for sweep in range(2):
        for r in range(high):
            row = r if sweep == 0 else high - 1 - r
            for column in range(wide):
                if nearest[row, column] == 0.0:
                    above = row - 1 if sweep == 0 else row + 1
                    left = (column - 1) % wide
                    if nearest[row, left] > 0.0:
                        image[row, column] = image[row, left]
                        nearest[row, column] = nearest[row, left]
                    elif 0 <= above < high and nearest[above, column] > 0.0:
                        image[row, column] = image[above, column]
                        nearest[row, column] = nearest[above, column]


@njit(cache=True)
def _hash(x, y, z, seed):
    h = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791) ^ (seed * 2654435761)
    h &= 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 0x800000 - 1.0


@njit(cache=True, nogil=True)
def noise(points, frequency, seed, out) -> None:
    """Smooth value noise in about [-1,1] at points (...,3) flattened (N,3), frequency (3,) cells per 0.1 m;
    out (N,).
    """
    for i in range(points.shape[0]):
        x, y, z = points[i, 0] * frequency[0], points[i, 1] * frequency[1], points[i, 2] * frequency[2]
        x0, y0, z0 = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        fx, fy, fz = x - x0, y - y0, z - z0
        fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
        total = 0.0
        for dz in range(2):
            for dy in range(2):
                low = _hash(x0, y0 + dy, z0 + dz, seed)
                high = _hash(x0 + 1, y0 + dy, z0 + dz, seed)
                total += (low + (high - low) * fx) * (fy if dy else 1 - fy) * (fz if dz else 1 - fz)
        out[i] = total


def noise_at(
    points: NDArray[np.float32], frequency: float | tuple[float, float, float], seed: int
) -> NDArray[np.float32]:
    """Value noise in about [-1,1] at points (...,3); shape (...)."""
    cells = np.broadcast_to(np.asarray(frequency, np.float64), (3,)).copy()
    out = np.empty(points.shape[:-1], np.float32)
    noise(np.ascontiguousarray(points).reshape(-1, 3), cells, seed & 0xFFFFF, out.reshape(-1))
    return out
