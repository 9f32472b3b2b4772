"""What WORLD measures, in the units of our synthesis: a round trip."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from audio_vae.losses import MelLoss
from audio_vae.synthesis import Controls, Synthesizer
from recipes.data.world import FLOOR, WIDTH, WorldBank, features, targets, write

pytest.importorskip("pyworld", reason="features need the extra `data`")


def vowel(frames: int) -> torch.Tensor:
    """A synthetic vowel of 150 Hz with breath, (1, 240 frames)."""
    harmonic = -4 - torch.linspace(0, 4, 100).expand(1, 2 * frames, -1)
    noise = torch.full((1, 2 * frames, 60), -9.0)
    phase = torch.zeros(1, 2 * frames, 40)
    log_f0 = torch.full((1, frames), math.log(150))
    return Synthesizer(24_000, 240, 100, 60, 40)(Controls(log_f0, harmonic, noise, phase))


def test_synthesis_of_the_features_sounds_like_the_signal() -> None:
    pcm = vowel(60)
    rows = torch.from_numpy(features(pcm[0].numpy()))[None]
    assert rows.shape == (1, 120, WIDTH)
    wanted = targets(rows)
    inside = slice(5, -5)
    assert (wanted.voiced[:, inside] == 1).all()
    assert (wanted.log_f0[:, inside].exp() - 150).abs().max() < 1
    again = Synthesizer(24_000, 240, 100, 60, 40)(
        Controls(wanted.log_f0, wanted.harmonic, wanted.noise, torch.zeros(1, 120, 40))
    )
    inside = slice(2400, -2400)
    assert float(MelLoss(24_000, 960, 40)(again[:, inside], pcm[:, inside])) < 0.25


def test_silence_and_noise_have_no_voice() -> None:
    rows = targets(torch.from_numpy(features(np.zeros(4800, np.float32)))[None])
    assert not rows.voiced.any()
    assert rows.harmonic.max() <= FLOOR
    assert rows.noise.max() < -9
    rows = targets(torch.from_numpy(features(np.pad(vowel(30)[0].numpy(), 4800)))[None])
    assert (rows.log_f0.exp() - 150).abs().max() < 15, "a pause has the pitch of the voice around it"
    assert rows.harmonic[rows.voiced_halves == 0].max() <= FLOOR
    noise = np.random.default_rng(0).normal(0, 0.1, 9600).astype(np.float32)
    rows = targets(torch.from_numpy(features(noise))[None])
    assert rows.voiced.mean() < 0.2
    assert rows.harmonic[rows.voiced_halves == 0].max() <= FLOOR
    assert float(rows.noise.mean()) == pytest.approx(math.log(0.1), abs=0.3)


def test_command_measures_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"puppet\.speech_bank"):
        write(tmp_path)
    (tmp_path / "train").mkdir()
    pcm = (vowel(30)[0].numpy() * 32767).astype(np.int16)
    np.save(tmp_path / "train" / "00000.npy", np.concatenate([pcm, pcm[:2000]]))
    (tmp_path / "train" / "00000.json").write_text(json.dumps([{"samples": len(pcm)}, {"samples": 2000}]))
    write(tmp_path)
    bank = WorldBank(tmp_path, "train")
    assert [len(rows) for rows in bank.features] == [60, 16]
    stored = tmp_path / "train" / "00000.world.npy"
    before = stored.stat().st_mtime_ns
    write(tmp_path)
    assert stored.stat().st_mtime_ns == before
