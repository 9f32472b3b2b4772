"""The recipe of the source-filter autoencoder: stages, crops, gains, and what the loss sees."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import RECIPES, tiny, write_bank

from audio_vae.source_filter_losses import LevelLoss
from recipes.data.world import FLOOR, STEP, WorldBank
from recipes.draws import generator
from recipes.train_audio_vae_source_filter import (
    ADVERSARY,
    REGRESSION,
    SPECTRA,
    Networks,
    crops,
    optimiser_of,
    regress,
)

RUN = tiny("audio_vae_source_filter")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> WorldBank:
    folder = tmp_path_factory.mktemp("bank")
    write_bank(folder)
    return WorldBank(folder, "train")


def test_stages_begin_at_their_shares_and_each_ends_with_a_low_rate() -> None:
    run = dataclasses.replace(RUN, steps=10_000, spectra_from=0.6, adversary_from=0.9)
    assert run.borders == (0, 6000, 9000, 10_000)
    assert [run.stage(step) for step in (0, 5999, 6000, 8999, 9000, 9999)] == [
        *(REGRESSION, REGRESSION, SPECTRA, SPECTRA, ADVERSARY, ADVERSARY)
    ]
    for stage, rate in enumerate(run.rates):
        first, end = run.borders[stage : stage + 2]
        inside = [run.factor(step) for step in (*range(first, end, 3), end - 1)]
        assert max(inside) == pytest.approx(rate, rel=0.01)
        assert inside[-1] == pytest.approx(run.optim.floor * rate)
        assert inside[0] < 0.02 * rate
    with pytest.raises(ValueError, match="in this order"):
        dataclasses.replace(RUN, spectra_from=0.9, adversary_from=0.6)


def test_discriminators_have_their_own_rate_in_the_stage_that_trains_them() -> None:
    networks = Networks(RUN)
    vae, discriminator = optimiser_of(networks, RUN).param_groups
    assert (vae["lr"], vae["betas"]) == (RUN.optim.lr, RUN.optim.betas)
    assert discriminator["lr"] * RUN.rates[ADVERSARY] == pytest.approx(RUN.discriminator_lr)
    assert discriminator["betas"] == (0.8, 0.99)
    assert vae["weight_decay"] == discriminator["weight_decay"] == RUN.optim.decay
    sizes = [sum(map(torch.numel, group["params"])) for group in (vae, discriminator)]
    assert sizes == [sum(map(torch.numel, networks[name].parameters())) for name in ("vae", "discriminator")]


def test_crops_hold_what_was_measured_in_them_at_the_same_gain(bank: WorldBank) -> None:
    frames, hop = 8, 960
    pcm, wanted = crops(bank, frames, hop, [generator(0, index) for index in range(12)])
    assert pcm.shape == (12, frames * hop)
    gains = []
    for signal, noise in zip(pcm, wanted.noise, strict=True):
        # Noise differs from any other piece of noise, so the first values identify clip and row.
        found = [
            (clip, row)
            for clip, rows in enumerate(bank.features)
            for row in range(len(rows))
            if np.abs(np.ptp(rows[row, -60:] - noise[0].numpy())) < 0.01
        ]
        assert len(found) == 1
        source, rows = bank.crop(*found[0], frames * hop // STEP)
        gain = float(signal.norm() / source.norm())
        torch.testing.assert_close(signal, gain * source)
        torch.testing.assert_close(noise, rows[:, -60:] + math.log(gain), atol=1e-3, rtol=0)
        gains.append(20 * math.log10(gain))
    assert -6 <= min(gains) < -2
    assert -1 < max(gains) <= 3


def test_crop_of_a_short_clip_ends_in_silence(bank: WorldBank) -> None:
    pcm, rows = bank.crop(3, 0, 20)
    assert not pcm[1000:].any()
    assert (rows[8:, 2:] == FLOOR).all()
    assert not rows[8:, 1].any()
    assert (rows[8:, 0] == rows[7, 0]).all()


def test_long_clips_are_drawn_more_often(bank: WorldBank) -> None:
    drawn = [bank.clip_of(row) for row in range(bank.rows)]
    assert [drawn.count(clip) for clip in range(4)] == [250, 250, 250, 8]


def test_controls_do_not_depend_on_the_other_rows(bank: WorldBank) -> None:
    """The noise of a row comes from its own generator, so ranks draw together what one process draws."""
    model, loss = Networks(RUN)["vae"], LevelLoss(24_000, 100, 60)
    run = dataclasses.replace(RUN, latent_noise=0.0)  # its size depends on all rows
    both = [
        regress(model, loss, run, *crops(bank, 4, 960, each), each)[0]
        for each in ([generator(1, 0), generator(2, 0)], [generator(2, 0)])
    ]
    for together, alone in zip(*both, strict=True):
        torch.testing.assert_close(together[1:], alone, atol=2e-2, rtol=0)


def test_missing_and_damaged_features_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"python -m puppet.speech_bank .* --split train"):
        WorldBank(tmp_path, "train")
    write_bank(tmp_path)
    features = tmp_path / "train" / "00000.world.npy"
    whole = features.read_bytes()
    features.write_bytes(whole[:200])
    with pytest.raises(ValueError, match=r"00000.world.npy is damaged: remove it and run"):
        WorldBank(tmp_path, "train")
    features.unlink()
    with pytest.raises(ValueError, match=r"python -m recipes.data.world"):
        WorldBank(tmp_path, "train")


@pytest.mark.long
def test_regression_lowers_its_loss(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, steps=60, spectra_from=1.0, adversary_from=1.0)
    run = dataclasses.replace(run, log_every=20, validate_every=60)
    run = dataclasses.replace(run, optim=dataclasses.replace(run.optim, lr=1e-2, warmup=2))
    engine = RECIPES["audio_vae_source_filter"](tmp_path, run)
    lines = [line for line in (tmp_path / "log.jsonl").read_text().splitlines() if "levels" in line]
    first, last = (float(line.split('"levels": ')[1].split(",")[0]) for line in (lines[0], lines[-1]))
    assert last < 0.8 * first
    assert engine.skipped == 0
