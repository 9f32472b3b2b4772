"""Scenes of the offset estimator: picture, sound and lips of the same frames; the three losses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_recipes import tiny

from evaluation.sync import SyncNet
from puppet.motion import MOTION
from recipes import train_sync
from recipes.train_sync import FRAMES, MARGIN, blur, draw, scene
from talker.clock import HOP

LIPS = [MOTION.index(name) for name in ("jaw", "closure", "rounding", "lip_width")]


def clip(number: int) -> SimpleNamespace:
    """A clip of FRAMES + 9 frames; the pictures, sound and motion of frame t have the value t."""
    if number == 6:
        return SimpleNamespace(idle=True, motion=np.zeros((FRAMES, 24)))
    if number == 6 + 1_000_003:
        return SimpleNamespace(idle=False, motion=np.zeros((FRAMES - 1, 24)))
    count = FRAMES + 9
    frames = np.arange(count, dtype=np.float32)
    picture = np.broadcast_to(frames[:, None, None, None], (count, 4, 4, 3)).astype(np.uint8)
    return SimpleNamespace(
        idle=False,
        motion=frames[:, None] + np.arange(24, dtype=np.float32) / 100,
        pcm=frames.repeat(HOP),
        frames=lambda size, start, stop: picture[start:stop],
    )


def test_scene_has_picture_sound_and_lips_of_the_same_frames() -> None:
    numbers: list[int] = []
    corpus = SimpleNamespace(clip=lambda number: numbers.append(number) or clip(number))
    starts = set()
    for index in range(1, 60):
        made = scene(corpus, index)
        shown = made.frames[:, 0, 0, 0]
        assert np.array_equal(shown, np.arange(FRAMES) + shown[0])
        assert np.array_equal(made.pcm.reshape(FRAMES, HOP), shown[:, None].repeat(HOP, 1))
        np.testing.assert_allclose(made.lips, shown[:, None] + np.array(LIPS) / 100, rtol=1e-6)
        starts.add(int(shown[0]))
    assert starts == set(range(10))
    assert numbers[:4] == [3, 6, 6 + 1_000_003, 6 + 2_000_006]


def test_drawn_crops_are_shifted_and_mirrored_sideways() -> None:
    """The grey of a pixel is its column, or its row, so that the crop tells where it was taken."""
    side = 48 + 2 * MARGIN
    ramp = np.broadcast_to(2 * np.arange(side, dtype=np.uint8), (1, 2, side, side))
    arrays = {"pcm": np.zeros((1, 2 * HOP), np.int16), "lips": np.zeros((1, 2, 4), np.float32)}
    corners, mirrored = set(), 0
    for step in range(80):
        across, down = (
            255 / 2 * draw({"crops": crops, **arrays}, 1, 0, step).crops[0, 0]
            for crops in (ramp, ramp.transpose(0, 1, 3, 2))
        )
        assert across.shape == (48, 48)
        columns, rows = across.mean(0), down.mean(1)
        assert rows[-1] > rows[0], "never upside down"
        mirrored += bool(columns[-1] < columns[0])
        corners.add((round(float(rows.mean() - 23.5)), round(float(columns.mean() - 23.5))))
    assert 25 < mirrored < 55, "about half"
    assert {top for top, _ in corners} == {left for _, left in corners} == set(range(2 * MARGIN + 1))


def test_blur_keeps_the_mean_and_has_the_given_deviation() -> None:
    dot = torch.zeros(1, 1, 21, 21)
    dot[..., 10, 10] = 1
    assert blur(dot, 0.29) is dot
    line = blur(dot, 1.2)[0, 0].sum(0)
    assert float(line.sum()) == pytest.approx(1, abs=1e-5)
    offset = torch.arange(21.0) - 10
    assert float((line * offset.square()).sum()) ** 0.5 == pytest.approx(1.2, rel=0.01)


def test_losses_of_known_embeddings() -> None:
    """Embeddings of a clip are unit vectors that no two frames or clips share."""
    run, count = tiny("sync"), 2
    net, length = SyncNet(run.model), FRAMES
    unit = torch.eye(count * length).unflatten(0, (count, length))
    batch = train_sync.Batch(unit, unit, torch.full((count, length, 4), 0.5))
    net.embed_faces = lambda crops: (crops, torch.zeros(count, length, 4))  # type: ignore[method-assign]
    for late, right in ((0, True), (3, False)):
        net.embed_audio = lambda pcm, late=late: pcm.roll(late, 1)  # type: ignore[method-assign]
        found = train_sync.losses(net, batch)
        assert float(found["lips"]) == 0.25
        assert (found["shift"] < 0.01) == (found["pair"] < 0.01) == right
    assert float(found["pair"].detach()) == pytest.approx(float(torch.tensor(2.0).log()), rel=1e-3)
    assert float(found["shift"].detach()) == pytest.approx(10, abs=0.01)
    swapped = train_sync.Batch(unit, unit.flip(0), batch.lips)
    net.embed_audio = lambda pcm: pcm  # type: ignore[method-assign]
    assert float(train_sync.losses(net, swapped)["pair"].detach()) == pytest.approx(10, rel=1e-3)


def test_validation_counts_shifts_within_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = iter((1, -2, 0, 5))
    monkeypatch.setattr(train_sync, "best", lambda scores: SimpleNamespace(offset=next(offsets)))
    side, length, lips = 48 + 2 * MARGIN, 16, np.random.default_rng(0).random((4, 16, 4), np.float32)
    scenes = {
        "crops": np.zeros((4, length, side, side), np.uint8),
        "pcm": np.zeros((4, length * HOP), np.int16),
        "lips": lips,
    }
    net = SyncNet(tiny("sync").model)
    with torch.no_grad():
        net.lips.weight.zero_()
        net.lips.bias.zero_()
    found = train_sync.validate(net, scenes)
    assert found["right"] == 0.5
    assert found["lips_unseen"] == pytest.approx(float(np.square(lips).mean()), rel=1e-4)
