"""The speaker encoder's recipe: draws, losses and measure."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_recipes import hum, tiny
from torch.nn import functional as F

from recipes import train_speaker
from recipes.data.speech import Spoken
from recipes.train_speaker import add_margin, draw, equal_error_rate, margin_loss, pair_loss
from talker.clock import SAMPLE_RATE

RUN = tiny("speaker", "rows=2", "seconds=0.5")


def test_draws_depend_on_seed_and_step_alone():
    (pcm, labels), (again, same), (other, _) = (draw(hum(3), RUN, step) for step in (7, 7, 8))
    assert pcm.equal(again)
    assert labels.equal(same)
    assert not pcm.equal(other)
    assert not pcm.equal(draw(hum(3), dataclasses.replace(RUN, seed=1), 7)[0])
    assert pcm.shape == (4, SAMPLE_RATE // 2)


def test_labels_are_the_voices_of_the_utterances():
    pcm, labels = draw(hum(3), RUN, 7)
    assert labels[::2].equal(labels[1::2])
    heard = torch.fft.rfft(pcm).abs().argmax(-1) * 2  # half a second: bins of 2 Hz
    assert (heard // 50 - 4).div(2, rounding_mode="floor").equal(labels)


def test_the_last_step_is_always_validated(tmp_path):
    run = dataclasses.replace(RUN, steps=1, validate_every=9)
    train_speaker.train(tmp_path, run, hum(2), hum(2))
    assert "eer_unseen" in json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])


def test_pair_loss_is_zero_for_identical_embeddings():
    one, two = torch.eye(2, 8)
    assert pair_loss(torch.stack([one, one, two, two])) < 1e-6
    assert pair_loss(torch.stack([one, two, one, two])) > 10


def test_equal_error_rate_of_known_distributions():
    assert equal_error_rate(torch.tensor([0.8, 0.9]), torch.tensor([0.1, 0.2])) == 0
    line = torch.linspace(0, 1, 101)
    assert abs(equal_error_rate(line, line) - 0.5) < 0.02
    assert abs(equal_error_rate(line + 0.6, line) - 0.2) < 0.02


def test_noise_is_relative_to_each_utterance():
    sounds = hum(3)
    pcm = sounds.pcm.copy()
    pcm[: len(pcm) // 2] //= 500
    for step in range(5):
        rows, _ = draw(dataclasses.replace(sounds, pcm=pcm), RUN, step)
        spectrum = torch.fft.rfft(rows).abs().square()
        assert (spectrum[:, 2000:].sum(1) < 0.01 * spectrum.sum(1)).all()


def test_separation_compares_different_utterances_alone(monkeypatch):
    encoder = torch.nn.Linear(1, 1)
    encoder.embed = lambda pcm: torch.eye(4)[[2, 3, 2, 3]][int(pcm[0, 0])][None]
    sounds = SimpleNamespace(
        labels=np.array([0, 0, 1, 1]), crop=lambda i, samples, where: torch.full((samples,), float(i))
    )
    # Cosines of one voice: 0, 0; of two: 1, 0, 0, 1. At a threshold of 1, all are missed and half accepted.
    assert train_speaker.separation(encoder, sounds) == 0.75


VOICES = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def test_loss_without_margin_is_cross_entropy_of_scaled_cosines():
    rows, labels = VOICES + VOICES.flip(0), torch.arange(5)
    cosine = F.cosine_similarity(rows[:, None], VOICES[None], dim=-1)
    found = margin_loss(rows, labels, VOICES, scale=30.0, margin=0.0)
    torch.testing.assert_close(found, F.cross_entropy(30 * cosine, labels))
    assert margin_loss(rows, labels, VOICES, 30.0, 0.2) > found


def test_margin_is_added_to_the_angle_of_the_own_voice_alone():
    theta = torch.linspace(0.01, math.pi - 0.21, 50, dtype=torch.float64)
    cosine = torch.stack([theta.cos(), theta.sin()], dim=1)
    found = add_margin(cosine, torch.zeros(50, dtype=torch.long), 0.2)
    torch.testing.assert_close(found[:, 0], (theta + 0.2).cos())
    assert found[:, 1].equal(cosine[:, 1])


def test_score_falls_with_the_angle():
    theta = torch.linspace(0, math.pi, 1000, dtype=torch.float64)
    found = add_margin(theta.cos()[:, None], torch.zeros(1000, dtype=torch.long), 0.2)
    assert (found.diff(dim=0) < 0).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_are_finite_at_angles_zero_and_pi(sign: int):
    rows = (sign * VOICES).requires_grad_()
    margin_loss(rows, torch.arange(5), VOICES).backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_prepared_utterances_are_short_and_voices_are_numbered(tmp_path, monkeypatch):
    """Utterance i is the number i / 1000, i + 1 samples of it; its voice is 30 + i % 3."""
    monkeypatch.setattr(train_speaker, "LONGEST", 5)
    spoken = SimpleNamespace(
        name="numbers",
        of_each_voice=lambda count: list(range(3 * count)),
        read=lambda i: Spoken(np.full(i + 1, i / 1000, np.float32), [], 30 + i % 3),
    )
    sounds = train_speaker.prepare(tmp_path, spoken, 2)
    assert sounds.labels.tolist() == [0, 1, 2] * 2
    assert np.diff(sounds.starts).tolist() == [1, 2, 3, 4, 5, 5]
    assert sounds.pcm[sounds.starts[:-1]].tolist() == [0, 33, 66, 98, 131, 164]
    assert sounds.voices == 3
    crop = sounds.crop(3, 6, 1.0)
    assert crop.tolist() == pytest.approx([98 / 32768] * 6), "a short utterance is repeated"
