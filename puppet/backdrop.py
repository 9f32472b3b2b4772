"""Still, out-of-focus backdrops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from puppet.face import Identity

Image = NDArray[Any]  # floating point; float32 where the kernels read it


def paint_backdrop(person: Identity, size: int) -> Image:
    """Return the person's backdrop (size, size, 3), linear RGB in [0, 1]."""
    rng = np.random.default_rng([person.seed, 91])
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size
    first, second, third = (
        0.75 * np.array(colour, np.float32) + 0.01 for colour in person.environment.palette
    )
    paint = {"bokeh": _bokeh, "room": _room, "wall": _wall, "outdoors": _outdoors, "studio": _studio}.get(
        person.environment.backdrop
    )
    if paint is None:
        blend = np.clip(y * rng.uniform(0.5, 1.0) + x * rng.uniform(-0.4, 0.4), 0, 1)[..., None]
        picture = first * (1 - blend) + second * blend
    else:
        picture = paint(x, y, (first, second, third), rng)
    side = 1 if person.environment.lights[0][0] > 0 else -1
    glow = 1 + rng.uniform(0.0, 0.5) * np.clip(1 - np.hypot(x - 0.5 - 0.45 * side, y - 0.2) * 1.3, 0, 1)
    vignette = 1 - 0.30 * ((x - 0.5) ** 2 + (y - 0.5) ** 2) * 2
    grain = 1 + 0.008 * rng.standard_normal((size, size, 1))
    return np.ascontiguousarray(np.clip(picture * (glow * vignette)[..., None] * grain, 0, 1), np.float32)


Palette = tuple[Image, Image, Image]


def _studio(x: Image, y: Image, palette: Palette, rng: np.random.Generator) -> Image:
    """A paper background with a bright spot behind the head."""
    pool = np.exp(
        -(((x - 0.5 - rng.uniform(-0.15, 0.15)) / 0.42) ** 2) - ((y - rng.uniform(0.25, 0.5)) / 0.45) ** 2
    )[..., None]
    return palette[0] * (0.35 + 1.0 * pool)


def _wall(x: Image, y: Image, palette: Palette, rng: np.random.Generator) -> Image:
    """A plain wall with one or two blurred rectangles, lit from one side."""
    picture = (
        np.ones((*x.shape, 3), np.float32)
        * (0.4 * palette[0] + 0.25)
        * (1.1 - 0.45 * x * rng.choice([-1, 1]))[..., None]
    )
    for _ in range(rng.integers(1, 3)):
        left, top = rng.uniform(-0.2, 0.9), rng.uniform(-0.2, 0.4)
        box = _soft_box(x, y, left, top, left + rng.uniform(0.15, 0.4), top + rng.uniform(0.2, 0.6), 0.03)
        frame = _soft_box(x, y, left - 0.03, top - 0.03, left + 0.4, top + 0.6, 0.02) * 0.3
        picture = picture * (1 - frame[..., None] * 0.4)
        picture = picture * (1 - box[..., None]) + palette[rng.integers(1, 3)] * box[..., None]
    return picture


def _room(x: Image, y: Image, palette: Palette, rng: np.random.Generator) -> Image:
    """Shelves with objects, and a window or a lamp."""
    picture = np.ones((*x.shape, 3), np.float32) * (0.5 * palette[0] + 0.05) * (1.2 - 0.6 * y)[..., None]
    soft = rng.uniform(0.02, 0.05)
    for shelf in np.arange(rng.uniform(0.05, 0.2), 0.9, 0.24):
        left = rng.uniform(-0.1, 0.1)
        while left < 1.0:
            wide, high = rng.uniform(0.02, 0.09), rng.uniform(0.10, 0.2)
            tint = palette[rng.integers(3)] * rng.uniform(0.3, 1.6) + rng.uniform(0, 0.1)
            box = _soft_box(x, y, left, shelf + 0.2 - high, left + wide, shelf + 0.2, soft)[..., None]
            picture = picture * (1 - 0.85 * box) + tint * 0.85 * box
            left += wide + rng.uniform(0.0, 0.06)
    if rng.random() < 0.6:
        left = rng.choice([rng.uniform(-0.1, 0.15), rng.uniform(0.65, 0.85)])
        box = _soft_box(x, y, left, -0.1, left + 0.26, 0.62, 0.05)[..., None]
        picture = picture * (1 - box) + np.array([0.85, 0.9, 1.0]) * rng.uniform(0.6, 0.95) * box
    else:
        lamp = np.exp(-(((x - rng.choice([0.12, 0.88])) / 0.13) ** 2) - ((y - 0.3) / 0.13) ** 2)[..., None]
        picture = picture + lamp * np.array([0.8, 0.6, 0.35])
    return picture


def _bokeh(x: Image, y: Image, palette: Palette, rng: np.random.Generator) -> Image:
    """Discs of out-of-focus lights on a dark background."""
    picture = 0.25 * palette[0] * (1.2 - y)[..., None] + 0.2 * palette[1] * y[..., None]
    for _ in range(int(rng.integers(14, 34))):
        radius = rng.uniform(0.02, 0.075)
        distance = np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0, 0.9)) / radius
        disc = np.clip((1 - distance) * 8, 0, 1) * (0.75 + 0.35 * np.clip(distance, 0, 1) ** 4)
        warm = (
            np.array([1.0, rng.uniform(0.5, 0.95), rng.uniform(0.2, 0.9)])
            if rng.random() < 0.7
            else palette[2] * 1.5
        )
        picture = picture + disc[..., None] * warm * rng.uniform(0.06, 0.4)
    return picture


def _outdoors(x: Image, y: Image, palette: Palette, rng: np.random.Generator) -> Image:
    """Sky above a distant line of trees."""
    sky = np.array([0.45, 0.62, 0.85]) * (0.6 + 0.5 * y)[..., None] * rng.uniform(0.6, 1.1)
    leaves = np.zeros_like(x)
    for _ in range(60):
        radius = rng.uniform(0.03, 0.12)
        leaves += rng.uniform(-0.5, 1) * np.exp(
            -(((x - rng.uniform(0, 1)) / radius) ** 2) - ((y - rng.uniform(0.2, 0.9)) / radius) ** 2
        )
    green = np.array([0.11, 0.15, 0.07]) * rng.uniform(0.6, 1.5, 3) * (1 + 0.5 * leaves)[..., None]
    line = (
        rng.uniform(0.2, 0.5)
        + 0.06 * np.sin(x * rng.uniform(4, 9) + rng.uniform(0, 6))
        + 0.03 * np.sin(x * 17 + rng.uniform(0, 6))
    )
    trees = np.clip((y - line) / 0.10, 0, 1)[..., None]
    return np.clip(sky * (1 - trees) + green * trees, 0.01, 1)


def _soft_box(x: Image, y: Image, x0: float, y0: float, x1: float, y1: float, soft: float) -> Image:
    """Return 1 inside the rectangle (x0, y0, x1, y1) and 0 outside, with linear borders of width `soft`."""
    across = np.clip((x - x0) / soft + 0.5, 0, 1) * np.clip((x1 - x) / soft + 0.5, 0, 1)
    return across * np.clip((y - y0) / soft + 0.5, 0, 1) * np.clip((y1 - y) / soft + 0.5, 0, 1)
