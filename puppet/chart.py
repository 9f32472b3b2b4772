"""Texture coordinates of the head: the direction of a point as seen from CENTRE, inside the template head.

u runs around the head (0.5 in front, the seam at the back) with more texels in front; v runs from the crown
(0) down (1).
"""

# ruff: noqa: ANN001, ANN202, RUF046  (numba infers the types of kernels; their docstrings give the shapes)
from __future__ import annotations

import math
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
    """Template data of each texel.

    Attributes:
        position: (H, W, 3) in 0.1 m, relative to the midpoint of the eyes.
        lips, eyelids, ears, face: masks (H, W) in [0, 1].
    """

    position: NDArray[np.float32]
    lips: NDArray[np.float32]
    eyelids: NDArray[np.float32]
    ears: NDArray[np.float32]
    face: NDArray[np.float32]


def chart_coordinates(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert template points (N, 3) to texture coordinates (N, 2)."""
    x, y, z = (points[:, axis] - CENTRE[axis] for axis in range(3))
    turn = np.arctan2(x, z) / np.pi
    latitude = np.arctan2(y, np.hypot(x, z))
    u = 0.5 + 0.5 * (1.4 * turn - 0.4 * turn**3)
    return np.stack([u, (_TOP - latitude) / (_TOP - _BOTTOM)], axis=1).astype(np.float32)


def corner_coordinates(points: NDArray[np.float32], triangles: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return texture coordinates (F, 3, 2) of the triangles' corners.

    Triangles across the seam have coordinates above 1: textures are periodic in u.
    """
    corners = chart_coordinates(points)[triangles]
    wide = np.ptp(corners[:, :, 0], axis=1) > 0.5
    corners[wide, :, 0] += corners[wide, :, 0] < 0.5
    return corners


@lru_cache(maxsize=2)
def load_chart(width: int) -> Chart:
    """Return the chart for textures of (ASPECT * width, width) texels."""
    head = load_head()
    points = head.vertices
    # The chart covers the outer skin only, without the inside of the mouth, eyes and teeth.
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
    """Interpolate vertex values (V, C) over triangles with texture corners (F, 3, 2) into image (H, W, C).

    Where triangles overlap, the one with the greatest radius (V,) stays; nearest (H, W) keeps that radius.
    """
    high, wide = nearest.shape
    for t in range(triangles.shape[0]):
        x0, x1, x2 = (
            corners[t, 0, 0] * wide - 0.5,
            corners[t, 1, 0] * wide - 0.5,
            corners[t, 2, 0] * wide - 0.5,
        )
        y0, y1, y2 = (
            corners[t, 0, 1] * high - 0.5,
            corners[t, 1, 1] * high - 0.5,
            corners[t, 2, 1] * high - 0.5,
        )
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        if area == 0.0:
            continue
        top, bottom = int(math.ceil(min(y0, min(y1, y2)))), int(math.floor(max(y0, max(y1, y2))))
        left, right = int(math.ceil(min(x0, min(x1, x2)))), int(math.floor(max(x0, max(x1, x2))))
        for row in range(max(0, top), min(high - 1, bottom) + 1):
            for column in range(left, right + 1):
                dx, dy = column - x0, row - y0
                b = (dx * (y2 - y0) - dy * (x2 - x0)) / area
                c = (dy * (x1 - x0) - dx * (y1 - y0)) / area
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
    """Fill texels without a triangle from the left or upper neighbour, then from the left or lower one."""
    high, wide, channels = image.shape
    for sweep in range(2):
        for r in range(high):
            row = r if sweep == 0 else high - 1 - r
            for column in range(wide):
                if nearest[row, column] == 0.0:
                    source_row, source_column = row, (column - 1) % wide
                    if nearest[source_row, source_column] == 0.0:
                        source_row, source_column = (row - 1 if sweep == 0 else row + 1), column
                    if 0 <= source_row < high and nearest[source_row, source_column] > 0.0:
                        for c in range(channels):
                            image[row, column, c] = image[source_row, source_column, c]
                        nearest[row, column] = nearest[source_row, source_column]


@njit(cache=True)
def _hash(x, y, z, seed):
    """Return a pseudo-random number in [-1, 1) for integer coordinates."""
    h = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791) ^ (seed * 2654435761)
    h &= 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 0x800000 - 1.0


@njit(cache=True, nogil=True)
def noise(points, frequency, seed, out) -> None:
    """Write value noise in [-1, 1] at points (N, 3) to out (N,); frequency (3,) is in cells per 0.1 m."""
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
    """Return smooth value noise (...) in [-1, 1] at points (..., 3); frequency is in cells per 0.1 m."""
    cells = np.broadcast_to(np.asarray(frequency, np.float64), (3,)).copy()
    out = np.empty(points.shape[:-1], np.float32)
    noise(np.ascontiguousarray(points).reshape(-1, 3), cells, seed & 0xFFFFF, out.reshape(-1))
    return out
