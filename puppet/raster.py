"""Numba kernels for geometry: deform, pose, project and rasterise a mesh, and compute optical flow.

The kernels are single-threaded and deterministic and release the GIL. A mesh has N vertices and F triangles.
A frame of P x P pixels is rasterised with S = 2 P subpixels per side. Depth is the distance along the axis of
the camera.
"""

# ruff: noqa: ANN001, ANN202, RUF046  (numba infers the types of kernels; their docstrings give the shapes)
from __future__ import annotations

import math

import numpy as np
from numba import njit

SKIN, EYE, TEETH, TONGUE, LASH, HAIR, CLOTH, RIM = range(8)
NO_TRIANGLE = -1
ZERO, HALF, ONE = (
    np.float32(0),
    np.float32(0.5),
    np.float32(1),
)  # float32: Python literals would make numba compute in float64
# 0.1 m: hair triangles with all corners at least this far behind the drawn surface are skipped.
HIDDEN_BY = 0.12
_jit = njit(cache=True, nogil=True, error_model="numpy")
# Inlined, because a call would copy the header of every array.
_inline = njit(cache=True, nogil=True, error_model="numpy", inline="always")


@_jit
def deform(rest, starts, moved, deltas, weights, anchors, out) -> None:
    """Write rest (N, 3) plus the sum of weights[m] * morph m to out (N, 3).

    Morph m moves vertices moved[starts[m] : starts[m + 1]] by the same rows of deltas. A vertex with an
    anchor >= 0 copies the displacement of that vertex.
    """
    count = rest.shape[0]
    for i in range(count):
        out[i, 0] = rest[i, 0]
        out[i, 1] = rest[i, 1]
        out[i, 2] = rest[i, 2]
    for m in range(weights.shape[0]):
        w = weights[m]
        if w != 0.0:
            for k in range(starts[m], starts[m + 1]):
                i = moved[k]
                out[i, 0] += w * deltas[k, 0]
                out[i, 1] += w * deltas[k, 1]
                out[i, 2] += w * deltas[k, 2]
    for i in range(count):
        a = anchors[i]
        if a >= 0:
            for c in range(3):
                out[i, c] += out[a, c] - rest[a, c]


@_jit
def pose(points, follow, rotation, pivot, lift, out) -> None:
    """Rotate points (N, 3) about the pivot and raise the shoulders by `lift`.

    Each point gets the share follow (N,) of the rotation, and the share 1 - follow of the lift.
    """
    for i in range(points.shape[0]):
        f = follow[i]
        x, y, z = points[i, 0] - pivot[0], points[i, 1] - pivot[1], points[i, 2] - pivot[2]
        for c in range(3):
            turned = rotation[c, 0] * x + rotation[c, 1] * y + rotation[c, 2] * z
            own = x if c == 0 else (y if c == 1 else z)
            out[i, c] = pivot[c] + own + f * (turned - own)
        out[i, 1] += lift * (1.0 - f)


@_jit
def vertex_normals(points, triangles, out) -> None:
    """Write area-weighted unit normals of the vertices to out (N, 3)."""
    for i in range(points.shape[0]):
        for c in range(3):
            out[i, c] = 0.0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(points.shape[0]):
        length = math.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-12
        out[i, 0] /= length
        out[i, 1] /= length
        out[i, 2] /= length


@_jit
def project(points, focal, distance, centre_x, centre_y, half, out) -> None:
    """Write column, row and depth of points in an image of width 2 * half to out (N, 3), in perspective."""
    for i in range(points.shape[0]):
        depth = distance - points[i, 2]
        out[i, 0] = half + focal * (points[i, 0] + centre_x) / depth
        out[i, 1] = half - focal * (points[i, 1] + centre_y) / depth
        out[i, 2] = depth


@_jit
def rasterise(screen, triangles, materials, uvs, attributes, strands, ids, depths) -> None:
    """Write the nearest triangle at each subpixel's centre to ids (S, S) and its depth to depths (S, S).

    Back faces of skin, eyes, teeth and tongue, which are closed surfaces, are culled. Hair is transparent
    where the strand texture (H, W) is below 128, cloth where its attribute 2 (distance below the neckline) is
    negative.
    """
    size = ids.shape[0]
    ids[:] = NO_TRIANGLE
    depths[:] = 1e9
    high, wide = strands.shape  # wide is a power of two
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = (
            screen[a, 0],
            screen[a, 1],
            screen[b, 0],
            screen[b, 1],
            screen[c, 0],
            screen[c, 1],
        )
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (area > 0.0 and materials[t] <= TONGUE):
            continue
        left = max(0, int(math.ceil(min(ax, min(bx, cx)) - HALF)))
        right = min(size - 1, int(math.floor(max(ax, max(bx, cx)) - HALF)))
        top = max(0, int(math.ceil(min(ay, min(by, cy)) - HALF)))
        bottom = min(size - 1, int(math.floor(max(ay, max(by, cy)) - HALF)))
        if left > right or top > bottom:
            continue
        cut, hem = materials[t] == HAIR, materials[t] == CLOTH
        if cut and _hidden(screen, a, depths) and _hidden(screen, b, depths) and _hidden(screen, c, depths):
            continue
        za, zb, zc = screen[a, 2], screen[b, 2] - screen[a, 2], screen[c, 2] - screen[a, 2]
        inverse = ONE / area
        bx_, by_, cx_, cy_ = (
            (bx - ax) * inverse,
            (by - ay) * inverse,
            (cx - ax) * inverse,
            (cy - ay) * inverse,
        )
        dx, last = np.float32(left) + HALF - ax, np.float32(right - left)
        for row in range(top, bottom + 1):
            dy = np.float32(row) + HALF - ay
            wb = dx * cy_ - dy * cx_
            wc = dy * bx_ - dx * by_
            wa = ONE - wb - wc
            step_a = by_ - cy_
            # the columns in which all three barycentric coordinates are >= 0
            low, end = ZERO, last
            if cy_ > ZERO:
                low = max(low, -wb / cy_)
            elif cy_ < ZERO:
                end = min(end, -wb / cy_)
            elif wb < ZERO:
                continue
            if by_ < ZERO:
                low = max(low, wc / by_)
            elif by_ > ZERO:
                end = min(end, wc / by_)
            elif wc < ZERO:
                continue
            if step_a > ZERO:
                low = max(low, -wa / step_a)
            elif step_a < ZERO:
                end = min(end, -wa / step_a)
            elif wa < ZERO:
                continue
            if end < low:
                continue
            for k in range(int(math.ceil(low)), int(end) + 1):
                b_here, c_here = wb + np.float32(k) * cy_, wc - np.float32(k) * by_
                z = za + b_here * zb + c_here * zc
                column = left + k
                if z < depths[row, column]:
                    visible = True
                    if cut:
                        u = (
                            uvs[t, 0, 0]
                            + b_here * (uvs[t, 1, 0] - uvs[t, 0, 0])
                            + c_here * (uvs[t, 2, 0] - uvs[t, 0, 0])
                        )
                        v = (
                            uvs[t, 0, 1]
                            + b_here * (uvs[t, 1, 1] - uvs[t, 0, 1])
                            + c_here * (uvs[t, 2, 1] - uvs[t, 0, 1])
                        )
                        visible = (
                            strands[
                                min(high - 1, int(v * np.float32(high))),
                                int(u * np.float32(wide)) & (wide - 1),
                            ]
                            > 127
                        )
                    elif hem:
                        edge = (
                            attributes[a, 2] * (ONE - b_here - c_here)
                            + attributes[b, 2] * b_here
                            + attributes[c, 2] * c_here
                        )
                        visible = edge >= ZERO
                    if visible:
                        depths[row, column] = z
                        ids[row, column] = t


@_inline
def _hidden(screen, vertex, depths):
    """Return whether a vertex is more than HIDDEN_BY behind the surface drawn at the nearest subpixel."""
    column = min(max(int(screen[vertex, 0]), 0), depths.shape[1] - 1)
    row = min(max(int(screen[vertex, 1]), 0), depths.shape[0] - 1)
    return screen[vertex, 2] > depths[row, column] + HIDDEN_BY


@_jit
def flow_field(ids, screen_b, screen_a, depths_a, triangles, grid, visible) -> None:
    """Compute where the surface at each pixel of frame b lies in frame a.

    ids (S, S) are of frame b, depths_a (S, S) of frame a, screen_a and screen_b (N, 3) of both. grid
    (P, P, 2) receives grid_sample coordinates (align_corners=False), the identity on the backdrop. visible
    (P, P) receives 1 where frame a shows the surface point, and on the backdrop, else 0.
    """
    size, sub = grid.shape[0], ids.shape[0]
    for row in range(size):
        for column in range(size):
            x, y = (column + 0.5) * sub / size, (row + 0.5) * sub / size
            t = ids[min(sub - 1, int(y)), min(sub - 1, int(x))]
            visible[row, column] = 1.0
            here_x, here_y = x, y
            if t >= 0:
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                ax, ay = screen_b[a, 0], screen_b[a, 1]
                bx, by, cx, cy = (
                    screen_b[b, 0] - ax,
                    screen_b[b, 1] - ay,
                    screen_b[c, 0] - ax,
                    screen_b[c, 1] - ay,
                )
                inverse = 1.0 / (bx * cy - by * cx)
                wb, wc = ((x - ax) * cy - (y - ay) * cx) * inverse, ((y - ay) * bx - (x - ax) * by) * inverse
                wb, wc = min(1.0, max(0.0, wb)), min(1.0, max(0.0, wc))
                wa = 1.0 - wb - wc
                here_x = wa * screen_a[a, 0] + wb * screen_a[b, 0] + wc * screen_a[c, 0]
                here_y = wa * screen_a[a, 1] + wb * screen_a[b, 1] + wc * screen_a[c, 1]
                depth = wa * screen_a[a, 2] + wb * screen_a[b, 2] + wc * screen_a[c, 2]
                inside = 0.0 <= here_x < sub and 0.0 <= here_y < sub
                if not inside or depth > depths_a[int(here_y), int(here_x)] + 0.08:
                    visible[row, column] = 0.0
            grid[row, column, 0] = 2.0 * here_x / sub - 1.0
            grid[row, column, 1] = 2.0 * here_y / sub - 1.0
