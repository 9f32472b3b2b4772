"""The bank of rendered frames: deterministic people, and a flow that maps one frame onto another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from digests import digest
from torch.nn import functional as F

pytest.importorskip("numba", reason="rendering people needs the `data` extra")

from motion_ae.decoder import warp
from recipes.data import frame_bank
from recipes.data.frame_bank import ROOM, SIZE, FrameBank, drawn_pairs, render_person, wide_motion
from recipes.train_motion_ae import picture

RECORDED = {"motion": 0.132006, "boxes": 143.524419, "flow": 0.266508, "surface": 0.052752}
RECORDED_WIDE = (
    0.152896, 0.095044, 0.073933, 0.036917, 0.030619, 0.038783, 0.208949, 0.376038,
    0.180630, 0.187210, 0.161850, 0.201362, 0.191433, 0.211050, 0.226384, 0.202834,
    0.211825, 0.310768, 0.233434, 0.218903, 0.184572, 0.195752, 0.224011, 0.178335,
)  # fmt: skip


@pytest.fixture(scope="module")
def person() -> dict[str, np.ndarray]:
    return render_person("train", 3, 2)


def test_person_depends_on_split_and_index_only(person: dict[str, np.ndarray]) -> None:
    again = render_person("train", 3, 2)
    assert all(np.array_equal(person[name], again[name]) for name in person)
    assert not np.array_equal(person["pictures"], render_person("heldout", 3, 2)["pictures"])


def test_recorded_person_is_reproduced(person: dict[str, np.ndarray]) -> None:
    """Digests of the labels; they must not change, or a resumed training sees other people."""
    found = {name: digest(array) for name, array in person.items() if name != "pictures"}
    assert found == pytest.approx(RECORDED, rel=1e-3)
    wide = wide_motion(np.random.default_rng(5), 300)
    assert np.abs(wide).mean(0) == pytest.approx(np.array(RECORDED_WIDE), rel=1e-4)


@pytest.mark.parametrize(("split", "wide"), [("train", 2), ("heldout", 0)])
def test_a_quarter_of_the_training_frames_moves_beyond_speech(
    split: str, wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = frame_bank.wide_motion
    monkeypatch.setattr(frame_bank, "wide_motion", lambda rng, n: asked.append(n) or real(rng, n))
    monkeypatch.setattr(frame_bank, "Renderer", lambda *_: None)
    monkeypatch.setattr(frame_bank, "speaking_motion", lambda *_: np.zeros((_[-1], 24), np.float32))
    with pytest.raises(AttributeError):  # there is no renderer
        render_person(split, 0, 8)
    assert asked == [wide]


def test_a_person_joins_the_training_every_third_step() -> None:
    asked: list[int] = []
    bank = SimpleNamespace(people=205, frames=8, ensure=asked.append, pairs=lambda *chosen: chosen)
    for step in (0, 2, 3, 10, 30):
        who, first, second = drawn_pairs(bank, step, 200, torch.Generator().manual_seed(step))
        assert who.max() < asked[-1]
        assert (first != second).all(), "two frames"
        assert set(first) == set(second) == set(range(8))
    assert asked == [200, 200, 201, 203, 205]


def test_flow_maps_the_source_onto_the_target(person: dict[str, np.ndarray]) -> None:
    assert np.abs(person["flow"][0, 0]).max() == 0
    source, target = picture(torch.from_numpy(person["pictures"]))[:, None]
    flow = torch.from_numpy(person["flow"][1, 0][None].astype(np.float32)) * 2 / (SIZE - 1)
    moved = warp(source, F.interpolate(flow, size=(SIZE, SIZE), mode="bilinear"))
    left, top = person["boxes"][1, :, :2].min(0)
    right, bottom = person["boxes"][1, :, 2:].max(0)
    face = np.s_[..., top:bottom, left:right]  # elsewhere the source occludes the background
    assert (moved - target)[face].abs().mean() < 0.5 * (source - target)[face].abs().mean()


def test_boxes_contain_mouth_and_eyes(person: dict[str, np.ndarray]) -> None:
    x0, y0, x1, y1 = person["boxes"].astype(int).transpose(2, 0, 1)
    assert (x1 > x0).all()
    assert (y1 > y0).all()
    assert (y0[:, 0] > y0[:, 1:].max(1)).all(), "the mouth is below the eyes"
    assert ((x0 >= 0) & (y0 >= 0) & (x1 <= SIZE) & (y1 <= SIZE)).all()


def test_bank_renders_every_person_once(
    tmp_path: Path, person: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered_people: list[int] = []

    def rendered(split: str, index: int, frames: int) -> dict[str, np.ndarray]:
        rendered_people.append(index)
        return person

    monkeypatch.setattr(frame_bank, "render_person", rendered)
    bank = FrameBank(tmp_path, "train", people=4, frames=2)
    bank.ensure(2)
    bank.ensure(3)
    FrameBank(tmp_path, "train", people=4, frames=2).ensure(3)
    assert rendered_people == [0, 1, 2]
    FrameBank(tmp_path, "train", people=2, frames=2).ensure(2)
    FrameBank(tmp_path, "train", people=ROOM["train"], frames=2).ensure(4)
    assert rendered_people == [0, 1, 2, 3], "banks of different sizes share the folder"
    pairs = bank.pairs(np.array([2, 0]), np.array([0, 1]), np.array([1, 0]))
    assert np.array_equal(pairs.source[0], person["pictures"][0])
    assert np.array_equal(pairs.flow[0], person["flow"][1, 0])
    with pytest.raises(ValueError, match="holds 4 people"):
        bank.ensure(5)
    with pytest.raises(ValueError, match="shape"):
        FrameBank(tmp_path, "train", people=4, frames=3)
    with pytest.raises(ValueError, match="shape"):
        FrameBank(tmp_path, "train", people=ROOM["train"] + 1, frames=2)


@pytest.mark.long
def test_worker_processes_render_the_same_frames_as_one_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.data.frame_bank", "--people", "3", "--workers", "2"]
    subprocess.run([*command, "--frames", str(tmp_path)], check=True)
    for index in range(3):
        for name, value in render_person("train", index, 8).items():
            assert np.array_equal(np.load(tmp_path / f"train-{name}.npy", mmap_mode="r")[index], value), name


def test_first_pairs_are_neighbouring_frames_of_each_person_in_turn() -> None:
    class Counted:
        frames, ensured = 5, 0

        def ensure(self, people: int) -> None:
            self.ensured = people

        def pairs(self, *given: np.ndarray) -> list[list[int]]:
            return [numbers.tolist() for numbers in given]

    bank = Counted()
    assert frame_bank.first_pairs(bank, 5) == [[0, 0, 1, 1, 2], [0, 2, 0, 2, 0], [1, 3, 1, 3, 1]]  # type: ignore[arg-type, comparison-overlap]
    assert bank.ensured == 3
