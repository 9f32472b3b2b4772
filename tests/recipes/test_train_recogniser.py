"""Training data of the recogniser: symbols, prepared clips and their distribution over ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import Noise

from recipes import ranks, train_recogniser


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
