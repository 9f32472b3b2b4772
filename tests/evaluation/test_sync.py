"""The search finds shifts that were put in; the towers keep their shapes and time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from evaluation.sync import (
    REACH,
    SyncConfig,
    SyncNet,
    best,
    lower_face,
    measure,
    mouth_opening,
    offset_scores,
)


@pytest.mark.parametrize("shift", [-10, -3, 0, 1, 10])
def test_known_shifts_of_correlated_features_are_found(shift: int) -> None:
    source = F.normalize(torch.randn(1, 100, 8), dim=-1)
    noise = F.normalize(torch.randn(1, 60, 8), dim=-1)
    seen, heard = source[:, 20:80], source[:, 20 - shift : 80 - shift]
    found = best(offset_scores(seen, F.normalize(heard + 0.5 * noise, dim=-1))[0])
    assert found.offset == shift
    assert found.confidence > best(offset_scores(seen, noise)[0]).confidence


def test_scores_are_means_over_the_common_frames() -> None:
    seen, heard = torch.randn(2, 20, 4), torch.randn(2, 20, 4)
    scores = offset_scores(seen, heard, 3)
    assert scores.shape == (2, 7)
    torch.testing.assert_close(scores[:, 3 + 2], (seen[:, :-2] * heard[:, 2:]).sum(-1).mean(1))
    torch.testing.assert_close(scores[:, 3 - 2], (seen[:, 2:] * heard[:, :-2]).sum(-1).mean(1))


def test_too_short_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        offset_scores(torch.randn(1, 15, 4), torch.randn(1, 15, 4))


def test_towers_share_shape_and_frame_rate() -> None:
    net = SyncNet(SyncConfig.tiny()).eval()
    seen, lips = net.picture(torch.rand(2, 9, 48, 48))
    heard = net.sound(torch.randn(2, 9 * 960))
    assert seen.shape == heard.shape == (2, 9, 8)
    assert lips.shape == (2, 9, 4)
    torch.testing.assert_close(seen.norm(dim=-1), torch.ones(2, 9))


def test_a_brighter_picture_is_the_same_picture() -> None:
    net = SyncNet(SyncConfig.tiny()).eval()
    crops = torch.rand(1, 6, 48, 48)
    torch.testing.assert_close(net.picture(0.5 * crops + 0.3)[0], net.picture(crops)[0], atol=0.05, rtol=0)


def test_the_lower_face_is_the_same_at_every_size() -> None:
    small = torch.rand(3, 3, 128, 128)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert lower_face(small).shape == (3, 48, 48)
    torch.testing.assert_close(lower_face(large), lower_face(small))
    with pytest.raises(ValueError, match="S, S"):
        lower_face(torch.rand(3, 3, 100, 128))


def test_measures_take_frames_and_sound() -> None:
    net = SyncNet(SyncConfig.tiny()).eval()
    frames = torch.rand(30, 3, 64, 64)
    assert abs(measure(net, frames, torch.randn(31 * 960)).offset) <= REACH
    opening = mouth_opening(net, frames)
    assert opening.shape == (30,)
    assert bool(((opening >= 0) & (opening <= 1)).all())
