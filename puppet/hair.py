"""Hair and beards as ribbons that grow from the skin in steps, stay outside the head, and show many strands.

A strand texture cuts each ribbon into strands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puppet import raster
from puppet.chart import CENTRE, chart_coordinates, corner_coordinates, load_chart, paint_chart
from puppet.face import Identity
from puppet.head import EARS, INSIDE, load_head
from puppet.scene import Part, follow_share, join
from puppet.skin import beard_opacity, scalp_opacity

FloatArray = NDArray[Any]  # floating point; float32 where the kernels read it
STRAND_TEXELS = (96, 128)  # along and across a ribbon
_CHART_WIDTH = 512


@dataclass(frozen=True)
class Style:
    """Parameters of a hair style; lengths in 0.1 m.

    Attributes:
        count: number of ribbons.
        steps: segments per ribbon.
        length: shortest and longest ribbon.
        lift: 0 (flat on the head) to 1 (perpendicular to it).
        fall: downward change of direction per step.
        comb: direction of combing, see `_comb_direction`.
        width: of a ribbon.
        clearance: smallest height above the skin of the lowest and of the topmost layer.
        slack: how much higher than that a ribbon may be.
    """

    count: int
    steps: int
    length: tuple[float, float]
    lift: float
    fall: float
    comb: str
    width: float
    clearance: tuple[float, float]
    slack: float


STYLES = {
    "crop": Style(1800, 3, (0.16, 0.32), 0.40, 0.05, "forward", 0.075, (0.015, 0.07), 0.10),
    "side": Style(1500, 6, (0.50, 0.85), 0.40, 0.22, "part", 0.085, (0.02, 0.16), 0.07),
    "fringe": Style(1500, 6, (0.55, 0.80), 0.20, 0.25, "forward", 0.085, (0.02, 0.13), 0.05),
    "swept": Style(1500, 6, (0.55, 0.95), 0.50, 0.10, "back", 0.085, (0.02, 0.20), 0.08),
    "afro": Style(1800, 5, (0.24, 0.70), 1.00, 0.00, "out", 0.09, (0.0, 0.0), 9.0),
    "bob": Style(1600, 7, (1.30, 1.75), 0.25, 0.70, "part", 0.10, (0.03, 0.20), 0.06),
    "long": Style(1600, 9, (2.20, 3.00), 0.25, 0.70, "part", 0.11, (0.03, 0.22), 0.06),
    "bun": Style(1300, 8, (1.00, 1.25), 0.05, 0.00, "bun", 0.085, (0.015, 0.06), 0.03),
}


@lru_cache(maxsize=1)
def strand_texture() -> NDArray[np.uint8]:
    """Return the strand texture (along, across): 0 between strands, 128 to 255 as the tone of a strand.

    Strands become thinner towards the tip.
    """
    high, wide = STRAND_TEXELS
    rng = np.random.default_rng(5)
    texture = np.zeros((high, wide), np.uint8)
    along = (np.arange(high) + 0.5) / high
    for strand in range(46):
        middle = wide * (strand + rng.uniform(0.1, 0.9)) / 46
        tone, reach, bend = rng.uniform(150, 240), rng.uniform(0.72, 1.0), rng.uniform(-2, 2)
        for row in range(high):
            thick = 2.1 * np.clip((reach - along[row]) / 0.35, 0, 1) ** 0.6
            if thick < 0.25:
                break
            centre = middle + bend * along[row] ** 2
            for column in range(int(np.ceil(centre - thick)), int(np.floor(centre + thick)) + 1):
                edge = 1 - 0.35 * abs(column - centre) / thick
                texture[row, column % wide] = int(np.clip(tone * edge, 128, 255))
    return texture


@dataclass(frozen=True)
class Shell:
    """The surface of the head: its distance from `centre` in each direction, (H, W) over the chart."""

    centre: FloatArray
    radius: FloatArray

    def constrain(self, points: FloatArray, clearance: FloatArray, slack: FloatArray) -> FloatArray:
        """Move points (N, 3) away from or towards the centre, into a range of heights above the surface.

        The range is clearance to clearance + slack, each (N,).
        """
        offset = points - self.centre
        distance = np.linalg.norm(offset, axis=1)
        uv = chart_coordinates(offset + np.array(CENTRE, np.float32))
        high, wide = self.radius.shape
        row = np.clip((uv[:, 1] * high).astype(int), 0, high - 1)
        column = (uv[:, 0] * wide).astype(int) % wide
        least = self.radius[row, column] + clearance
        factor = np.clip(distance, least, least + slack) / np.maximum(distance, 1e-3)
        return (self.centre + offset * factor[:, None]).astype(np.float32)


def measure_shell(points: FloatArray) -> Shell:
    """Return the shell of a person's head vertices (V, 3), without the ears."""
    head = load_head()
    middle = (head.vertices[head.groups == 1].mean(axis=0) + head.vertices[head.groups == 2].mean(axis=0)) / 2
    centre = (np.array(CENTRE) - middle).astype(np.float32)
    keep = (head.groups[head.triangles] == 0).all(axis=1) & (
        head.masks[[INSIDE, EARS]][:, head.triangles].max(axis=(0, 2)) < 0.5
    )
    shifted = (points - centre + np.array(CENTRE)).astype(np.float32)
    triangles = head.triangles[keep]
    radius = np.zeros((96, 128), np.float32)
    image = np.zeros((96, 128, 1), np.float32)
    distance = np.linalg.norm(points - centre, axis=1).astype(np.float32)
    paint_chart(corner_coordinates(shifted, triangles), triangles, distance[:, None], distance, radius, image)
    for _ in range(40):  # fill the holes at the pole, at the ears and below the head
        empty = radius == 0
        if not empty.any():
            break
        near = np.stack(
            [
                np.roll(radius, 1, 1),
                np.roll(radius, -1, 1),
                np.vstack([radius[:1], radius[:-1]]),
                np.vstack([radius[1:], radius[-1:]]),
            ]
        )
        radius = np.where(empty, near.max(axis=0), radius)
    return Shell(centre, radius)


def grow_hair(person: Identity, points: FloatArray) -> list[Part]:
    """Return the hair and beard of a person with head vertices (V, 3); empty without either."""
    parts = []
    shell = measure_shell(points)
    chart = load_chart(_CHART_WIDTH)
    if person.hair.style in STYLES:
        rng = np.random.default_rng([person.seed, 81])
        parts.append(_scalp_hair(person, points, shell, scalp_opacity(chart, person), rng))
    if person.hair.beard in ("full", "goatee", "moustache"):
        rng = np.random.default_rng([person.seed, 82])
        parts.append(_beard(person, points, beard_opacity(chart, person), rng))
    return parts


def _roots(
    points: FloatArray, cover: FloatArray, count: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.int32]]:
    """Draw the roots of `count` ribbons with density cover (H, W) over the chart.

    Returns points (count, 3), unit normals (count, 3), template positions relative to the eyes (count, 3),
    and a vertex of the triangle that each root lies in (count,).
    """
    head = load_head()
    template = head.vertices
    uv = chart_coordinates(template)
    high, wide = cover.shape
    column = (uv[:, 0] * wide).astype(int) % wide
    row = np.clip((uv[:, 1] * high).astype(int), 0, high - 1)
    density = cover[row, column] * (head.groups == 0) * (head.masks[INSIDE] < 0.3) * (head.masks[EARS] < 0.3)
    corners = points[head.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    odds = area * density[head.triangles].mean(axis=1)
    chosen = rng.choice(len(odds), count, p=odds / odds.sum())
    share = rng.dirichlet((1, 1, 1), count).astype(np.float32)
    normals = np.zeros_like(points)
    raster.vertex_normals(points, head.triangles, normals)
    ids = head.triangles[chosen]
    middle = (template[head.groups == 1].mean(axis=0) + template[head.groups == 2].mean(axis=0)) / 2

    def blend(values: FloatArray) -> FloatArray:
        return np.einsum("nk,nkc->nc", share, values[ids])

    direction = blend(normals)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return blend(points), direction, blend(template) - middle, ids[:, 0]


def _comb_direction(comb: str, position: FloatArray, normal: FloatArray, person: Identity) -> FloatArray:
    """Return unit directions (N, 3) in which the hair at template positions (N, 3) is combed.

    comb: "forward", "back", "part" (to both sides of the parting), "bun" (towards the bun) or "out" (along
    the normals (N, 3)).
    """
    x, y, z = position.T
    flow = np.zeros_like(position)
    side = np.sign(x) * np.clip(np.abs(x) / 0.35, 0, 1)
    if comb == "forward":
        top = np.clip((y - 0.5) / 0.4, 0, 1)
        flow = np.stack(
            [
                0.35 * side + 0.25 * person.hair.parting,
                -1.0 + 0.9 * top,
                (1.2 * top - 0.1 * (1 - top)) * np.ones_like(x),
            ],
            axis=1,
        )
    elif comb == "back":
        top = np.clip((y - 0.3) / 0.5, 0, 1)
        flow = np.stack([0.25 * side, 0.35 * top - 0.9 * (1 - top), -1.0 * np.ones_like(x)], axis=1)
    elif comb == "part":
        away = np.tanh((x - 0.42 * person.hair.parting) / 0.10)
        front = np.clip((z + 0.4) / 0.5, 0, 1)
        flow = np.stack([away, 0.15 * front - 0.35 * (1 - front), 0.25 * front - 0.55 * (1 - front)], axis=1)
        low = np.clip((0.55 - y) / 0.3, 0, 1)[:, None]
        flow = flow * (1 - low) + low * np.array([0.0, -1.0, -0.15])
    elif comb == "bun":
        flow = np.array([0.0, 0.75, -1.75]) - position
    else:
        flow = normal.copy()
    flow -= normal * np.sum(flow * normal, axis=1, keepdims=True) * (comb not in ("out", "bun"))
    return (flow / (np.linalg.norm(flow, axis=1, keepdims=True) + 1e-6)).astype(np.float32)


def _scalp_hair(
    person: Identity, points: FloatArray, shell: Shell, cover: FloatArray, rng: np.random.Generator
) -> Part:
    """Grow the hair of the scalp with density cover (H, W) over the chart."""
    style = STYLES[person.hair.style]
    root, normal, position, anchor = _roots(points, cover, style.count, rng)
    flow = _comb_direction(style.comb, position, normal, person)
    count = style.count
    length = style.length[0] + (style.length[1] - style.length[0]) * (
        0.65 * person.hair.length + 0.35 * rng.random(count)
    )
    if style.comb in ("forward", "back", "part") and person.hair.style not in ("bob", "long"):
        length *= 0.35 + 0.65 * np.clip(
            (position[:, 1] - 0.05) / 0.6, 0, 1
        )  # shorter at the back and the sides
    layer = rng.random(count).astype(np.float32)
    clearance = (
        style.clearance[0]
        + (style.clearance[1] - style.clearance[0]) * (0.4 + 0.8 * person.hair.volume) * layer
    )
    if person.hair.style not in ("bob", "long"):
        clearance *= 0.3 + 0.7 * np.clip((position[:, 1] - 0.2) / 0.5, 0, 1)
    jitter = rng.normal(0, 0.16, (count, 3))
    heading = flow + style.lift * (0.35 + 0.9 * person.hair.volume) * normal + jitter
    path = np.empty((style.steps + 1, count, 3), np.float32)
    path[0] = root - 0.015 * normal
    phase = rng.uniform(0, 6.283, (2, count)) + position[:, [0, 2]].T * 3
    step = (length / style.steps)[:, None]
    for k in range(style.steps):
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        sway = 0.25 + 0.9 * k / style.steps if style.comb == "out" else 0.28 * person.hair.wave
        pace = 2.3 if style.comb == "out" else 1.7
        wobble = (
            np.stack(
                [np.sin(phase[0] + pace * k), 0.6 * np.sin(phase[1] + 2.1 * k), np.cos(phase[0] + pace * k)],
                axis=1,
            )
            * sway
        )
        ahead = path[k] + step * (heading + wobble * (k > 0))
        if style.comb != "out":
            slack = np.where(ahead[:, 1] > -0.2, style.slack * (0.5 + person.hair.volume), 0.35)
            held = shell.constrain(ahead.astype(np.float32), clearance * min(1.0, (k + 1) / 2), slack)
            ahead = np.where(ahead[:, 1:2] > -0.6, held, ahead)
        if style.fall > 0.5:  # keep long hair out of the face
            least = (0.60 + 0.1 * layer) * np.clip((0.72 - ahead[:, 1]) / 0.35, 0, 1) * (ahead[:, 2] > -0.6)
            ahead[:, 0] = np.where(ahead[:, 0] < 0, -1, 1) * np.maximum(np.abs(ahead[:, 0]), least)
            ahead = _drape(ahead, layer, path[0])
        path[k + 1] = ahead
        moved = path[k + 1] - path[k]
        heading = moved / (np.linalg.norm(moved, axis=1, keepdims=True) + 1e-6) + np.array(
            [0, -style.fall, 0]
        )
        if style.fall > 0.5:
            heading[:, 2] -= 0.12 * (path[k + 1][:, 2] > -0.5)
    part = _ribbons(path, shell.centre, style.width * (0.8 + 0.4 * rng.random(count)), layer, rng, anchor)
    if person.hair.style == "bun":
        part = _with_bun(part, person, rng)
    return part


def _drape(points: FloatArray, layer: FloatArray, root: FloatArray) -> FloatArray:
    """Move points (N, 3) of long hair below the chin out of the neck, then onto the chest or the back.

    layer (N,) in [0, 1] and the roots (N, 3) of the ribbons decide where.
    """
    x, y, z = points[:, 0].copy(), points[:, 1], points[:, 2].copy()
    below = np.clip((-0.75 - y) / 0.25, 0, 1)
    around = np.hypot(x, z + 0.95) + 1e-6
    wider = np.maximum(1.0, (0.50 + 0.12 * layer) / around)
    x, z = x * (1 + below * (wider - 1)), -0.95 + (z + 0.95) * (1 + below * (wider - 1))
    low = np.clip((-1.25 - y) / 0.3, 0, 1)
    front = root[:, 2] > -0.75
    chest = np.maximum(z, -0.42 + 0.5 * (-1.45 - y) + 0.08 * layer)
    back = np.minimum(z, -1.62 - 0.08 * layer)
    z = z + low * (np.where(front, chest, back) - z)
    x = np.where(front & (np.abs(x) < 0.42), np.sign(x) * (np.abs(x) + low * (0.42 - np.abs(x))), x)
    return np.stack([x, y, z], axis=1)


def _with_bun(part: Part, person: Identity, rng: np.random.Generator) -> Part:
    """Append a bun, a ball of ribbons behind the crown."""
    count, steps = 160, 10
    centre = np.array([0.0, 0.78, -1.72], np.float32)
    radius = 0.34 + 0.12 * person.hair.volume
    axis = rng.normal(size=(count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    first = np.cross(axis, rng.normal(size=(count, 3)))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(axis, first)
    turn = np.linspace(0, 2.2, steps + 1)[:, None, None]
    path = centre + radius * (np.cos(turn) * first + np.sin(turn) * second) * rng.uniform(
        0.85, 1.05, (1, count, 1)
    )
    layer = rng.random(count).astype(np.float32)
    ball = _ribbons(
        path.astype(np.float32), centre, np.full(count, 0.11), layer, rng, np.full(count, -1, np.int32)
    )
    return join([part, ball])


def _beard(person: Identity, points: FloatArray, cover: FloatArray, rng: np.random.Generator) -> Part:
    """Grow a beard with density cover (H, W) over the chart."""
    count = {"full": 1900, "goatee": 800, "moustache": 420}[person.hair.beard]
    root, normal, position, anchor = _roots(
        points, np.clip(cover * 1.5 - 0.5, 0, 1) + 1e-6 * cover, count, rng
    )
    x = position[:, 0]
    lip = (position[:, 1] > -0.74) & (np.abs(x) < 0.3)
    flow = np.stack(
        [np.sign(x) * np.where(lip, 0.7, 0.1), np.where(lip, -0.7, -1.0), 0.12 * np.ones_like(x)], axis=1
    )
    length = (
        (0.08 + 0.26 * person.hair.length * (person.hair.beard != "moustache"))
        * np.where(lip, 0.45, 1.0)
        * rng.uniform(0.7, 1.2, count)
    )
    heading = flow + 0.55 * normal + rng.normal(0, 0.25, (count, 3))
    path = np.empty((3, count, 3), np.float32)
    path[0] = root - 0.01 * normal
    for k in range(2):
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        path[k + 1] = path[k] + (length / 2)[:, None] * heading
        heading = heading + np.array([0, -0.4, 0])
    layer = rng.random(count).astype(np.float32)
    return _ribbons(
        path, np.array([0, -0.6, -0.6], np.float32), np.full(count, 0.034), layer, rng, anchor, gloss=0.05
    )


def _ribbons(
    path: FloatArray, centre: FloatArray, width: FloatArray, layer: FloatArray, rng: np.random.Generator,
    anchor: NDArray[np.int32],
    gloss: float = 0.12,
) -> Part:  # fmt: skip
    """Return ribbons of `width` (N,) along paths (K + 1, N, 3), with their flat side away from centre.

    layer: (N,) 0 (innermost, dark roots) to 1 (outermost). anchor: (N,) head vertex that a ribbon moves with.
    """
    steps, count = path.shape[0] - 1, path.shape[1]
    tangent = np.gradient(path, axis=0)
    outward = path - centre
    across = np.cross(outward, tangent)
    across /= np.linalg.norm(across, axis=2, keepdims=True) + 1e-6
    along = np.linspace(0, 1, steps + 1, dtype=np.float32)
    half = (0.5 * width)[None, :, None] * (1.0 - 0.45 * along**2)[:, None, None]
    points = np.stack([path - across * half, path + across * half], axis=2).astype(np.float32)  # (K+1,N,2,3)
    left = np.asarray(rng.random(count), np.float32)
    uv = np.empty((steps + 1, count, 2, 2), np.float32)
    span = 0.22 * width / width.mean()
    uv[..., 0] = left[None, :, None] + span[None, :, None] * np.array([0, 1], np.float32)
    uv[..., 1] = (0.02 + 0.96 * along)[:, None, None]
    tone = np.clip(0.5 + 0.22 * rng.normal(size=count), 0, 1)
    shade = (0.42 + 0.58 * np.clip(along[:, None] * 1.6 + 0.55 * layer[None], 0, 1)) * (
        0.72 + 0.28 * layer[None]
    )
    attributes = np.empty((steps + 1, count, 2, 3), np.float32)
    attributes[..., 0] = tone[None, :, None]
    attributes[..., 1] = shade[:, :, None]
    attributes[..., 2] = gloss
    # Store whole ribbons one after the other, the front ones first, so that they hide later ones early.
    order = np.argsort(-path[..., 2].mean(axis=0), kind="stable")

    def ordered(values: FloatArray) -> FloatArray:
        return values[:, order].swapaxes(0, 1).reshape(-1, *values.shape[3:])

    flat, total = ordered(points), points.shape[0] * count * 2
    index = np.arange(total).reshape(count, steps + 1, 2)
    a, b, c, d = index[:, :-1, 0], index[:, :-1, 1], index[:, 1:, 1], index[:, 1:, 0]
    triangles = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3)
    return Part(
        points=flat,
        triangles=triangles.astype(np.int32),
        materials=np.full(len(triangles), raster.HAIR, np.uint8),
        uvs=ordered(uv)[triangles],
        attributes=ordered(attributes),
        occlusion=ordered(np.repeat(shade[:, :, None], 2, axis=2)).astype(np.float32),
        wraps=np.full((total, 3), 0.35, np.float32),
        sharpness=np.zeros(total, np.uint8),
        follow=np.maximum(follow_share(flat), 0.25).astype(np.float32),
        anchors=np.repeat(anchor[order], (steps + 1) * 2).astype(np.int32),
    )
