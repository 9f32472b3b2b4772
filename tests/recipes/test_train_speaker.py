"""The speaker recipe: exact resumption, the margin, the measure."""

import math

import numpy as np
import torch

from recipes.export import export
from recipes.train_speaker import Sounds, draw, engine_for, equal_error_rate, pair_loss, train
from talker.checkpoint import load_component
from talker.speaker import PCM_RATE, SpeakerEncoder, SpeakerEncoderConfig


def hum(voices: int = 3) -> Sounds:
    """Two tones of two seconds a voice."""
    time = np.arange(2 * PCM_RATE) / PCM_RATE
    tones = [np.sin(2 * math.pi * 50 * (v + 4) * time) * 9000 for v in range(2 * voices)]
    starts = np.arange(2 * voices + 1) * len(time)
    return Sounds(np.concatenate(tones).astype(np.int16), starts, np.arange(2 * voices) // 2)


def weights_after(run, steps: int) -> torch.Tensor:
    engine = engine_for(SpeakerEncoderConfig.tiny(), run, steps=3)
    train(engine, hum(), None, steps, voices=2)
    return torch.cat([tensor.flatten().float() for tensor in engine.module.state_dict().values()])


def test_resumed_step_is_bit_identical(tmp_path):
    straight = weights_after(tmp_path / "straight", 3)
    weights_after(tmp_path / "cut", 2)
    assert weights_after(tmp_path / "cut", 3).equal(straight)
    export("speaker", tmp_path / "cut", tmp_path / "speaker")
    encoder = load_component(SpeakerEncoder, SpeakerEncoderConfig, tmp_path / "speaker")
    assert encoder.config == SpeakerEncoderConfig.tiny()


def test_draws_are_of_the_step_alone():
    pcm, again, other = (draw(hum(), 2, 0.5, 0, step) for step in (7, 7, 8))
    assert pcm.equal(again)
    assert not pcm.equal(other)
    assert pcm.shape == (4, PCM_RATE // 2)


def test_partners_side_by_side_cost_nothing():
    one, two = torch.eye(2, 8)
    assert pair_loss(torch.stack([one, one, two, two])) < 1e-6
    assert pair_loss(torch.stack([one, two, one, two])) > 10


def test_equal_error_rate_of_known_scores():
    assert equal_error_rate(torch.tensor([0.8, 0.9]), torch.tensor([0.1, 0.2])) == 0
    line = torch.linspace(0, 1, 101)
    assert abs(equal_error_rate(line, line) - 0.5) < 0.02
    assert abs(equal_error_rate(line + 0.6, line) - 0.2) < 0.02
