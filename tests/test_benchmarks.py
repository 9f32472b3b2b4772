"""What benchmarks compare computes the same."""

import dataclasses

import torch

from benchmarks.train import Bench, looped, talker
from recipes.configs.talker import Batch, tiny


def test_a_patch_at_a_time_is_the_vectorised_step(monkeypatch):
    monkeypatch.setattr("benchmarks.train.FRAME_RATE", 4)  # four patches a clip
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
