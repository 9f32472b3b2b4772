"""The skin texture of one person: linear colour and gloss (H, W, 4) over the chart of chart.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from puppet.chart import Chart, load_chart, noise_at
from puppet.face import MALE, Identity

Plane = NDArray[Any]  # floating point; float32 where the kernels read it


def paint_skin(person: Identity, width: int) -> NDArray[np.float32]:
    """Return the skin texture (0.75 width, width, 4) of a person."""
    chart = load_chart(width)
    seed = person.seed * 16
    position = chart.position
    x, y, z = position[..., 0], position[..., 1], position[..., 2]
    skin = person.skin
    broad = noise_at(position, 1.3, seed + 1)
    blotch = noise_at(position, 4.0, seed + 2)
    pores = noise_at(position, 22.0, seed + 3)
    fine = noise_at(position, 11.0, seed + 4)

    colour = np.ones((*x.shape, 3), np.float32) * np.array(skin.tone, np.float32)
    value = 1 + 0.05 * broad + 0.045 * blotch + skin.pores * (0.05 * pores + 0.045 * fine)
    red = _redness(chart) * skin.redness * (0.75 + 0.35 * blotch) * (1 - 0.55 * skin.depth)
    colour *= value[..., None]
    colour *= 1 - red[..., None] * np.array([0.06, 0.34, 0.30], np.float32)
    # Thin skin under the eyes is darker and bluish, more so at old age.
    hollow = _spot(np.abs(x) - 0.27, y + 0.19, 0.17, 0.07) + 0.6 * _spot(
        np.abs(x) - 0.2, y + 0.02, 0.12, 0.12
    )
    colour *= 1 - hollow[..., None] * np.array([0.22, 0.26, 0.20], np.float32) * (0.5 + 0.6 * person.age)
    if person.age > 0.3:
        colour *= 1 - _wrinkles(chart, seed)[..., None] * (person.age - 0.3) * np.array(
            [0.35, 0.42, 0.45], np.float32
        )
    if skin.freckles > 0:
        dots = (
            np.clip(noise_at(position, 13.0, seed + 5) * 1.6 - 0.55, 0, 1)
            * _band(y, -0.75, 0.25)
            * (np.abs(x) < 0.7)
            * (z > -0.4)
        )
        colour *= 1 - dots[..., None] * skin.freckles * np.array([0.25, 0.42, 0.5], np.float32)
    _paint_moles(colour, chart, person)
    if skin.shadow > 0:
        lid = np.maximum(chart.eyelids, _spot(np.abs(x) - 0.32, y - 0.08, 0.2, 0.07))
        colour *= 1 - lid[..., None] * skin.shadow * np.array([0.45, 0.55, 0.4], np.float32)
    _paint_lips(colour, chart, person, seed)
    gloss = skin.gloss * (
        0.5
        + 0.7 * _spot(x, y + 0.35, 0.16, 0.45)
        + 0.5 * _spot(x, y - 0.6, 0.5, 0.3)
        + 0.25 * fine
        + 0.2 * pores
    )
    gloss = np.clip(gloss, 0.01, 1) + chart.lips * (0.06 + 0.25 * skin.lipstick)
    hair = _paint_hairs(colour, chart, person, seed)
    texture = np.concatenate([colour, (gloss * (1 - 0.95 * hair))[..., None]], axis=2)
    return np.ascontiguousarray(np.clip(texture, 0.003, 1), np.float32)


def _spot(dx: Plane, dy: Plane, wide: float, high: float) -> Plane:
    """Return a Gaussian of width `wide` and height `high` at the offsets dx, dy from its centre."""
    return np.exp(-((dx / wide) ** 2) - (dy / high) ** 2)


def _band(value: Plane, low: float, high: float, soft: float = 0.12) -> Plane:
    """Return 1 between low and high and 0 outside, with linear borders of width `soft`."""
    return np.clip((value - low) / soft + 0.5, 0, 1) * np.clip((high - value) / soft + 0.5, 0, 1)


def _redness(chart: Chart) -> Plane:
    """Return the mask of red skin in [0, 1]: cheeks, nose, ears, chin and rims of the lids."""
    x, y, z = (chart.position[..., axis] for axis in range(3))
    front = z > -0.6
    cheeks = _spot(np.abs(x) - 0.47, y + 0.43, 0.24, 0.2)
    nose = _spot(x, y + 0.36, 0.2, 0.14)
    chin = 0.5 * _spot(x, y + 1.0, 0.22, 0.14)
    return np.clip((cheeks + nose + chin + 0.4 * chart.eyelids) * front + 0.75 * chart.ears, 0, 1)


def _wrinkles(chart: Chart, seed: int) -> Plane:
    """Return the darkness in [0, 1] of forehead lines, crow's feet and nasolabial folds."""
    x, y, z = (chart.position[..., axis] for axis in range(3))
    wobble = noise_at(chart.position, 2.2, seed + 6) * 0.05
    lines = np.clip(np.sin((y + wobble - 0.1 * x**2) * 42) - 0.55, 0, 1) * 1.6
    forehead = lines * _spot(x, y - 0.62, 0.55, 0.22)
    feet = np.clip(np.sin(np.arctan2(y - 0.02 + wobble, np.abs(x) - 0.35) * 17) - 0.4, 0, 1) * _spot(
        np.abs(x) - 0.57, y + 0.02, 0.07, 0.10
    )
    fold = _spot(np.abs(x) - (0.27 + 0.3 * np.clip(-y - 0.45, 0, 1)) + wobble, 0 * y, 0.022, 1) * _band(
        y, -0.82, -0.42
    )
    return (0.7 * forehead + 0.8 * feet + 0.9 * fold) * (z > -0.6)


def _paint_moles(colour: NDArray[np.float32], chart: Chart, person: Identity) -> None:
    """Darken colour (H, W, 3) at the person's moles, in place."""
    rng = np.random.default_rng([person.seed, 71])
    x, y, z = (chart.position[..., axis] for axis in range(3))
    for _ in range(person.skin.moles):
        mx, my, radius = rng.uniform(-0.6, 0.6), rng.uniform(-2.0, 0.5), rng.uniform(0.012, 0.024)
        if abs(mx) < 0.3 and -0.9 < my < -0.5:
            continue  # no moles on the lips
        dot = np.clip(1.6 - np.hypot(x - mx, y - my) / radius, 0, 1) * (z > -0.7)
        colour *= 1 - 0.65 * dot[..., None] * np.array([0.8, 1.0, 1.0], np.float32)


def _paint_lips(colour: NDArray[np.float32], chart: Chart, person: Identity, seed: int) -> None:
    """Colour the lips of colour (H, W, 3), in place."""
    creases = noise_at(chart.position, (24.0, 3.0, 3.0), seed + 7)
    mask = np.clip(chart.lips * 1.2 - 0.1, 0, 1)[..., None]
    tint = np.array(person.skin.lips, np.float32) * (1 + 0.10 * creases[..., None])
    colour[:] = colour * (1 - 0.85 * mask) + tint * 0.85 * mask


def _brows(chart: Chart, person: Identity, seed: int) -> Plane:
    """Return the opacity (H, W) of the brows, drawn as strokes."""
    x, y, z = (chart.position[..., axis] for axis in range(3))
    hair = person.hair
    along = (np.abs(x) - 0.13) / 0.47
    arch = (
        0.245
        + 0.075 * hair.brow_arch * np.sin(np.clip(along, 0, 1.1) * 2.3)
        - 0.05 * np.clip(along - 0.6, 0, 1)
    )
    thick = (0.026 + 0.028 * hair.brow_weight) * np.clip(1.1 - 0.75 * np.clip(along, 0, 1) ** 2, 0.1, 1)
    across = (y - arch) / thick
    inside = np.clip(1.25 - np.abs(across) ** 1.5, 0, 1) * _band(along, 0.02, 1.02, 0.16) * (z > -0.5)
    # Strokes are noise stretched along a direction: upward at the inner end, outward at the outer end.
    lean = 1.15 - 1.0 * np.clip(along, 0, 1)
    u, v = np.abs(x), y
    down = u * np.cos(lean) + v * np.sin(lean)
    side = -u * np.sin(lean) + v * np.cos(lean)
    strokes = noise_at(np.stack([side, down, np.sign(x)], axis=-1), (42.0, 7.0, 1.0), seed + 8)
    ragged = np.clip(inside * 1.5 + 0.55 * strokes - 0.35, 0, 1)
    return ragged * (0.6 + 0.4 * hair.brow_weight)


def _beard_zone(chart: Chart) -> tuple[Plane, Plane, Plane]:
    """Return the masks (H, W) of the beard on the upper lip, on the chin, and on jaw and cheeks."""
    x, y, z = (chart.position[..., axis] for axis in range(3))
    wide = np.abs(x)
    moustache = _spot(wide - 0.12, y + 0.525 + 0.35 * np.clip(wide - 0.1, 0, 1), 0.15, 0.055) * (wide < 0.36)
    chin = _spot(x, y + 1.05, 0.26, 0.22) + 0.8 * _spot(wide - 0.29, y + 0.8, 0.05, 0.16)
    edge = -0.48 - 0.42 * np.clip(0.85 - wide, 0, 0.6)
    jaw = (
        np.clip((edge - y) / 0.12, 0, 1)
        * np.clip((y + 1.42 - 0.25 * np.clip(-z, 0, 2)) / 0.16, 0, 1)
        * np.clip((z + 0.85) / 0.2, 0, 1)
    )
    clear = 1 - np.clip(chart.lips * 1.6 + _spot(x, y + 0.86, 0.12, 0.05), 0, 1)
    return np.clip(moustache * 1.3, 0, 1) * clear, np.clip(chin, 0, 1) * clear, jaw * clear


def beard_opacity(chart: Chart, person: Identity) -> Plane:
    """Return the share (H, W) of the skin that the beard's stubble or roots cover."""
    moustache, chin, jaw = _beard_zone(chart)
    if person.hair.beard == "full":
        return np.maximum(np.maximum(moustache, chin), jaw)
    if person.hair.beard == "goatee":
        return np.maximum(moustache, chin)
    if person.hair.beard == "moustache":
        return moustache
    if person.hair.beard == "stubble":
        return 0.5 * np.maximum(np.maximum(moustache, chin), jaw)
    shaved = 0.16 if person.sex == MALE else 0.0
    return shaved * np.maximum(np.maximum(moustache, chin), jaw)


def scalp_opacity(chart: Chart, person: Identity) -> Plane:
    """Return the density (H, W) in [0, 1] of hair on the scalp, for the person's hairline."""
    x, y, z = (chart.position[..., axis] for axis in range(3))
    wide = np.abs(x)
    back = person.hair.hairline
    temple = 0.5 * back * np.exp(-(((wide - 0.45) / 0.2) ** 2))
    front = 0.68 + 0.34 * back + temple - 0.12 * np.clip(wide - 0.5, 0, 1) ** 2
    ragged = 0.05 * noise_at(chart.position, 7.0, person.seed * 16 + 9)
    top = np.clip((y - front + ragged) / 0.09, 0, 1)
    burn = -0.45  # y where sideburns end, beside the middle of the ear
    side_line = -0.62 - 0.25 * back * np.exp(-(((y - 0.7) / 0.4) ** 2)) + 0.18 * np.clip(y - 0.3, 0, 1)
    side = np.clip((side_line - z + ragged) / 0.08 + 0.5, 0, 1) * np.clip((y - burn) / 0.1, 0, 1)
    nape = np.clip((-1.35 - z) / 0.15, 0, 1) * np.clip((y + 1.05) / 0.15, 0, 1)
    behind = np.maximum(side * (wide > 0.35), nape)
    return np.maximum(top, behind) * (1 - chart.ears)


def _paint_hairs(colour: NDArray[np.float32], chart: Chart, person: Identity, seed: int) -> Plane:
    """Paint brows, stubble and hair roots into colour (H, W, 3), in place; return their opacity (H, W)."""
    fibre = noise_at(chart.position, (40.0, 22.0, 40.0), seed + 10)
    brows = _brows(chart, person, seed)
    beard = beard_opacity(chart, person)
    beard = np.clip(beard * (0.75 + 0.6 * fibre * (person.hair.beard != "none")), 0, 0.9) * (
        0.6 + 0.4 * person.hair.beard_density
    )
    scalp = scalp_opacity(chart, person)
    if person.hair.style == "bald":
        scalp = scalp * 0.10
    elif person.hair.style == "buzz":
        scalp = np.clip(scalp * (0.72 + 0.3 * fibre), 0, 0.92)
    roots = 1.0 if person.hair.style in ("bald", "buzz") else 0.35  # the hair above shades its roots
    for cover, tint, level in (
        (beard, person.hair.beard_colour, 0.8),
        (brows, person.hair.brow_colour, 1.0),
        (scalp, person.hair.colour, roots),
    ):
        colour[:] = colour * (1 - cover[..., None]) + np.array(tint, np.float32) * (level * cover[..., None])
    return np.clip(brows + beard + scalp, 0, 1)
