"""The speaker recipe: exact resumption, the margin, the measure."""

import math

import numpy as np
import torch

from recipes.train_speaker import Classifier, Sounds, draw, engine_for, equal_error_rate, train
from talker.speaker import PCM_RATE, SpeakerEncoderConfig


def hum(voices: int = 3) -> Sounds:
    """Two seconds of a tone a voice."""
    time = np.arange(2 * PCM_RATE) / PCM_RATE
    tones = [np.sin(2 * math.pi * 200 * (v + 1) * time) * 9000 for v in range(voices)]
    starts = np.arange(voices + 1) * len(time)
    return Sounds(np.concatenate(tones).astype(np.int16), starts, np.arange(voices))


def weights_after(run, steps: int) -> torch.Tensor:
    engine = engine_for(SpeakerEncoderConfig.tiny(), 3, run, steps=3)
    train(engine, hum(), None, steps, rows=4)
    return torch.cat([tensor.flatten().float() for tensor in engine.module.state_dict().values()])


def test_resumed_step_is_bit_identical(tmp_path):
    straight = weights_after(tmp_path / "straight", 3)
    weights_after(tmp_path / "cut", 2)
    assert weights_after(tmp_path / "cut", 3).equal(straight)


def test_draws_are_of_the_step_alone():
    (pcm, labels), (again, _), (other, _) = (draw(hum(), 4, 0.5, 0, step) for step in (7, 7, 8))
    assert pcm.equal(again)
    assert not pcm.equal(other)
    assert pcm.shape == (4, PCM_RATE // 2)
    assert labels.shape == (4,)


def test_margin_makes_it_harder():
    model = Classifier(SpeakerEncoderConfig.tiny(), 3)
    pcm, labels = draw(hum(), 4, 0.5, 0, 0)
    with torch.no_grad():
        assert model(pcm, labels, margin=0.3) > model(pcm, labels, margin=0.0)


def test_equal_error_rate_of_known_scores():
    assert equal_error_rate(torch.tensor([0.8, 0.9]), torch.tensor([0.1, 0.2])) == 0
    line = torch.linspace(0, 1, 101)
    assert abs(equal_error_rate(line, line) - 0.5) < 0.02
    assert abs(equal_error_rate(line + 0.6, line) - 0.2) < 0.02
