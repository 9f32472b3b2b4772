"""The numba kernels of the renderer: deform, light, rasterise, resolve. All single-threaded, deterministic, without the GIL.

Shapes: N vertices, F triangles, S = 2 * size subpixels a side. Depth is the distance along the camera's axis.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SKIN, EYE, TEETH, TONGUE, LASH, HAIR, CLOTH, RIM, LENS = range(9)
NOTHING = -1
OUTPUT_LEVELS = 4096
_jit = njit(cache=True, nogil=True, fastmath=False)


@_jit
def deform(rest, starts, moved, deltas, weights, anchors, out):
    """out (N,3) = rest + sum of weights[m] * sparse morph m; vertices with an anchor >= 0 follow that vertex."""
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
def pose(points, follow, rotation, pivot, lift, out):
    """Turn points (N,3) about the pivot, each by its share `follow` (N,) of the head's rotation; raise shoulders."""
    for i in range(points.shape[0]):
        f = follow[i]
        x, y, z = points[i, 0] - pivot[0], points[i, 1] - pivot[1], points[i, 2] - pivot[2]
        for c in range(3):
            turned = rotation[c, 0] * x + rotation[c, 1] * y + rotation[c, 2] * z
            own = x if c == 0 else (y if c == 1 else z)
            out[i, c] = pivot[c] + own + f * (turned - own)
        out[i, 1] += lift * (1.0 - f)


@_jit
def vertex_normals(points, triangles, out):
    """Area-weighted unit normals (N,3)."""
    out[:] = 0.0
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
def project(points, focal, distance, centre_x, centre_y, half, out):
    """Perspective onto a (2*half)-wide image: out (N,3) = column, row, depth."""
    for i in range(points.shape[0]):
        depth = distance - points[i, 2]
        out[i, 0] = half + focal * (points[i, 0] + centre_x) / depth
        out[i, 1] = half - focal * (points[i, 1] + centre_y) / depth
        out[i, 2] = depth


@_jit
def rasterise(screen, triangles, materials, uvs, strands, ids, depths):
    """Fill ids (S,S) int32 and depths (S,S) with the nearest triangle at each subpixel's centre.

    Skin, eyes, teeth and tongue are closed surfaces seen from outside: their back faces are culled. Hair is cut out by
    the strand texture (H,W) of opacities.
    """
    size = ids.shape[0]
    ids[:] = NOTHING
    depths[:] = 1e9
    high, wide = strands.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (area > 0.0 and materials[t] <= TONGUE):
            continue
        left = max(0, int(math.ceil(min(ax, min(bx, cx)) - 0.5)))
        right = min(size - 1, int(math.floor(max(ax, max(bx, cx)) - 0.5)))
        top = max(0, int(math.ceil(min(ay, min(by, cy)) - 0.5)))
        bottom = min(size - 1, int(math.floor(max(ay, max(by, cy)) - 0.5)))
        if left > right or top > bottom:
            continue
        inverse = 1.0 / area
        step_b, step_c = (cy - ay) * inverse, -(by - ay) * inverse
        za, zb, zc = screen[a, 2], screen[b, 2] - screen[a, 2], screen[c, 2] - screen[a, 2]
        cut = materials[t] == HAIR
        for row in range(top, bottom + 1):
            dy = row + 0.5 - ay
            dx = left + 0.5 - ax
            wb = (dx * (cy - ay) - dy * (cx - ax)) * inverse
            wc = (dy * (bx - ax) - dx * (by - ay)) * inverse
            for column in range(left, right + 1):
                if wb >= 0.0 and wc >= 0.0 and wb + wc <= 1.0:
                    z = za + wb * zb + wc * zc
                    if z < depths[row, column]:
                        visible = True
                        if cut:
                            u = uvs[t, 0, 0] + wb * (uvs[t, 1, 0] - uvs[t, 0, 0]) + wc * (uvs[t, 2, 0] - uvs[t, 0, 0])
                            v = uvs[t, 0, 1] + wb * (uvs[t, 1, 1] - uvs[t, 0, 1]) + wc * (uvs[t, 2, 1] - uvs[t, 0, 1])
                            visible = strands[min(high - 1, int(v * high)), int(u * wide) % wide] > 127
                        if visible:
                            depths[row, column] = z
                            ids[row, column] = t
                wb += step_b
                wc += step_c


@_jit
def light_vertices(normals, occlusion, wraps, lights, ambient, out):
    """Diffuse light (N,3) at every vertex.

    lights (L,6): direction to the light, colour. ambient (2,3): sky above, bounce below. wraps (N,3): how far light
    bleeds past the terminator in each channel (a cheap stand-in for subsurface scattering). occlusion (N,).
    """
    for i in range(normals.shape[0]):
        ny = 0.5 + 0.5 * normals[i, 1]
        for c in range(3):
            total = (ambient[1, c] + (ambient[0, c] - ambient[1, c]) * ny) * occlusion[i]
            wrap = wraps[i, c]
            for k in range(lights.shape[0]):
                cosine = normals[i, 0] * lights[k, 0] + normals[i, 1] * lights[k, 1] + normals[i, 2] * lights[k, 2]
                soft = (cosine + wrap) / (1.0 + wrap)
                if soft > 0.0:
                    total += lights[k, 3 + c] * soft * (0.35 + 0.65 * occlusion[i])
            out[i, c] = total


@_jit
def texel(texture, u, v, channel):
    """Bilinear sample of texture (H,W,C) float32; u wraps, v is clamped."""
    high, wide = texture.shape[0], texture.shape[1]
    x = u * wide - 0.5
    y = min(max(v * high - 0.5, 0.0), high - 1.001)
    x0, y0 = int(math.floor(x)), int(y)
    fx, fy = x - x0, y - y0
    x0 %= wide
    x1 = (x0 + 1) % wide
    upper = texture[y0, x0, channel] * (1.0 - fx) + texture[y0, x1, channel] * fx
    lower = texture[y0 + 1, x0, channel] * (1.0 - fx) + texture[y0 + 1, x1, channel] * fx
    return upper * (1.0 - fy) + lower * fy


@_jit
def shade_eye(qx, qy, qz, gaze, eye, light, lights, colour):
    """Sclera, iris, pupil and highlight from the direction q on the unit eyeball (head frame)."""
    length = math.sqrt(qx * qx + qy * qy + qz * qz) + 1e-9
    qx, qy, qz = qx / length, qy / length, qz / length
    off = math.acos(min(1.0, max(-1.0, qx * gaze[0] + qy * gaze[1] + qz * gaze[2])))
    spoke = math.atan2(qy - gaze[1], qx - gaze[0])
    iris, pupil = eye[3], eye[4]
    edge = min(1.0, max(0.0, (iris - off) / 0.05))
    fibre = 0.8 + 0.2 * math.sin(spoke * 13.0 + 3.0 * math.sin(spoke * 5.0 + off * 9.0))
    rim = min(1.0, max(0.0, (iris - off) / 0.13))
    inner = min(1.0, max(0.0, (off - pupil) / 0.05))
    veil = min(1.0, max(0.0, (off - 0.75) / 0.8))
    for c in range(3):
        white = (0.66 if c == 0 else (0.62 if c == 1 else 0.60)) * (1.0 - (0.15 if c == 0 else 0.42) * veil)
        ring = eye[c] * fibre * (0.25 + 0.75 * rim) * (1.15 - 0.35 * inner) * inner + 0.004
        colour[c] = (white * (1.0 - edge) + ring * edge) * light[c]
    for k in range(lights.shape[0]):
        hx, hy, hz = lights[k, 0], lights[k, 1], lights[k, 2] + 1.0
        scale = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
        shine = (0.55 * (qx * hx + qy * hy + qz * hz) / scale) + 0.45 * (gaze[0] * hx + gaze[1] * hy + gaze[2] * hz) / scale
        if shine > 0.0:
            strength = shine**260 * 2.5 * edge + 0.25 * shine**60
            for c in range(3):
                colour[c] += strength * lights[k, 3 + c] * 0.6


@_jit
def shade(t, wb, wc, triangles, materials, uvs, lit, normals, attributes, skin, strands, cloth, looks, lights, eye, gaze, colour):
    """Linear colour of triangle t at barycentric (wb, wc), written to colour (3,)."""
    a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
    wa = 1.0 - wb - wc
    light = (
        wa * lit[a, 0] + wb * lit[b, 0] + wc * lit[c, 0],
        wa * lit[a, 1] + wb * lit[b, 1] + wc * lit[c, 1],
        wa * lit[a, 2] + wb * lit[b, 2] + wc * lit[c, 2],
    )
    p = wa * attributes[a, 0] + wb * attributes[b, 0] + wc * attributes[c, 0]
    q = wa * attributes[a, 1] + wb * attributes[b, 1] + wc * attributes[c, 1]
    r = wa * attributes[a, 2] + wb * attributes[b, 2] + wc * attributes[c, 2]
    u = wa * uvs[t, 0, 0] + wb * uvs[t, 1, 0] + wc * uvs[t, 2, 0]
    v = wa * uvs[t, 0, 1] + wb * uvs[t, 1, 1] + wc * uvs[t, 2, 1]
    nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
    ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
    nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
    material = materials[t]
    if material == EYE:
        shade_eye(p, q, r, gaze, eye, light, lights, colour)
        return
    gloss, power = 0.0, 12.0
    if material == SKIN:
        for k in range(3):
            colour[k] = (texel(skin, u, v, k) * (1.0 - p) + looks[TEETH - 1, k] * p) * light[k]
        gloss, power = texel(skin, u, v, 3) * q, 14.0
    elif material == CLOTH:
        for k in range(3):
            colour[k] = texel(cloth, u, v, k) * light[k] * p
    elif material == HAIR:
        high, wide = strands.shape
        tone = 0.55 + 0.9 * p + 0.35 * (strands[min(high - 1, int(v * high)), int(u * wide) % wide] / 255.0 - 0.75)
        for k in range(3):
            colour[k] = looks[HAIR, k] * tone * light[k] * q
        gloss, power = 0.22 * r * q, 9.0
    else:
        for k in range(3):
            colour[k] = looks[material, k] * light[k] * p
        gloss, power = q, 24.0
    if gloss > 0.0:
        length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
        for k in range(lights.shape[0]):
            hx, hy, hz = lights[k, 0], lights[k, 1], lights[k, 2] + 1.0
            scale = (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9) * length
            shine = (nx * hx + ny * hy + nz * hz) / scale
            if shine > 0.0:
                strength = gloss * shine**power
                for m in range(3):
                    colour[m] += strength * lights[k, 3 + m]


@_jit
def resolve(ids, depths, screen, triangles, materials, uvs, lit, normals, attributes, skin, strands, cloth, looks, lights, eye,
            gaze, backdrop, curve, out):  # fmt: skip
    """Shade and average 2x2 subpixels into out (size,size,3) uint8 over backdrop (size,size,3) linear float32.

    Where the four subpixels show one smooth surface it is shaded once, at the pixel's centre.
    """
    size = out.shape[0]
    colour = np.zeros(3, np.float32)
    total = np.zeros(3, np.float32)
    for row in range(size):
        for column in range(size):
            first = ids[2 * row, 2 * column]
            once = first >= 0 and materials[first] == SKIN or materials[first] == CLOTH
            for k in range(1, 4):
                other = ids[2 * row + k // 2, 2 * column + k % 2]
                if other != first and (other < 0 or first < 0 or materials[other] != materials[first]
                                       or abs(depths[2 * row + k // 2, 2 * column + k % 2] - depths[2 * row, 2 * column]) > 0.06):  # fmt: skip
                    once = False
            total[:] = 0.0
            samples = 1 if once else 4
            for k in range(samples):
                t = ids[2 * row + k // 2, 2 * column + k % 2]
                if t < 0:
                    for c in range(3):
                        total[c] += backdrop[row, column, c]
                    continue
                x = 2 * column + 1.0 if once else 2 * column + k % 2 + 0.5
                y = 2 * row + 1.0 if once else 2 * row + k // 2 + 0.5
                a, b, c3 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                ax, ay = screen[a, 0], screen[a, 1]
                bx, by, cx, cy = screen[b, 0] - ax, screen[b, 1] - ay, screen[c3, 0] - ax, screen[c3, 1] - ay
                inverse = 1.0 / (bx * cy - by * cx)
                wb = ((x - ax) * cy - (y - ay) * cx) * inverse
                wc = ((y - ay) * bx - (x - ax) * by) * inverse
                shade(t, wb, wc, triangles, materials, uvs, lit, normals, attributes, skin, strands, cloth, looks, lights, eye,
                      gaze, colour)  # fmt: skip
                for c in range(3):
                    total[c] += colour[c]
            for c in range(3):
                level = total[c] / samples
                index = int(min(max(level, 0.0), 1.0) * (OUTPUT_LEVELS - 1) + 0.5)
                out[row, column, c] = curve[index]
