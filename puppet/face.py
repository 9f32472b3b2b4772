"""Random appearance of a person: shape, skin, hair, clothes, lights and backdrop of each seed.

`identity(seed)` is a pure function. Each aspect has its own random generator, seeded by (seed, aspect), so
that a change to the code of one aspect does not change the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puppet.head import AGES, ANCESTRIES, SEXES, load_head

Colour = tuple[float, float, float]
FEMALE, MALE = 0, 1
HAIR_STYLES = ("bald", "buzz", "crop", "side", "fringe", "swept", "afro", "bob", "long", "bun")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
GARMENTS = ("t-shirt", "shirt", "jumper", "polo", "jacket")
PATTERNS = ("plain", "stripes", "checks", "knit", "melange")
BACKDROPS = ("gradient", "studio", "bokeh", "room", "wall", "outdoors")

_SKIN_TONES = (  # sRGB, fair to deep
    (246, 218, 200), (234, 196, 172), (222, 176, 146), (198, 146, 112), (166, 114, 82), (126, 82, 58),
    (92, 58, 42), (66, 42, 33),
)  # fmt: skip
_HAIR_COLOURS = {
    "black": (34, 29, 28), "darkbrown": (54, 38, 29), "brown": (84, 56, 38), "auburn": (112, 54, 32),
    "ginger": (168, 84, 40), "darkblond": (140, 104, 66), "blond": (196, 158, 102), "grey": (150, 148, 146),
    "white": (214, 212, 208),
}  # fmt: skip
_EYE_COLOURS = (
    (62, 38, 22),
    (88, 56, 30),
    (110, 80, 44),
    (98, 104, 62),
    (92, 122, 142),
    (70, 104, 148),
    (120, 132, 138),
)
_LOCAL_PAIRS = {  # pairs of opposite morphs, without their suffixes: standard deviation of the amount
    "head/head-scale-horiz": 0.3, "head/head-scale-vert": 0.22, "head/head-scale-depth": 0.3,
    "head/head-fat": 0.35, "head/head-angle": 0.15, "chin/chin-bones": 0.3, "chin/chin-cleft": 0.4,
    "chin/chin-height": 0.25, "chin/chin-jaw-drop": 0.4, "chin/chin-prognathism": 0.3,
    "chin/chin-prominent": 0.35, "chin/chin-width": 0.4, "nose/nose-base": 0.35, "nose/nose-curve": 0.4,
    "nose/nose-flaring": 0.4, "nose/nose-greek": 0.35, "nose/nose-hump": 0.35,
    "nose/nose-nostrils-angle": 0.35, "nose/nose-nostrils-width": 0.35, "nose/nose-point": 0.3,
    "nose/nose-point-width": 0.4, "nose/nose-scale-depth": 0.3, "nose/nose-scale-horiz": 0.35,
    "nose/nose-scale-vert": 0.3, "nose/nose-septumangle": 0.3, "nose/nose-volume": 0.3,
    "nose/nose-width1": 0.4, "nose/nose-width2": 0.4, "nose/nose-width3": 0.35, "nose/nose-trans": 0.2,
    "mouth/mouth-angles": 0.3, "mouth/mouth-cupidsbow": 0.4, "mouth/mouth-cupidsbow-width": 0.4,
    "mouth/mouth-lowerlip-height": 0.35, "mouth/mouth-lowerlip-volume": 0.4,
    "mouth/mouth-upperlip-height": 0.35, "mouth/mouth-upperlip-volume": 0.4,
    "mouth/mouth-philtrum-volume": 0.4, "mouth/mouth-scale-horiz": 0.3, "mouth/mouth-scale-vert": 0.2,
    "mouth/mouth-trans": 0.2, "mouth/mouth-laugh-lines": 0.35, "mouth/mouth-dimples": 0.4,
    "eyes/eye-bag": 0.3, "eyes/eye-bag-height": 0.25, "eyes/eye-corner1": 0.35, "eyes/eye-corner2": 0.35,
    "eyes/eye-eyefold-angle": 0.35, "eyes/eye-eyefold": 0.35, "eyes/eye-height1": 0.25,
    "eyes/eye-height2": 0.25, "eyes/eye-height3": 0.25, "eyes/eye-push1": 0.25, "eyes/eye-push2": 0.25,
    "eyes/eye-scale": 0.25, "eyes/eye-trans": 0.15, "cheek/cheek-bones": 0.35, "cheek/cheek-inner": 0.35,
    "cheek/cheek-trans": 0.3, "cheek/cheek-volume": 0.35, "ears/ear-flap": 0.3, "ears/ear-lobe": 0.4,
    "ears/ear-scale": 0.35, "ears/ear-wing": 0.4, "ears/ear-rot": 0.3, "forehead/forehead-nubian": 0.12,
    "forehead/forehead-scale-vert": 0.15, "forehead/forehead-temple": 0.3, "forehead/forehead-trans": 0.2,
    "eyebrows/eyebrows-angle": 0.3, "eyebrows/eyebrows-trans": 0.3, "neck/neck-scale-horiz": 0.3,
    "neck/neck-scale-depth": 0.3, "neck/neck-double": 0.25,
}  # fmt: skip
_OPPOSITES = (("decr", "incr"), ("down", "up"), ("backward", "forward"), ("in", "out"), ("concave", "convex"))
_HEAD_SHAPES = ("diamond", "invertedtriangular", "oval", "rectangular", "round", "square", "triangular")
_LARGEST, _SPREAD = 0.7, 0.75  # bound of a local amount, and a common factor of the standard deviations


@dataclass(frozen=True, kw_only=True)
class Skin:
    """Colours are linear RGB; `moles` is a count; the other values are amounts in [0, 1]."""

    tone: Colour
    depth: float
    redness: float
    freckles: float
    pores: float
    moles: int
    lips: Colour
    lipstick: float
    shadow: float
    gloss: float


@dataclass(frozen=True, kw_only=True)
class Hair:
    """Hair, beard and brows; colours are linear RGB, and numbers are amounts in [0, 1] unless noted.

    Attributes:
        style: one of HAIR_STYLES.
        parting: -1 (left in the image) to 1.
        hairline: 0 (low) to 1 (receding).
        beard: one of BEARDS.
    """

    style: str
    colour: Colour
    length: float
    volume: float
    wave: float
    parting: float
    hairline: float
    beard: str
    beard_colour: Colour
    beard_density: float
    brow_weight: float
    brow_arch: float
    brow_colour: Colour


@dataclass(frozen=True, kw_only=True)
class Outfit:
    """Clothes and glasses.

    Attributes:
        garment, pattern: one of GARMENTS and one of PATTERNS.
        colour, second: colours of the garment, linear RGB.
        scale: factor of the pattern's size; it also selects variants of the neckline.
        glasses: shape of the rims, 0 (round) to 1 (rectangular), or None.
        rim, rim_width: colour and thickness (0.1 m) of the rims.
    """

    garment: str
    pattern: str
    colour: Colour
    second: Colour
    scale: float
    glasses: float | None
    rim: Colour
    rim_width: float


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Lights and backdrop; colours are linear RGB.

    Attributes:
        lights: a row (direction to the light, colour) of six numbers for each light.
        sky, bounce: ambient light from above and from below.
        backdrop: one of BACKDROPS.
        palette: three colours of the backdrop.
    """

    lights: tuple[tuple[float, ...], ...]
    sky: Colour
    bounce: Colour
    backdrop: str
    palette: tuple[Colour, Colour, Colour]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One person.

    Attributes:
        seed: number of the person.
        sex: FEMALE or MALE.
        age: 0 (young adult) to 1 (old).
        ancestry: shares of ANCESTRIES, which sum to 1.
        morphs: (name in the head asset, amount) of all morphs in use.
        size: factor of the head's size.
        iris: colour, linear RGB.
        iris_size, pupil: angular radii on the eyeball in radians.
    """

    seed: int
    sex: int
    age: float
    ancestry: tuple[float, float, float]
    morphs: tuple[tuple[str, float], ...]
    size: float
    skin: Skin
    iris: Colour
    iris_size: float
    pupil: float
    hair: Hair
    outfit: Outfit
    environment: Environment


def linear(srgb: tuple[float, ...]) -> Colour:
    """Convert sRGB in [0, 255] to linear RGB in [0, 1], by a power of 2.2 as in the renderer's output."""
    red, green, blue = ((max(0.0, min(255.0, value)) / 255) ** 2.2 for value in srgb[:3])
    return red, green, blue


def identity(seed: int) -> Identity:
    """Return the person of a seed. Raises ValueError for a negative seed."""
    if seed < 0:
        raise ValueError(f"seeds of identities start at 0, got {seed}")
    rng = _stream(seed, 0)
    sex = int(rng.integers(2))
    age = float(np.clip(rng.beta(1.1, 1.7), 0, 1))
    ancestry = _ancestry(rng)
    skin = _skin(_stream(seed, 2), sex, age, ancestry)
    eyes = _stream(seed, 3)
    fair = max(0.0, ancestry[2] * 1.3 - 0.25)
    shade = int(eyes.integers(2, len(_EYE_COLOURS))) if eyes.random() < fair else int(eyes.integers(0, 2))
    return Identity(
        seed=seed,
        sex=sex,
        age=age,
        ancestry=ancestry,
        morphs=_shape(_stream(seed, 1), sex, age, ancestry),
        size=float(_stream(seed, 9).uniform(0.96, 1.04)),
        skin=skin,
        iris=linear(tuple(value * eyes.uniform(0.8, 1.2) for value in _EYE_COLOURS[shade])),
        iris_size=float(eyes.uniform(0.46, 0.53)),
        pupil=float(eyes.uniform(0.14, 0.24)),
        hair=_hair(_stream(seed, 4), sex, age, ancestry, skin),
        outfit=_outfit(_stream(seed, 5)),
        environment=_environment(_stream(seed, 6)),
    )


def _stream(seed: int, aspect: int) -> np.random.Generator:
    """Return the random generator of one aspect of a person."""
    return np.random.default_rng([seed, aspect, 0x9077E7])


def _ancestry(rng: np.random.Generator) -> tuple[float, float, float]:
    shares = rng.dirichlet((0.35, 0.35, 0.35))
    return float(shares[0]), float(shares[1]), float(shares[2])


def _shape(
    rng: np.random.Generator, sex: int, age: float, ancestry: tuple[float, float, float]
) -> tuple[tuple[str, float], ...]:
    """Draw (morph, amount) pairs: macro morphs, whose amounts sum to 1, local morphs, and some asymmetry."""
    known = set(load_head().morphs.names)
    blend = float(np.clip(rng.normal(sex, 0.13), 0, 1)), age
    morphs: list[tuple[str, float]] = []
    weight = float(rng.normal(0.0, 0.5))
    for s, sex_name in enumerate(SEXES):
        for g, age_name in enumerate(AGES):
            share = (blend[0] if s else 1 - blend[0]) * (blend[1] if g else 1 - blend[1])
            morphs += [
                (f"macro/{name}-{sex_name}-{age_name}", share * ancestry[a])
                for a, name in enumerate(ANCESTRIES)
            ]
            extreme = "maxweight" if weight > 0 else "minweight"
            morphs.append(
                (
                    f"macro/universal-{sex_name}-{age_name}-averagemuscle-{extreme}",
                    share * min(1.0, abs(weight)),
                )
            )
    for stem, spread in _LOCAL_PAIRS.items():
        amount = float(np.clip(rng.normal(0, _SPREAD * spread), -_LARGEST, _LARGEST))
        for low, high in _OPPOSITES:
            name = f"{stem}-{high if amount > 0 else low}"
            if name in known:
                morphs.append((name, abs(amount)))
                break
    morphs.append((f"head/head-{_HEAD_SHAPES[rng.integers(len(_HEAD_SHAPES))]}", float(rng.uniform(0, 0.6))))
    morphs.append(("head/head-age-incr", age * float(rng.uniform(0.2, 0.9))))
    asymmetric = sorted(name for name in known if name.startswith("asym/asym-"))
    morphs += [
        (asymmetric[k], float(rng.uniform(0.1, 0.4))) for k in rng.choice(len(asymmetric), 6, replace=False)
    ]
    return tuple((name, amount) for name, amount in morphs if name in known and amount > 0.003)


def _skin(rng: np.random.Generator, sex: int, age: float, ancestry: tuple[float, float, float]) -> Skin:
    """Draw the skin; tone and depth depend on the ancestry."""
    usual = 5.4 * ancestry[0] + 1.9 * ancestry[1] + 0.7 * ancestry[2]
    depth = float(np.clip(rng.normal(usual, 0.7), 0, len(_SKIN_TONES) - 1.001))
    lower, share = int(depth), depth - int(depth)
    tone = np.array(_SKIN_TONES[lower]) * (1 - share) + np.array(_SKIN_TONES[lower + 1]) * share
    tone = tone * rng.uniform(0.96, 1.03) + np.array([1.0, 0.0, -1.0]) * rng.normal(0, 3)
    fairness = 1 - depth / 7
    lips = tone * np.array([0.86, 0.62, 0.62]) + np.array([12, 0, 4]) * fairness
    lipstick = float(rng.uniform(0.4, 0.9)) if sex == FEMALE and rng.random() < 0.35 else 0.0
    if lipstick:
        paint = np.array([(150, 30, 45), (178, 62, 72), (140, 50, 80), (196, 96, 96)][rng.integers(4)])
        lips = lips * (1 - lipstick) + paint * lipstick
    return Skin(
        tone=linear(tuple(tone)),
        depth=depth / 7,
        redness=float(rng.uniform(0.3, 1.0)),
        freckles=float(rng.uniform(0.3, 1.0)) * (rng.random() < 0.35 * fairness),
        pores=float(rng.uniform(0.4, 1.0)),
        moles=int(rng.integers(0, 5)),
        lips=linear(tuple(lips)),
        lipstick=lipstick,
        shadow=float(rng.uniform(0.2, 0.7)) * (sex == FEMALE and rng.random() < 0.35),
        gloss=float(rng.uniform(0.05, 0.14)) * (1 + 0.8 * depth / 7),
    )


def _hair_colour(rng: np.random.Generator, age: float, ancestry: tuple[float, float, float]) -> np.ndarray:
    """Draw an sRGB colour (3,), greyer with age."""
    fair = ancestry[2] > 0.55
    names = list(_HAIR_COLOURS)
    odds = (
        [0.10, 0.24, 0.24, 0.07, 0.07, 0.14, 0.14, 0, 0] if fair else [0.62, 0.28, 0.08, 0.02, 0, 0, 0, 0, 0]
    )
    colour = np.array(_HAIR_COLOURS[names[rng.choice(len(names), p=odds)]], float) * rng.uniform(0.85, 1.15)
    grey = float(np.clip((age - 0.45) * 2.2 + rng.normal(0, 0.2), 0, 1))
    target = np.array(_HAIR_COLOURS["white" if age > 0.8 else "grey"])
    return colour * (1 - grey) + target * grey


def _hair(
    rng: np.random.Generator, sex: int, age: float, ancestry: tuple[float, float, float], skin: Skin
) -> Hair:
    odds = (
        [0.11, 0.13, 0.22, 0.17, 0.10, 0.15, 0.04, 0.02, 0.04, 0.02]
        if sex == MALE
        else [0.01, 0.03, 0.06, 0.09, 0.08, 0.09, 0.05, 0.22, 0.25, 0.12]
    )
    style = HAIR_STYLES[rng.choice(len(HAIR_STYLES), p=odds)]
    if ancestry[0] > 0.5 and style in ("swept", "fringe", "side") and rng.random() < 0.7:
        style = "afro" if rng.random() < 0.6 else "buzz"
    colour = _hair_colour(rng, age, ancestry)
    beards = [0.42, 0.24, 0.07, 0.11, 0.16] if sex == MALE else [1.0, 0, 0, 0, 0]
    beard = BEARDS[rng.choice(len(BEARDS), p=beards)]
    brow = colour * (0.8 if colour.mean() > 90 else 0.9)
    return Hair(
        style=style,
        colour=linear(tuple(colour)),
        length=float(rng.uniform(0, 1)),
        volume=float(rng.uniform(0, 1)),
        wave=float(np.clip(rng.normal(0.25 + 0.5 * ancestry[0], 0.25), 0, 1)),
        parting=float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.7)),
        hairline=float(np.clip(rng.beta(1.3, 2.5) * (0.5 + age) * (1.0 if sex == MALE else 0.4), 0, 1)),
        beard=beard,
        beard_colour=linear(tuple(colour * rng.uniform(0.75, 1.05))),
        beard_density=float(rng.uniform(0.5, 1.0)),
        brow_weight=float(np.clip(rng.normal(0.65 if sex == MALE else 0.45, 0.17), 0.15, 1)),
        brow_arch=float(np.clip(rng.normal(0.3 if sex == MALE else 0.6, 0.22), 0, 1)),
        brow_colour=linear(tuple(brow)),
    )


def _outfit(rng: np.random.Generator) -> Outfit:
    garment = GARMENTS[rng.choice(len(GARMENTS), p=[0.32, 0.25, 0.2, 0.1, 0.13])]
    pattern = {"jumper": "knit", "jacket": "plain"}.get(garment) or PATTERNS[
        rng.choice(5, p=[0.5, 0.16, 0.14, 0.02, 0.18])
    ]
    colour, second = _cloth_colour(rng), _cloth_colour(rng)
    metal = rng.random() < 0.4
    rim = (
        rng.uniform(90, 190) * np.array([1.0, 0.95, 0.85])
        if metal
        else rng.uniform(10, 60) * np.array([1.2, 1.0, 0.9])
    )
    return Outfit(
        garment=garment,
        pattern=pattern,
        colour=linear(colour),
        second=linear(second),
        scale=float(rng.uniform(0.6, 1.6)),
        glasses=float(rng.uniform(0, 1)) if rng.random() < 0.22 else None,
        rim=linear(tuple(rim)),
        rim_width=float(rng.uniform(0.016, 0.024) if metal else rng.uniform(0.03, 0.05)),
    )


def _cloth_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the sRGB colour of a fabric: muted hues, dark tones and off-whites."""
    hue, saturation = rng.uniform(0, 6), rng.beta(1.2, 2.6) * 0.62
    value = rng.choice([rng.uniform(25, 80), rng.uniform(80, 170), rng.uniform(180, 240)])
    channels = [
        value * (1 - saturation * float(np.clip(1.5 - abs((hue - 2 * k) % 6 - 3), 0, 1))) for k in range(3)
    ]
    return channels[0], channels[1], channels[2]


def _environment(rng: np.random.Generator) -> Environment:
    side = float(rng.choice([-1, 1]))
    warm = float(rng.normal(0, 1))
    white = np.array([1 + 0.06 * warm, 1.0, 1 - 0.08 * warm])
    cool = np.array([1 - 0.05 * warm, 1.0, 1 + 0.08 * warm])
    key = _light(side * rng.uniform(0.25, 1.0), rng.uniform(0.25, 0.75), white * rng.uniform(0.70, 0.92))
    fill = _light(-side * rng.uniform(0.6, 1.1), rng.uniform(-0.1, 0.3), cool * rng.uniform(0.10, 0.26))
    rim = _light(-side * rng.uniform(2.2, 2.7), rng.uniform(0.2, 0.6), cool * rng.uniform(0.1, 0.7))
    level = rng.uniform(0.16, 0.28)
    palette = tuple(linear(_cloth_colour(rng)) for _ in range(3))
    return Environment(
        lights=(key, fill, rim),
        sky=_colour(cool * level),
        bounce=_colour(white * level * rng.uniform(0.35, 0.7)),
        backdrop=BACKDROPS[rng.integers(len(BACKDROPS))],
        palette=(palette[0], palette[1], palette[2]),
    )


def _light(azimuth: float, height: float, colour: np.ndarray) -> tuple[float, ...]:
    """Return a row of `Environment.lights`.

    azimuth: radians from the camera towards the right of the image. height: radians above the horizon.
    """
    direction = np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)
    return tuple(float(value) for value in (*direction, *colour))


def _colour(values: np.ndarray) -> Colour:
    return float(values[0]), float(values[1]), float(values[2])
