"""Training data of the recogniser: symbols, prepared clips and their distribution over ranks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_recipes import Noise

from evaluation.speech import Recogniser, RecogniserConfig
from recipes import ranks, train_recogniser
from recipes.data.speech import Spoken


def test_recogniser_keeps_its_symbols(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train first"):
        train_recogniser.symbols_of(tmp_path)
    sounds = train_recogniser.prepare(tmp_path, Noise(), 10)
    symbols = train_recogniser.symbols_of(tmp_path, sounds)
    assert set(symbols) == {symbol for labels in sounds.labels for symbol in labels}
    assert train_recogniser.symbols_of(tmp_path) == symbols


def test_prepared_clips_are_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = Noise()
    first = train_recogniser.prepare(tmp_path, speech, 10)
    monkeypatch.setattr(speech, "read", lambda index: pytest.fail("prepared again"))
    second = train_recogniser.prepare(tmp_path, speech, 10)
    assert np.array_equal(first.pcm, second.pcm)
    assert first.labels == second.labels == [Noise().read(i).phones for i in range(10)]
    with pytest.raises(ValueError, match="made by other speech"):
        train_recogniser.prepare(tmp_path, type("Other", (Noise,), {"name": "other"})(), 10)
    (tmp_path / "speech").unlink()  # as older versions left it
    with pytest.raises(ValueError, match="made by other speech"):
        train_recogniser.prepare(tmp_path, speech, 10)
    assert torch.allclose(second.clip(7), torch.from_numpy(Noise().read(7).pcm), atol=1e-4)


def test_ranks_share_every_phoneme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds even if a step has fewer clips than there are ranks."""
    sounds = train_recogniser.prepare(tmp_path, Noise(), 10)
    whole = train_recogniser.draw(sounds, ("a", "t"), 0.5, 0, 0)
    monkeypatch.setattr(ranks, "size", lambda: 4)
    shares = []
    for rank in range(4):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        shares.append(whole.share())
    assert [len(share.sizes) for share in shares] == [1, 1, 0, 0]
    assert torch.cat([share.targets for share in shares]).equal(whole.targets)
    assert torch.cat([share.pcm for share in shares]).equal(whole.pcm)


def test_clips_of_a_step_have_similar_lengths() -> None:
    """Clip k has k labels and is the k-th in length; a step has two or three of a window of about 18."""
    lengths = 2400 + 24 * np.arange(100)
    labels = [["a"] * k for k in range(100)]
    sounds = train_recogniser.Sounds(
        np.zeros(lengths.sum(), np.int16), np.concatenate([[0], np.cumsum(lengths)]), labels
    )
    for step in range(10):
        sizes = train_recogniser.draw(sounds, ("a",), 0.3, 0, step).sizes
        assert len(sizes) in (1, 2, 3)
        assert sizes.max() - sizes.min() <= 18


def test_labels_are_phones_without_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech, pcm = Noise(), np.full(3, 0.5, np.float32)
    monkeypatch.setattr(speech, "read", lambda index: Spoken(pcm, ["ˈaː", "_", "t"], 0))
    sounds = train_recogniser.prepare(tmp_path, speech, 2)
    assert sounds.labels == [["a", "t"]] * 2
    assert sounds.pcm.tolist() == [16384] * 6


def test_error_rate_is_that_of_the_first_clips() -> None:
    labels = [["a", "b"], ["a"], ["c"] * 5]
    sounds = train_recogniser.Sounds(np.arange(6, dtype=np.int16) * 1000, np.array([0, 1, 3, 6]), labels)
    model = SimpleNamespace(transcribe=lambda pcm: ["a", "x", "c"][: len(pcm)])
    assert train_recogniser.error_rate(model, sounds, 2) == 2 / 3  # type: ignore[arg-type]
    assert train_recogniser.error_rate(model, sounds, 9) == (2 + 4) / 8  # type: ignore[arg-type]


def test_clip_too_short_for_its_phonemes_does_not_change_the_loss() -> None:
    """The loss of the others is divided by the given number of phonemes."""
    torch.manual_seed(0)
    model = Recogniser(RecogniserConfig.tiny(("a", "t")))
    pcm = 0.1 * torch.randn(2, 4800)
    both = train_recogniser.Batch(
        pcm, torch.tensor([4800, 480]), torch.tensor([1, 2] * 11), torch.tensor([2, 20])
    )
    one = train_recogniser.Batch(pcm[:1], both.samples[:1], both.targets[:2], both.sizes[:1])
    loss = train_recogniser.loss_of(model, one, 2)
    assert torch.isfinite(loss)
    torch.testing.assert_close(train_recogniser.loss_of(model, both, 1), 2 * loss)
    assert train_recogniser.loss_of(model, one, 0) == train_recogniser.loss_of(model, one, 1)
