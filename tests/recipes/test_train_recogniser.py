"""Training data of the recogniser: symbols, prepared clips and their distribution over ranks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_recipes import spoken

from evaluation.speech import Recogniser, RecogniserConfig
from recipes import ranks, train_recogniser


def test_recogniser_keeps_its_symbols(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train first"):
        train_recogniser.symbols_of(tmp_path)
    sounds = train_recogniser.prepare(tmp_path, "train", 10, spoken)
    symbols = train_recogniser.symbols_of(tmp_path, sounds)
    assert set(symbols) == {symbol for labels in sounds.labels for symbol in labels}
    assert train_recogniser.symbols_of(tmp_path) == symbols


def test_prepared_clips_are_reused(tmp_path: Path) -> None:
    first = train_recogniser.prepare(tmp_path, "train", 10, spoken)
    second = train_recogniser.prepare(tmp_path, "train", 10, lambda split, i: pytest.fail("prepared again"))
    assert np.array_equal(first.pcm, second.pcm)
    assert first.labels == second.labels == [spoken("train", i)[1] for i in range(10)]
    assert torch.allclose(second.clip(7), torch.from_numpy(spoken("train", 7)[0]), atol=1e-4)


def test_ranks_share_every_phoneme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds even if a step has fewer clips than there are ranks."""
    sounds = train_recogniser.prepare(tmp_path, "train", 10, spoken)
    whole = train_recogniser.draw(sounds, ("a", "t"), 0.5, 0, 0)
    monkeypatch.setattr(ranks, "size", lambda: 4)
    shares = []
    for rank in range(4):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        shares.append(whole.share())
    assert [len(share.sizes) for share in shares] == [1, 1, 0, 0]
    assert torch.cat([share.targets for share in shares]).equal(whole.targets)
    assert torch.cat([share.pcm for share in shares]).equal(whole.pcm)


def test_corpus_speech_takes_the_voices_of_its_split_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_recogniser, "TRAIN_VOICES", [10, 11])
    monkeypatch.setattr(train_recogniser, "HELDOUT_VOICES", [30, 31, 32])
    monkeypatch.setattr(train_recogniser, "sentence", lambda split, i: f"{split} {i}")
    monkeypatch.setattr(train_recogniser, "voice", lambda number: number)
    monkeypatch.setattr(
        train_recogniser,
        "speak",
        lambda text, voice: SimpleNamespace(
            pcm=f"{text} {voice}", phonemes=[SimpleNamespace(symbol=s) for s in ("ˈaː", "_", "t")]
        ),
    )
    assert train_recogniser.corpus_speech("train", 5) == ("train 5 11", ["a", "t"])
    assert train_recogniser.corpus_speech("heldout", 5) == ("heldout 5 32", ["a", "t"])


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
