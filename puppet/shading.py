"""Numba kernels for shading: shadows, lighting of vertices, and the colour of pixels.

The kernels are single-threaded and deterministic and release the GIL. A mesh has N vertices and F triangles.
A frame of P x P pixels is rasterised with S = 2 P subpixels per side.
"""

# ruff: noqa: ANN001, RUF046  (numba infers the types of kernels; their docstrings give the shapes)
from __future__ import annotations

import math

import numpy as np
from numba import njit

from puppet.raster import CLOTH, EYE, HAIR, HALF, ONE, SKIN, ZERO

OUTPUT_LEVELS = 4096
NINTH, SHADED, LEAK = np.float32(1 / 9), np.float32(0.35), np.float32(0.3)
TONE_0, TONE_1, STRAND_0, STRAND_1 = np.float32(0.6), np.float32(0.8), np.float32(-0.416), np.float32(0.0095)
# 0.1 m: a surface must be this far behind a caster to be in its shadow
SHADOW_BIAS = np.float32(0.05)
_jit = njit(cache=True, nogil=True, error_model="numpy")
# Inlined, because a call would copy the header of every array.
_inline = njit(cache=True, nogil=True, error_model="numpy", inline="always")


@_jit
def project_to_light(points, frame, scale, half, out) -> None:
    """Write column and row of points in the shadow map, and their height towards the light, to out (N, 3).

    frame (3, 3): unit vectors right, up, and towards the light. scale: texels per 0.1 m. half: half the map's
    width in texels.
    """
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        out[i, 0] = half + scale * (frame[0, 0] * x + frame[0, 1] * y + frame[0, 2] * z)
        out[i, 1] = half - scale * (frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z)
        out[i, 2] = frame[2, 0] * x + frame[2, 1] * y + frame[2, 2] * z


@_jit
def shadow_map(points, casters, depths) -> None:
    """Write the greatest height towards the light of triangles casters (K, 3) to depths (M, M).

    points (N, 3) are the output of project_to_light.
    """
    size = depths.shape[0]
    depths[:] = -1e9
    for t in range(casters.shape[0]):
        a, b, c = casters[t, 0], casters[t, 1], casters[t, 2]
        ax, ay, bx, by, cx, cy = (
            points[a, 0],
            points[a, 1],
            points[b, 0],
            points[b, 1],
            points[c, 0],
            points[c, 1],
        )
        left, right = max(0, int(min(ax, min(bx, cx)) + ONE)), min(size - 1, int(max(ax, max(bx, cx))))
        top, bottom = max(0, int(min(ay, min(by, cy)) + ONE)), min(size - 1, int(max(ay, max(by, cy))))
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if left > right or top > bottom or area == ZERO:
            continue
        inverse = ONE / area
        az, bz, cz = points[a, 2], points[b, 2] - points[a, 2], points[c, 2] - points[a, 2]
        for row in range(top, bottom + 1):
            dy = np.float32(row) - ay
            for column in range(left, right + 1):
                dx = np.float32(column) - ax
                wb = (dx * (cy - ay) - dy * (cx - ax)) * inverse
                wc = (dy * (bx - ax) - dx * (by - ay)) * inverse
                if wb >= ZERO and wc >= ZERO and wb + wc <= ONE:
                    z = az + wb * bz + wc * cz
                    if z > depths[row, column]:
                        depths[row, column] = z


@_jit
def shadow_vertices(points, depths, out) -> None:
    """Write the share of the light that reaches each point to out (N,), by 3x3 bilinearly weighted samples.

    points (N, 3) are the output of project_to_light, depths (M, M) that of shadow_map.
    """
    size = depths.shape[0]
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2] + SHADOW_BIAS
        if not (x >= 1.0 and y >= 1.0 and x <= size - 3 and y <= size - 3):
            out[i] = ONE
            continue
        x0, y0 = int(x), int(y)
        fx, fy = x - np.float32(x0), y - np.float32(y0)
        total = ZERO
        for dy in range(-1, 3):
            wy = (ONE - fy) if dy == -1 else (fy if dy == 2 else ONE)
            for dx in range(-1, 3):
                if z >= depths[y0 + dy, x0 + dx]:
                    total += wy * ((ONE - fx) if dx == -1 else (fx if dx == 2 else ONE))
        out[i] = total * NINTH


@_jit
def light_vertices(normals, occlusion, wraps, sharpness, lights, ambient, shadow, out) -> None:
    """Write the diffuse and the specular colour of the light at every vertex to out (N, 6).

    Args:
        normals: (N, 3) unit vectors.
        occlusion: (N,) share of the ambient light that arrives.
        wraps: (N, 3) how far light extends beyond the terminator in each channel; approximates subsurface
            scattering.
        sharpness: (N,) 0, 1 or 2 for a highlight with the exponent 4, 8 or 24.
        lights: (L, 9) direction to the light, colour, halfway vector to the camera.
        ambient: (2, 3) colours of the light from above and from below.
        shadow: (N,) share of the first light that arrives; the other lights cast no shadow.
    """
    for i in range(normals.shape[0]):
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        upward = HALF + HALF * ny
        for c in range(3):
            out[i, c] = (ambient[1, c] + (ambient[0, c] - ambient[1, c]) * upward) * occlusion[i]
            out[i, 3 + c] = ZERO
        arrives = SHADED + (ONE - SHADED) * occlusion[i]
        for k in range(lights.shape[0]):
            cosine = nx * lights[k, 0] + ny * lights[k, 1] + nz * lights[k, 2]
            reach = shadow[i] if k == 0 else ONE
            for c in range(3):
                wrap = wraps[i, c]
                soft = (cosine + wrap) / (ONE + wrap)
                if soft > ZERO:
                    # scattered light makes shadows on skin brighter and redder
                    out[i, c] += lights[k, 3 + c] * soft * arrives * (reach + (ONE - reach) * LEAK * wrap)
            shine = nx * lights[k, 6] + ny * lights[k, 7] + nz * lights[k, 8]
            if shine > ZERO:
                shine *= shine
                shine *= shine
                if sharpness[i] > 0:
                    shine *= shine
                if sharpness[i] > 1:
                    shine = shine * shine * shine
                for c in range(3):
                    out[i, 3 + c] += lights[k, 3 + c] * shine * reach


@_inline
def texel(texture, u, v) -> tuple[float, float, float, float]:
    """Sample texture (H, W, 4) float32 bilinearly; u is periodic, v is clamped."""
    high, wide = texture.shape[0], texture.shape[1]
    x = u * np.float32(wide) - HALF
    y = min(max(v * np.float32(high) - HALF, ZERO), np.float32(high) - np.float32(1.001))
    x0, y0 = int(math.floor(x)), int(y)
    fx, fy = np.float32(x) - np.float32(x0), np.float32(y) - np.float32(y0)
    x0 = x0 - wide if x0 >= wide else (x0 + wide if x0 < 0 else x0)  # cheaper than a modulo
    x0 = x0 - wide if x0 >= wide else x0
    x1 = x0 + 1 if x0 + 1 < wide else 0
    one = np.float32(1.0)
    w00, w01, w10, w11 = (one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy
    return (
        texture[y0, x0, 0] * w00
        + texture[y0, x1, 0] * w01
        + texture[y0 + 1, x0, 0] * w10
        + texture[y0 + 1, x1, 0] * w11,
        texture[y0, x0, 1] * w00
        + texture[y0, x1, 1] * w01
        + texture[y0 + 1, x0, 1] * w10
        + texture[y0 + 1, x1, 1] * w11,
        texture[y0, x0, 2] * w00
        + texture[y0, x1, 2] * w01
        + texture[y0 + 1, x0, 2] * w10
        + texture[y0 + 1, x1, 2] * w11,
        texture[y0, x0, 3] * w00
        + texture[y0, x1, 3] * w01
        + texture[y0 + 1, x0, 3] * w10
        + texture[y0 + 1, x1, 3] * w11,
    )


@_inline
def shade_eye(qx, qy, qz, gaze, eye, light, lights, colour) -> None:
    """Write the colour (3,) of sclera, iris, pupil and highlights at direction q on the eyeball.

    q and gaze are in head coordinates. eye (5,): colour of the iris, angular radius of iris and of pupil.
    """
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
        shine = 0.55 * (qx * lights[k, 6] + qy * lights[k, 7] + qz * lights[k, 8])
        shine += 0.45 * (gaze[0] * lights[k, 6] + gaze[1] * lights[k, 7] + gaze[2] * lights[k, 8])
        if shine > 0.0:
            strength = shine**256 * 1.6 * edge + 0.14 * shine**64
            for c in range(3):
                colour[c] += strength * lights[k, 3 + c]


@_inline
def shade(
    t,
    wb,
    wc,
    triangles,
    materials,
    uvs,
    lit,
    attributes,
    skin,
    strands,
    cloth,
    looks,
    lights,
    eye,
    gaze,
    colour,
) -> None:
    """Write the linear colour of triangle t at barycentric coordinates (wb, wc) to colour (3,).

    lit (N, 6) is the output of light_vertices, looks (8, 3) the colours of materials without texture. skin
    and cloth are textures (H, W, 4), strands is the texture (H, W) of hair. The meaning of attributes (N, 3)
    depends on the material:

    - SKIN: share of the mouth's inside, factor of the gloss.
    - EYE: position on the eyeball.
    - CLOTH: brightness (attribute 2 is the distance below the neckline).
    - HAIR: tone, brightness, gloss.
    - others: brightness, gloss.
    """
    a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
    wa = ONE - wb - wc
    red = wa * lit[a, 0] + wb * lit[b, 0] + wc * lit[c, 0]
    green = wa * lit[a, 1] + wb * lit[b, 1] + wc * lit[c, 1]
    blue = wa * lit[a, 2] + wb * lit[b, 2] + wc * lit[c, 2]
    p = wa * attributes[a, 0] + wb * attributes[b, 0] + wc * attributes[c, 0]
    q = wa * attributes[a, 1] + wb * attributes[b, 1] + wc * attributes[c, 1]
    r = wa * attributes[a, 2] + wb * attributes[b, 2] + wc * attributes[c, 2]
    u = wa * uvs[t, 0, 0] + wb * uvs[t, 1, 0] + wc * uvs[t, 2, 0]
    v = wa * uvs[t, 0, 1] + wb * uvs[t, 1, 1] + wc * uvs[t, 2, 1]
    material = materials[t]
    gloss = ZERO
    if material == EYE:
        shade_eye(p, q, r, gaze, eye, (red, green, blue), lights, colour)
    elif material == SKIN:
        own_red, own_green, own_blue, shine = texel(skin, u, v)
        colour[0] = (own_red * (ONE - p) + looks[EYE, 0] * p) * red
        colour[1] = (own_green * (ONE - p) + looks[EYE, 1] * p) * green
        colour[2] = (own_blue * (ONE - p) + looks[EYE, 2] * p) * blue
        gloss = shine * q
    elif material == CLOTH:
        own_red, own_green, own_blue, shine = texel(cloth, u, v)
        colour[0], colour[1], colour[2] = own_red * red * p, own_green * green * p, own_blue * blue * p
        gloss = shine * p
    elif material == HAIR:
        high, wide = strands.shape
        strand = strands[min(high - 1, int(v * np.float32(high))), int(u * np.float32(wide)) & (wide - 1)]
        strand = strand if strand > 127 else 160  # a gap: subpixels that are shaded together may include one
        tone = q * (TONE_0 + TONE_1 * p) * (STRAND_0 + STRAND_1 * np.float32(strand))
        colour[0], colour[1], colour[2] = (
            looks[HAIR, 0] * tone * red,
            looks[HAIR, 1] * tone * green,
            looks[HAIR, 2] * tone * blue,
        )
        gloss = r * (HALF * HALF + tone)
    else:
        colour[0], colour[1], colour[2] = (
            looks[material, 0] * red * p,
            looks[material, 1] * green * p,
            looks[material, 2] * blue * p,
        )
        gloss = q
    if gloss > ZERO:
        for k in range(3):
            colour[k] += gloss * (wa * lit[a, 3 + k] + wb * lit[b, 3 + k] + wc * lit[c, 3 + k])


@_jit
def resolve(ids, depths, screen, triangles, materials, uvs, lit, attributes, skin, strands, cloth, looks,
    lights, eye,
            gaze, backdrop, curve, out) -> None:  # fmt: skip
    """Shade subpixels and write averages of 2x2 to out (P, P, 3), uint8, over backdrop (P, P, 3), linear.

    Subpixels of a pixel that show the same smooth surface are shaded once, at their mean position. curve
    (OUTPUT_LEVELS,) converts linear light to bytes.
    """
    size = out.shape[0]
    colour = np.zeros(3, np.float32)
    total = np.zeros(3, np.float32)
    for row in range(size):
        for column in range(size):
            for c in range(3):
                total[c] = 0.0
            done = 0  # bit k is set when subpixel k has been added
            for k in range(4):
                if done >> k & 1:
                    continue
                y, x = 2 * row + (k >> 1), 2 * column + (k & 1)
                t = ids[y, x]
                share, sum_x, sum_y = 1.0, x + 0.5, y + 0.5
                for other in range(k + 1, 4):
                    oy, ox = 2 * row + (other >> 1), 2 * column + (other & 1)
                    o = ids[oy, ox]
                    same = o == t and (t < 0 or materials[t] != EYE)
                    if not same and t >= 0 and o >= 0 and materials[t] == materials[o]:
                        smooth = materials[t] == SKIN or materials[t] == CLOTH
                        same = smooth and abs(depths[oy, ox] - depths[y, x]) < 0.06
                    if same and not done >> other & 1:
                        done |= 1 << other
                        share += 1.0
                        sum_x += ox + 0.5
                        sum_y += oy + 0.5
                if t < 0:
                    for c in range(3):
                        total[c] += share * backdrop[row, column, c]
                    continue
                px, py = sum_x / share, sum_y / share
                a, b, c3 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                ax, ay = screen[a, 0], screen[a, 1]
                bx, by, cx, cy = screen[b, 0] - ax, screen[b, 1] - ay, screen[c3, 0] - ax, screen[c3, 1] - ay
                inverse = 1.0 / (bx * cy - by * cx)
                wb = np.float32(((px - ax) * cy - (py - ay) * cx) * inverse)
                wc = np.float32(((py - ay) * bx - (px - ax) * by) * inverse)
                shade(t, wb, wc, triangles, materials, uvs, lit, attributes, skin, strands, cloth, looks,
                lights, eye,
                      gaze, colour)  # fmt: skip
                for c in range(3):
                    total[c] += share * colour[c]
            for c in range(3):
                index = int(min(max(0.25 * total[c], 0.0), 1.0) * (OUTPUT_LEVELS - 1) + 0.5)
                out[row, column, c] = curve[index]
