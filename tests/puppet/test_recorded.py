"""Recorded values of people, pictures and motion: they must not change, or recorded data sets change.

Each array is recorded as one number, see `digest`. After a deliberate change, write the new values by
`PYTHONPATH=.:tests python tests/puppet/test_recorded.py`.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digests import digest

pytest.importorskip("numba", reason="the extra 'data' is not installed")

from puppet.backdrop import paint_backdrop
from puppet.clothes import covered, dress, glasses, paint_cloth
from puppet.face import identity
from puppet.hair import grow_hair
from puppet.motion import MOTION, animate
from puppet.render import Renderer
from puppet.rig import pose_of
from puppet.scene import Part, drawn_lashes, head_part, shape_head
from puppet.sheet import EXPRESSIONS, pose
from puppet.skin import paint_skin
from puppet.speech import PAUSE, Phoneme, Speech
from talker.clock import SAMPLE_RATE

RECORDED = Path(__file__).with_name("recorded.json")
PEOPLE = (0, 195, 51, 7, 60, 5, 319, 9, 4, 6)
"""Together they have every hair style, beard, garment, pattern and backdrop, with and without glasses."""

SYMBOLS = (*"pfθtlsʃkhwɹjiɪɛæɑʌəɜɔʊubvðdnɾzʒɡŋʔmɐɚ", "eɪ", "aɪ", "aʊ", "ɔɪ", "oʊ", "tʃ", "dʒ")


def flat(value: Any) -> Iterator[float]:
    """All numbers of nested tuples, in order; a string is one number."""
    if isinstance(value, tuple):
        for each in value:
            yield from flat(each)
    elif isinstance(value, str):
        yield float(zlib.crc32(value.encode()) % 1000)
    else:
        yield -1.0 if value is None else float(value)


def digests(parts: list[Part]) -> list[float]:
    """The sums of the digests of the fields of `parts`, field by field."""
    return [sum(digest(getattr(part, field.name)) for part in parts) for field in fields(Part)]


def speech() -> Speech:
    """Every phoneme once with each stress and length, between pauses, at a loudness that rises and falls."""
    rng = np.random.default_rng(0)
    phonemes, time = [], 0.0
    for k, symbol in enumerate([PAUSE, *SYMBOLS, PAUSE, *SYMBOLS[::-1], *SYMBOLS[::2], PAUSE]):
        end = time + float(rng.uniform(0.04, 0.25))
        phonemes.append(Phoneme(symbol, time, end, 0 if symbol == PAUSE else k % 3))
        time = end
    times = np.arange(int(time * SAMPLE_RATE)) / SAMPLE_RATE
    pcm = 0.2 * np.sin(700 * times) * (0.5 + 0.5 * np.sin(3 * times)) + 0.02 * rng.standard_normal(len(times))
    return Speech(pcm.astype(np.float32), phonemes)


def people() -> dict[str, list[float]]:
    return {str(seed): [digest(list(flat(astuple(identity(seed)))))] for seed in range(120)}


def parts() -> dict[str, list[float]]:
    found = {}
    for seed in PEOPLE:
        person = identity(seed)
        points = shape_head(person)
        drawn = digest(covered(person)), digest(drawn_lashes(person))
        paints = [paint_skin(person, 256), paint_cloth(person, 320), paint_backdrop(person, 48)]
        found[f"{seed} paint"] = [*drawn, *map(digest, paints)]
        found[f"{seed} head"] = digests([head_part(person, points)])
        for made in (dress, glasses, grow_hair):
            found[f"{seed} {made.__name__}"] = digests(made(person, points))
    return found


def motions() -> dict[str, list[float]]:
    found = {str(seed): animate(speech(), np.random.default_rng(seed)) for seed in range(6)}
    return {seed: [digest(column) for column in motion.T] for seed, motion in found.items()}


def poses() -> dict[str, list[float]]:
    rng = np.random.default_rng(0)
    motions = [*rng.uniform(-1.2, 1.2, (12, len(MOTION))).astype(np.float32)]
    return {str(k): [digest(list(flat_pose(motion)))] for k, motion in enumerate(motions)}


def flat_pose(motion: np.ndarray) -> Iterator[float]:
    made = pose_of(motion)
    for field in fields(made):
        yield from np.asarray(getattr(made, field.name)).reshape(-1)


def pictures() -> dict[str, list[float]]:
    moved = np.random.default_rng(1).uniform(-0.15, 0.4, (3, len(MOTION))).astype(np.float32)
    motion = np.concatenate([np.stack([pose(each) for each in EXPRESSIONS[::3]]), moved])
    found = {}
    for seed in (0, 319, 9):
        renderer = Renderer(identity(seed), 64)
        frames = renderer.frames(motion)
        found[str(seed)] = [digest(band) for frame in frames for band in np.split(frame, 4)]
        grid, visible = renderer.flow(motion[0], motion[-1])
        found[f"{seed} flow"] = [100 * digest(grid), 100 * digest(visible), *renderer.mouth_box(motion[-1])]
    return found


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        (people, {"rel": 1e-9}),
        (parts, {"rel": 1e-5, "abs": 1e-8}),
        (motions, {"rel": 1e-5, "abs": 1e-8}),
        (poses, {"rel": 1e-6}),
        (pictures, {"abs": 0.02}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_recorded_values_are_reproduced(values: Any, tolerance: dict[str, float]) -> None:
    recorded = json.loads(RECORDED.read_text())[values.__name__]
    found = values()
    assert found.keys() == recorded.keys()
    wrong = [key for key in found if found[key] != pytest.approx(recorded[key], **tolerance)]
    assert not wrong


def test_other_people_have_other_pictures() -> None:
    recorded = json.loads(RECORDED.read_text())["people"]
    assert len({tuple(values) for values in recorded.values()}) == len(recorded)


if __name__ == "__main__":
    made = {values.__name__: values() for values in (people, parts, motions, poses, pictures)}
    RECORDED.write_text(json.dumps(made, indent=1) + "\n")
    sys.exit()
