"""Rendered faces: reproducible, different for each person, and moved by each motion value as documented."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numba", reason="the extra 'data' is not installed")

from puppet import samples, skin
from puppet.chart import Chart
from puppet.face import BEARDS, HAIR_STYLES, identity
from puppet.motion import MOTION
from puppet.render import Renderer
from puppet.rig import pose_of
from puppet.scene import load_units, shape_head
from puppet.sheet import pose, tile

SIZE = 96
RECORDED_COLOURS = (
    (143.1, 165.6, 191.1), (162.5, 175.3, 193.6), (172.6, 186.2, 204.0), (165.7, 191.7, 220.0),
    (151.6, 165.7, 186.6), (180.6, 145.2, 125.6), (208.8, 175.0, 153.1), (170.1, 187.4, 208.5),
    (122.8, 104.9, 101.7), (161.9, 122.4, 101.7), (186.5, 138.9, 114.9), (128.1, 108.9, 105.1),
    (83.2, 75.2, 67.8), (107.9, 86.0, 68.8), (113.0, 89.2, 71.0), (86.8, 78.2, 70.7),
)  # fmt: skip


RECORDED_QUARTERS = (
    (190.90, 173.25, 178.30), (151.12, 134.89, 138.63), (146.65, 124.45, 128.48), (127.53, 106.35, 109.54),
    (123.56, 110.87, 98.29), (89.26, 86.61, 82.70), (111.89, 105.33, 99.89), (104.33, 96.38, 91.16),
    (87.67, 72.78, 75.44), (90.86, 77.05, 78.66), (104.14, 84.72, 83.31), (111.92, 92.21, 90.04),
)  # fmt: skip
RECORDED_STYLES = [
    "long",
    "afro",
    "afro",
    "afro",
    "bun",
    "fringe",
    "swept",
    "side",
    "side",
    "afro",
    "side",
    "bob",
]
RECORDED_SUMS = [14.5074891, 681.747227, 9.48570263, 57.988878, 34.4945256, 255.730971]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(identity(114), SIZE)


def mouth(renderer: Renderer, **values: float) -> np.ndarray:
    """The pixels in the mouth box of the neutral face, as floats."""
    x0, y0, x1, y1 = renderer.mouth_box(pose({}))
    return renderer.frames(pose(values)[None])[0, y0:y1, x0:x1].astype(float)


@pytest.mark.long
def test_identities_of_different_seeds_differ() -> None:
    people = [identity(seed) for seed in range(0, 10_000, 25)]
    assert len({repr(asdict(person.hair)) + repr(person.skin.tone) for person in people}) == len(people)
    assert {person.hair.style for person in people} == set(HAIR_STYLES)
    assert {person.hair.beard for person in people} == set(BEARDS)
    assert identity(9_999) == identity(9_999) != identity(10_000)


def test_frames_are_equal_in_any_order_and_thread(renderer: Renderer) -> None:
    motion = np.random.default_rng(0).uniform(-0.2, 0.6, (3, len(MOTION))).astype(np.float32)
    first = renderer.frames(motion)
    assert np.array_equal(
        first[::-1], renderer.frames(motion[::-1])
    )  # a frame does not depend on the previous one
    with ThreadPoolExecutor(2) as pool:
        others = list(pool.map(lambda _: Renderer(identity(114), SIZE).frames(motion), range(2)))
    assert all(np.array_equal(first, other) for other in others)


def test_recorded_picture_is_reproduced(renderer: Renderer) -> None:
    """Mean colours of 24 x 24 pixels; they must not change, or recorded data sets change."""
    frame = renderer.frames(pose({"yaw": 0.2, "pitch": 0.1, "jaw": 0.5, "smile": 0.5})[None])[0]
    means = frame.reshape(4, 24, 4, 24, 3).mean((1, 3)).reshape(16, 3)
    assert means == pytest.approx(np.array(RECORDED_COLOURS), abs=0.1)


def test_pictures_of_different_people_differ_and_are_reproduced() -> None:
    """The recorded values are the mean colours of the four quarters of neutral frames."""
    neutral = np.zeros((1, len(MOTION)), np.float32)
    frames = [Renderer(identity(seed), 64).frames(neutral)[0].astype(float) for seed in range(3)]
    for first, second in combinations(frames, 2):
        assert np.abs(first - second).mean() > 8
    means = np.stack(frames).reshape(3, 2, 32, 2, 32, 3).mean((2, 4)).reshape(12, 3)
    assert means == pytest.approx(np.array(RECORDED_QUARTERS), abs=0.1)


def test_recorded_identities_are_reproduced() -> None:
    people = [identity(seed) for seed in range(40)]
    assert [person.hair.style for person in people[:12]] == RECORDED_STYLES
    sums = [
        sum(person.age for person in people),
        sum(amount for person in people for _, amount in person.morphs),
        sum(sum(person.iris) for person in people),
        sum(sum(person.skin.tone) + sum(person.hair.colour) for person in people),
        sum(sum(person.outfit.colour) + person.outfit.rim_width for person in people),
        sum(sum(person.environment.sky) + sum(map(sum, person.environment.lights)) for person in people),
    ]
    assert sums == pytest.approx(RECORDED_SUMS, rel=1e-6)


@pytest.mark.parametrize("name", MOTION)
def test_every_motion_value_changes_the_picture(renderer: Renderer, name: str) -> None:
    amount = 0.15 if name in ("shift_x", "shift_y", "scale") else 0.4
    visible = {"tongue": {"jaw": 0.5}, "closure": {"jaw": 0.5}}.get(name, {})
    before, after = renderer.frames(np.stack([pose(visible), pose({**visible, name: amount})]))
    assert np.abs(before.astype(float) - after).max() > 20


def test_head_moves_in_the_documented_directions(renderer: Renderer) -> None:
    def mouth_centre(**values: float) -> np.ndarray:
        x0, y0, x1, y1 = renderer.mouth_box(pose(values))
        return np.array([(x0 + x1) / 2, (y0 + y1) / 2])

    neutral = mouth_centre()
    assert mouth_centre(yaw=0.4)[0] > neutral[0] + 3
    assert mouth_centre(shift_x=0.1)[0] > neutral[0] + 2
    assert mouth_centre(shift_y=0.1)[1] < neutral[1] - 2
    assert mouth_centre(pitch=0.3)[1] < neutral[1] - 1
    assert mouth_centre(roll=0.4)[0] > neutral[0] + 2


def lip_gap(seed: int, **values: float) -> float:
    """Vertical distance in 0.1 m between the middles of the inner lips, which touch in the neutral face."""
    points = shape_head(identity(seed))
    units, weights = load_units(), pose_of(pose(values)).weights
    upper, lower = 474, 493
    weight = np.repeat(weights, np.diff(units.starts)) * units.deltas[:, 1]
    change = weight[units.vertices == upper].sum() - weight[units.vertices == lower].sum()
    return float(points[upper, 1] - points[lower, 1] + change)


@pytest.mark.parametrize("seed", [0, 3, 114])
def test_closure_closes_the_lips_at_any_jaw_opening(seed: int) -> None:
    rest = lip_gap(seed)
    assert lip_gap(seed, jaw=0.5) > rest + 0.08
    for jaw in (0.3, 0.6, 1.0):
        assert lip_gap(seed, jaw=jaw, closure=1.0) < rest + 0.02


@pytest.mark.parametrize("values", [(0.3, 0.2, 0.4), (-0.5, 0.1, -0.2)])
def test_head_rotation_is_rigid(values: tuple[float, float, float]) -> None:
    rotation = pose_of(pose(dict(zip(("yaw", "pitch", "roll"), values, strict=True)))).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_closure_reduces_the_visible_effect_of_the_jaw(renderer: Renderer) -> None:
    opened = np.abs(mouth(renderer, jaw=0.5) - mouth(renderer)).mean()
    pressed = np.abs(mouth(renderer, jaw=0.5, closure=1.0) - mouth(renderer, closure=1.0)).mean()
    assert pressed < 0.6 * opened


def test_mouth_box_scales_with_the_picture(renderer: Renderer) -> None:
    motion = pose({"yaw": 0.2})
    small = np.array(Renderer(identity(114), SIZE // 2).mouth_box(motion))
    assert np.abs(2 * small - np.array(renderer.mouth_box(motion))).max() <= 2


def test_flow_warps_one_frame_to_the_other(renderer: Renderer) -> None:
    import torch

    a, b = pose({"yaw": -0.1, "jaw": 0.1}), pose({"yaw": 0.15, "shift_x": 0.05, "jaw": 0.4})
    grid, visible = renderer.flow(a, b)
    frame_a, frame_b = torch.from_numpy(renderer.frames(np.stack([a, b]))).float()
    warped = torch.nn.functional.grid_sample(
        frame_a.permute(2, 0, 1)[None], torch.from_numpy(grid)[None], align_corners=False
    )
    error = (warped[0].permute(1, 2, 0) - frame_b).abs().mean(-1)
    difference = (frame_a - frame_b).abs().mean(-1)
    moved = torch.from_numpy(visible) > 0
    moved &= torch.from_numpy(np.abs(grid - renderer.flow(b, b)[0]).max(-1) > 0.02)
    assert error[moved].mean() < 0.5 * difference[moved].mean()
    identity_grid, visible = renderer.flow(b, b, size=SIZE // 2)
    assert identity_grid.shape == (SIZE // 2, SIZE // 2, 2)
    assert visible.mean() > 0.98


def test_invalid_seed_shape_and_size_are_errors(renderer: Renderer) -> None:
    with pytest.raises(ValueError, match="start at 0"):
        identity(-1)
    with pytest.raises(ValueError, match=r"motion\[None\]"):
        renderer.frames(np.zeros(len(MOTION), np.float32))
    with pytest.raises(ValueError, match="24 values"):
        pose_of(np.zeros(23, np.float32))
    with pytest.raises(ValueError, match="at least 32 pixels"):
        Renderer(identity(0), 16)


def test_pictures_of_a_sheet_stand_row_by_row() -> None:
    sheet = tile([np.full((2, 2, 3), value, np.uint8) for value in (1, 2, 3)], 2)
    assert sheet[::2, ::2, 0].tolist() == [[1, 2], [3, 0]]


def test_shipped_people_have_the_face_and_the_voice_of_their_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces: list[int] = []
    spoken: list[int] = []
    plain = SimpleNamespace(frames=lambda motion: np.full((1, 8, 8, 3), 7, np.uint8))
    silence = SimpleNamespace(pcm=np.zeros(240, np.float32))
    monkeypatch.setattr(samples, "Renderer", lambda person: faces.append(person.seed) or plain)
    monkeypatch.setattr(samples, "speak", lambda _, speaker: spoken.append(speaker.seed) or silence)
    samples.main(tmp_path)
    assert list(zip(faces, spoken, strict=True)) == list(samples.PEOPLE.values())
    assert sorted(path.stem for path in tmp_path.rglob("*.*")) == sorted([*samples.PEOPLE, *samples.PEOPLE])


def test_no_mole_is_on_the_lips() -> None:
    x, y = np.meshgrid(np.linspace(-0.7, 0.7, 71), np.linspace(-2.1, 0.6, 136))
    plane = np.zeros(x.shape, np.float32)
    chart = Chart(np.stack([x, y, plane], axis=-1).astype(np.float32), plane, plane, plane, plane)
    seen = np.ones((*x.shape, 3), np.float32)
    person = identity(3)
    skin._paint_moles(seen, chart, replace(person, skin=replace(person.skin, moles=500)))
    lips = (np.abs(x) < 0.25) & (y > -0.85) & (y < -0.55)
    assert (seen[lips] == 1).all()
    assert (seen < 1).any(2).mean() > 0.05
