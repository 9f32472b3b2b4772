"""The offset search finds known shifts; the towers have the documented shapes and invariances."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from evaluation.sync import (
    MAX_OFFSET,
    Sync,
    SyncConfig,
    SyncNet,
    best,
    compare,
    lower_face,
    measure,
    mouth_opening,
    offset_scores,
)


@pytest.mark.parametrize("shift", [-10, -3, 0, 1, 10])
def test_search_finds_known_shifts_of_correlated_features(shift: int) -> None:
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


def test_confidence_is_the_lead_over_the_median_score() -> None:
    assert best(torch.tensor([0.1, 0.2, 0.0, 0.9, 0.2])) == Sync(1, pytest.approx(0.7))


def test_frames_after_the_end_of_the_sound_do_not_change_the_offset() -> None:
    net = SyncNet(SyncConfig.tiny()).eval()
    for _ in range(8):
        visual, pcm = F.normalize(torch.randn(1, 40, 8), dim=-1), torch.randn(30 * 960)
        assert compare(net, visual, pcm) == compare(net, visual[:, :30], pcm)


def test_mouth_opening_is_jaw_without_closure() -> None:
    net = SyncNet(SyncConfig.tiny()).eval()
    torch.nn.init.zeros_(net.lips.weight)
    for jaw, closure, opening in ((0.8, 0.5, 0.4), (2.0, -1.0, 1.0), (0.5, 1.5, 0.0)):
        net.lips.bias.data = torch.tensor([jaw, closure, 0, 0])
        torch.testing.assert_close(mouth_opening(net, torch.rand(2, 3, 64, 64)), torch.full((2,), opening))


def test_too_short_clip_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        offset_scores(torch.randn(1, 15, 4), torch.randn(1, 15, 4))


def test_both_towers_return_one_unit_vector_per_frame() -> None:
    net = SyncNet(SyncConfig.tiny()).eval()
    seen, lips = net.embed_faces(torch.rand(2, 9, 48, 48))
    heard = net.embed_audio(torch.randn(2, 9 * 960))
    assert seen.shape == heard.shape == (2, 9, 8)
    assert lips.shape == (2, 9, 4)
    torch.testing.assert_close(seen.norm(dim=-1), torch.ones(2, 9))


def test_visual_embedding_ignores_brightness_and_contrast() -> None:
    net = SyncNet(SyncConfig.tiny()).eval()
    crops = torch.rand(1, 6, 48, 48)
    torch.testing.assert_close(
        net.embed_faces(0.5 * crops + 0.3)[0], net.embed_faces(crops)[0], atol=0.05, rtol=0
    )


def test_lower_face_is_the_documented_box() -> None:
    """Rows 62 to 109 and columns 40 to 87 of 128; a margin adds pixels on every side."""
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    for margin in (0, 4):
        for picture, first, last in ((rows, 62, 109), (columns, 40, 87)):
            found = lower_face(picture.expand(3, -1, -1), margin)
            assert found.shape == (48 + 2 * margin, 48 + 2 * margin)
            assert (found.min(), found.max()) == (first - margin, last + margin)
    grey = torch.tensor([0.3, 0.6, 0.9])[:, None, None].expand(3, 128, 128)
    torch.testing.assert_close(lower_face(grey), torch.full((48, 48), 0.6))


def test_lower_face_does_not_depend_on_the_frame_size() -> None:
    small = torch.rand(3, 3, 128, 128)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert lower_face(small).shape == (3, 48, 48)
    torch.testing.assert_close(lower_face(large), lower_face(small))
    with pytest.raises(ValueError, match="S, S"):
        lower_face(torch.rand(3, 3, 100, 128))


def test_offset_and_mouth_opening_are_in_range() -> None:
    net = SyncNet(SyncConfig.tiny()).eval()
    frames = torch.rand(30, 3, 64, 64)
    assert abs(measure(net, frames, torch.randn(31 * 960)).offset) <= MAX_OFFSET
    opening = mouth_opening(net, frames)
    assert opening.shape == (30,)
    assert bool(((opening >= 0) & (opening <= 1)).all())
