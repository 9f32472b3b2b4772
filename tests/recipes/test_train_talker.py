"""The talker's recipe, with a tiny model and random latents."""

import dataclasses
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_talker import random_clips

from heads.streams import Streams
from puppet.speech import PAUSE, Phoneme
from recipes import ranks
from recipes.checkpoints import place_initial_weights
from recipes.configs.talker import PRESETS, Batch, Mix, tiny
from recipes.data.latents import cache_folder
from recipes.data.reading import tokens_read
from recipes.engine import Engine
from recipes.export import export
from recipes.train_talker import (
    Data,
    build,
    check_widths,
    counts_of,
    draw,
    encoder_noise,
    perturb,
    train,
)
from talker.checkpoint import load_component
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.model.tasks import task_named
from talker.model.training_batch import Sample, collate
from talker.text.tokenizer import PhonemeTokenizer

FEW = dataclasses.replace(tiny(), steps=4)


@pytest.fixture(scope="module")
def data() -> Data:
    return random_clips()


def train_to(folder: Path, data: Data, steps: int, run=FEW) -> Engine:
    """Return the engine of a run of `run.steps` steps after the first `steps` of them."""
    engine = build(run, folder)
    train(engine, dataclasses.replace(run, steps=steps), data, data)
    return engine


def gradients(run, data: Data, number: int = 0) -> dict[str, torch.Tensor]:
    """Return the gradients that `train` computes in one step of a run, and the logged parts of its loss."""
    logged = {}

    def step(_: object, **parts: torch.Tensor) -> float:
        logged.update(parts)
        raise InterruptedError

    with tempfile.TemporaryDirectory() as folder:
        trainer = build(run, Path(folder))
        trainer.step_count, trainer.begun = number, True  # keeps the units of the latents
        trainer.load, trainer.step = lambda: number, step
        with pytest.raises(InterruptedError):
            train(trainer, run, data, data)
    return {name: p.grad for name, p in trainer.module.named_parameters()} | logged


def test_export_leaves_out_what_only_training_uses(tmp_path, data):
    train_to(tmp_path / "run", data, 1)
    export("talker", tmp_path / "run", tmp_path / "talker")
    loaded = load_component(TalkerModel, TalkerConfig, tmp_path / "talker")
    assert loaded.forecast is None
    assert loaded.config.tasks == FEW.model.tasks
    assert loaded.stats.audio_std.mean() > 1.5
    assert (tmp_path / "talker" / "run.json").exists()
    with pytest.raises(ValueError, match="a run of train_talker: export talker instead of audio_vae"):
        export("audio_vae", tmp_path / "run", tmp_path / "talker")


def test_latents_of_other_weights_are_an_error(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"ones")
    folder = cache_folder(tmp_path, tmp_path / "latents")
    assert cache_folder(tmp_path, folder) == folder
    (tmp_path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match="made by other weights"):
        cache_folder(tmp_path, folder)


def test_run_starts_from_given_weights_and_keeps_their_units(tmp_path, data):
    train_to(tmp_path / "first", data, 2)
    export("talker", tmp_path / "first", tmp_path / "exported")
    place_initial_weights(tmp_path / "second", tmp_path / "exported")
    given = load_component(TalkerModel, TalkerConfig, tmp_path / "exported").state_dict()
    engine = build(FEW, tmp_path / "second")
    assert engine.load() == 0
    for network in (engine.module, engine.ema_module):
        own = network.state_dict()
        assert all(torch.equal(value, own[name]) for name, value in given.items())
    other = Data.of(dataclasses.replace(data.held, audio=5 * data.held.audio))
    trained = train_to(tmp_path / "second", other, 2)
    assert torch.equal(trained.module.stats.audio_std, given["stats.audio_std"])
    place_initial_weights(tmp_path / "second", tmp_path / "exported")
    assert build(FEW, tmp_path / "second").load() == 2, "the run continues from its checkpoint"

    (tmp_path / "third").mkdir()
    save_file({"other": torch.zeros(2)}, tmp_path / "third" / "begin.safetensors")
    with pytest.raises(ValueError, match="no weights for this model"):
        build(FEW, tmp_path / "third").load()
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        place_initial_weights(tmp_path / "fourth", tmp_path / "nowhere")


def test_gradients_do_not_depend_on_the_number_of_passes(data):
    whole = gradients(tiny(), data)
    several = gradients(dataclasses.replace(tiny(), batch=Batch(rows=8, micro=2.4, repeat=1)), data)
    for name, gradient in whole.items():
        torch.testing.assert_close(several[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_ranks_draw_together_what_one_process_draws(data, monkeypatch):
    run = tiny()
    stats = build(run, Path()).module.stats
    clips = next(data.from_step(0, run.batch.rows))
    (whole, _), *_ = draw(data, 0, clips, run, stats)
    monkeypatch.setattr(ranks, "size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        (own, _), *_ = draw(data, 0, clips, run, stats)
        wide = own.read.shape[1]
        assert own.task_row.tolist() == whole.task_row[rank::2].tolist()
        for name, fed in own.fed.items():
            assert torch.equal(fed, whole.fed[name][rank::2, :wide])


def test_first_steps_draw_speech_alone_if_the_mix_says_so(data):
    run = dataclasses.replace(tiny(), steps=10, mix=dataclasses.replace(tiny().mix, speech_first=0.5))
    stats = build(run, Path()).module.stats
    clips = next(clips for clips in data.from_step(0, 8) if all(map(data.held.ids, clips)))
    batches = [draw(data, step, clips, run, stats)[0][0] for step in (0, 4, 5, 9)]
    assert [bool(batch.predicted["motion"].any()) for batch in batches] == [False, False, True, True]


def test_every_parameter_has_a_gradient_from_a_mixed_batch(data):
    for run in (tiny(), dataclasses.replace(tiny(), recompute=True)):
        without = [name for name, gradient in gradients(run, data).items() if not gradient.abs().sum() > 0]
        assert not without


def test_speech_alone_has_gradients_of_zero_in_the_motion_head(data):
    speech = dataclasses.replace(tiny(), mix=Mix(t2av=0.0, tts=1.0))
    spoken = next(k for k, clips in enumerate(data.from_step(0, 8)) if all(map(data.held.ids, clips)))
    found = gradients(speech, data, spoken)
    assert all(gradient is not None for gradient in found.values())
    moving = [name for name in found if name.startswith("heads.motion") and found[name].any()]
    assert not moving


def test_weights_stay_float32_under_bfloat16(tmp_path, data, monkeypatch):
    flops = []
    monkeypatch.setattr(Engine, "meter", lambda self, samples, count: flops.append(count) or {})
    run = dataclasses.replace(FEW, precision="bfloat16", recompute=True)
    engine = train_to(tmp_path, data, 2, run)
    assert engine.module.backbone.recompute
    assert 0 < flops[1] < 1.5 * flops[0], "each line of the log has the speed of its own steps"
    assert engine.backend.autocast._enabled
    assert all(value.dtype == torch.float32 for value in engine.module.state_dict().values())


def test_clips_of_other_widths_are_an_error(data):
    with pytest.raises(ValueError, match="other --codecs"):
        check_widths(data.held, PRESETS["release"]().model)


def test_batches_depend_on_seed_and_step_alone(data):
    first = data.from_step(0, 16)
    six = [next(first) for _ in range(6)]
    later = data.from_step(3, 16)
    assert six[3:] == [next(later) for _ in range(3)]
    assert not set(six[0]) & set(six[1])


def test_tokens_are_read_at_the_times_of_their_phonemes():
    tokenizer = PhonemeTokenizer()
    ids = tokenizer.encode("Hi, you.")  # h ˈaɪ , j u .
    sounds = [
        ("_", 0.0, 0.2),
        ("h", 0.2, 0.3),
        ("aɪ", 0.3, 0.5),
        (PAUSE, 0.5, 0.8),
        ("j", 0.8, 0.9),
        ("u", 0.9, 1.0),
    ]
    phonemes = [Phoneme(*one) for one in sounds]
    times = np.array([0.1, 0.25, 0.5, 0.8, 0.95, 3.0])
    read = tokens_read(ids, phonemes, times, tokenizer)
    np.testing.assert_allclose(read, [0, 0.5, 2, 3, 4.5, len(ids)], atol=1e-4)
    after = tokens_read(ids, phonemes, np.array([1.0, 1.125, 1.25]), tokenizer)
    np.testing.assert_allclose(after, [5, 5.5, 6], atol=1e-4)  # the full stop takes a quarter of a second
    assert tokens_read([], phonemes, times, tokenizer).tolist() == [0] * 6


def test_stop_labels_are_balanced_by_samples_that_end_alone() -> None:
    some = torch.tensor([[True, False, True], [True, True, False]])
    batch = SimpleNamespace(
        predicted={"audio": some, "motion": some[:1]},
        stop_label=torch.tensor([[0, 0, 1], [0, 0, -100]]),
        reads=some,
    )
    assert counts_of(batch, 3).tolist() == [12, 6, 4, 2, 5, 4, 2, 1]


def test_noise_is_fed_with_predicted_streams_only():
    """The audio that `a2v` gives stays clean; the motion that it predicts does not."""
    config, g = TalkerConfig.tiny(), torch.Generator().manual_seed(0)
    task = task_named(config.tasks, "a2v")
    sample = Sample(
        text=[1, 2, 3],
        task=task,
        latents=Streams(**{n: torch.randn(18, config.widths[n]) for n in task.given + task.predicted}),
        global_=Streams(**{n: torch.randn(config.global_widths[n]) for n in task.given + task.predicted}),
        read=None,
    )
    clean = collate([sample], config)
    noisy = perturb(clean, [sample], dataclasses.replace(FEW.noise, feedback=1.0), [g])
    assert noisy.fed["audio"].equal(clean.fed["audio"])
    assert not noisy.fed["motion"].equal(clean.fed["motion"])
    assert not noisy.fed["motion"][~clean.real["motion"]].any(), "frames that do not exist stay zero"


def test_noise_of_a_motion_encoder_shrinks_large_values():
    """The shift and the white noise do not depend on the values, so they are negligible here."""
    motion = 1e6 * torch.randn(3, 4, 24, generator=torch.Generator().manual_seed(0))
    ratio = encoder_noise(motion, 1.0, torch.Generator().manual_seed(1)) / motion
    assert -1.01 < ratio.min() < ratio.max() < 0.01
    assert ratio.std((0, 1)).max() < 0.01, "one share for the whole clip"
    assert ratio.mean((0, 1)).std() > 0.01
