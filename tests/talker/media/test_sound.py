"""Sound read piece by piece is the sound of the whole; its level is that of the speech in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import chirps, write_sound

from talker.media.audio import read_audio
from talker.media.sound import SPEECH_LEVEL, Leveller, blocks, pieces, survey


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 24_000, 44_100, 48_000, 23_999])
def test_pieces_are_the_whole(tmp_path: Path, rate: int) -> None:
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", rate, seconds=1.7)
    whole, parts = read_audio(path), list(pieces(path))
    assert len(parts) > 3
    assert len(torch.cat(parts)) == len(whole)
    assert (torch.cat(parts) - whole).abs().max() < 1e-5


def test_blocks_keep_every_sample() -> None:
    pcm = torch.arange(1003)
    for size in (1, 7, 100, 5000):
        cut = list(blocks(pcm.split(13), size))
        assert torch.equal(torch.cat(cut), pcm)
        assert all(len(block) == size for block in cut[:-1])


def test_a_survey_hears_speech_and_its_level(tmp_path: Path) -> None:
    pcm = np.concatenate([np.zeros(24_000, np.float32), chirps(1.0, 24_000)[0]])[None]
    found = survey(write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=pcm))
    assert (found.samples, found.frames) == (48_000, 50)
    assert not found.speaks[:24].any()
    assert found.speaks[26:].mean() > 0.8
    assert 0.1 < found.level < 0.3


@pytest.mark.parametrize("scale", [0.03, 0.3, 3.0])
def test_speech_of_any_loudness_comes_to_one_level(scale: float) -> None:
    time = torch.arange(48_000) / 24_000
    pcm = (0.2 * scale * torch.sin(2 * torch.pi * 150 * time)).clamp(-1, 1)
    leveller = Leveller()
    levelled = torch.cat([leveller(block) for block in pcm.split(3840)])
    assert levelled.square().mean().sqrt() == pytest.approx(SPEECH_LEVEL, rel=0.05)
    silence = torch.zeros(3840)
    assert torch.equal(Leveller()(silence), silence)
