"""Laws of the puppets' faces: the same person every time, different people, and motion that does what it
says.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest

pytest.importorskip("numba", reason="the renderer needs the `data` extra")

from puppet.face import BEARDS, HAIR_STYLES, identity
from puppet.motion import MOTION
from puppet.render import Renderer
from puppet.rig import pose_of
from puppet.scene import load_units, shape_head
from puppet.sheet import pose

SIZE = 96


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(identity(114), SIZE)


def mouth(renderer: Renderer, **values: float) -> np.ndarray:
    """The mouth's pixels, cut out at the neutral mouth's place, as floats."""
    x0, y0, x1, y1 = renderer.mouth_box(pose({}))
    return renderer.frames(pose(values)[None])[0, y0:y1, x0:x1].astype(float)


@pytest.mark.long
def test_ten_thousand_seeds_are_ten_thousand_people() -> None:
    people = [identity(seed) for seed in range(0, 10_000, 25)]
    assert len({repr(asdict(who.hair)) + repr(who.skin.tone) for who in people}) == len(people)
    assert {who.hair.style for who in people} == set(HAIR_STYLES)
    assert {who.hair.beard for who in people} == set(BEARDS)
    assert identity(9_999) == identity(9_999) != identity(10_000)


def test_same_bytes_again_and_from_any_thread(renderer: Renderer) -> None:
    motion = np.random.default_rng(0).uniform(-0.2, 0.6, (3, len(MOTION))).astype(np.float32)
    first = renderer.frames(motion)
    assert np.array_equal(first[::-1], renderer.frames(motion[::-1]))  # no memory from frame to frame
    with ThreadPoolExecutor(2) as pool:
        others = list(pool.map(lambda _: Renderer(identity(114), SIZE).frames(motion), range(2)))
    assert all(np.array_equal(first, other) for other in others)


def test_people_differ() -> None:
    neutral = np.zeros((1, len(MOTION)), np.float32)
    pictures = [Renderer(identity(seed), 64).frames(neutral).astype(float) for seed in range(4)]
    for i in range(4):
        for j in range(i):
            assert np.abs(pictures[i] - pictures[j]).mean() > 8


@pytest.mark.parametrize("name", MOTION)
def test_every_value_moves_something_and_only_inside_the_picture(renderer: Renderer, name: str) -> None:
    amount = 0.15 if name in ("shift_x", "shift_y", "scale") else 0.4
    helped = {"tongue": {"jaw": 0.5}, "closure": {"jaw": 0.5}}.get(name, {})
    before, after = renderer.frames(np.stack([pose(helped), pose({**helped, name: amount})]))
    assert np.abs(before.astype(float) - after).max() > 20


def test_head_turns_and_shifts_the_way_the_names_say(renderer: Renderer) -> None:
    def middle(**values: float) -> np.ndarray:
        x0, y0, x1, y1 = renderer.mouth_box(pose(values))
        return np.array([(x0 + x1) / 2, (y0 + y1) / 2])

    still = middle()
    assert middle(yaw=0.4)[0] > still[0] + 3
    assert middle(shift_x=0.1)[0] > still[0] + 2
    assert middle(shift_y=0.1)[1] < still[1] - 2
    assert middle(pitch=0.3)[1] < still[1] - 1


def lip_gap(seed: int, **values: float) -> float:
    """Distance in 0.1 m between the inner lips' middles, which touch in the neutral face."""
    points = shape_head(identity(seed))
    units, weights = load_units(), pose_of(pose(values)).weights
    upper, lower = 474, 493
    gap = points[upper] - points[lower]
    for unit, weight in enumerate(weights):
        for k in range(units.starts[unit], units.starts[unit + 1]):
            sign = int(units.vertices[k] == upper) - int(units.vertices[k] == lower)
            gap = gap + sign * weight * units.deltas[k]
    return float(gap[1])


@pytest.mark.parametrize("seed", [0, 3, 114])
def test_pressed_lips_win_over_the_jaw(renderer: Renderer, seed: int) -> None:
    rest = lip_gap(seed)
    assert lip_gap(seed, jaw=0.5) > rest + 0.08
    for jaw in (0.3, 0.6, 1.0):
        assert lip_gap(seed, jaw=jaw, closure=1.0) < rest + 0.02
    opened = np.abs(mouth(renderer, jaw=0.5) - mouth(renderer)).mean()
    pressed = np.abs(mouth(renderer, jaw=0.5, closure=1.0) - mouth(renderer, closure=1.0)).mean()
    assert pressed < 0.6 * opened


def test_mouth_box_scales_with_the_picture() -> None:
    small, large = (np.array(Renderer(identity(3), size).mouth_box(pose({"yaw": 0.2}))) for size in (64, 128))
    assert np.abs(2 * small - large).max() <= 2


def test_flow_brings_one_frame_to_the_other(renderer: Renderer) -> None:
    import torch

    a, b = pose({"yaw": -0.1, "jaw": 0.1}), pose({"yaw": 0.15, "shift_x": 0.05, "jaw": 0.4})
    grid, seen = renderer.flow(a, b)
    frame_a, frame_b = torch.from_numpy(renderer.frames(np.stack([a, b]))).float()
    warped = torch.nn.functional.grid_sample(
        frame_a.permute(2, 0, 1)[None], torch.from_numpy(grid)[None], align_corners=False
    )
    error = (warped[0].permute(1, 2, 0) - frame_b).abs().mean(-1)
    still = (frame_a - frame_b).abs().mean(-1)
    moved = torch.from_numpy(seen) > 0
    moved &= torch.from_numpy(np.abs(grid - renderer.flow(b, b)[0]).max(-1) > 0.02)
    assert error[moved].mean() < 0.5 * still[moved].mean()
    same, everywhere = renderer.flow(b, b, size=SIZE // 2)
    assert same.shape == (SIZE // 2, SIZE // 2, 2)
    assert everywhere.mean() > 0.98


def test_bad_input_says_what_to_do(renderer: Renderer) -> None:
    with pytest.raises(ValueError, match="numbered from 0"):
        identity(-1)
    with pytest.raises(ValueError, match=r"motion\[None\]"):
        renderer.frames(np.zeros(len(MOTION), np.float32))
    with pytest.raises(ValueError, match="24 values"):
        pose_of(np.zeros(23, np.float32))
    with pytest.raises(ValueError, match="32 pixels"):
        Renderer(identity(0), 16)
