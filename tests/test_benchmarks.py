"""Benchmarks compare what they claim to compare."""

import dataclasses

import numpy as np
import torch

from benchmarks.same_output import difference
from benchmarks.train import Bench, looped, talker
from recipes.configs.talker import Batch, tiny


def test_one_patch_per_call_gives_the_loss_and_gradients_of_the_vectorised_step(monkeypatch):
    monkeypatch.setattr("benchmarks.train.FRAME_RATE", 4)  # four patches per clip
    run = dataclasses.replace(tiny(), batch=Batch(rows=2, micro=60, repeat=2))
    trainer, seen = talker(run, torch.device("cpu")), []
    bench = Bench(run, 2, trainer)
    trainer.module.heads.audio.decoder.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )

    def gradients():
        trainer.optimiser.zero_grad()
        return bench.gradients(), {name: p.grad for name, p in trainer.module.named_parameters()}

    loss, whole = gradients()
    assert seen == [2 * 4 * 2]
    with looped(trainer.module, 2):
        same, each = gradients()
    assert seen[1:] == 2 * 4 * [2]
    torch.testing.assert_close(same, loss)
    torch.testing.assert_close(each, whole)


def test_same_output_reports_every_bit_and_shape():
    one = np.linspace(0, 1, 12, dtype=np.float32).reshape(6, 2)
    other = one.copy()
    other[4, 1] = np.nextafter(other[4, 1], 2, dtype=np.float32)
    assert difference("PCM", one, one.copy()) is None
    assert "1 of 6 differ" in difference("PCM", one, other)
    assert "the first is 4" in difference("PCM", one, other)
    assert "(6, 2) before, float32 (5, 2) now" in difference("PCM", one, one[:5])
    assert difference("PCM", np.float32([0.0]), np.float32([-0.0])) is not None
