"""The talker's recipe on a tiny model and made-up latents: it resumes bit by bit, and exports what loads."""

import numpy as np
import pytest
import torch

from recipes.data.latents import Latents
from recipes.data.puppet.speech import PAUSE, Phoneme
from recipes.data.reading import tokens_read
from recipes.train_talker import Data, build, export, rate_at, train
from talker.checkpoint import load_component
from talker.config import TalkerConfig
from talker.model import TalkerModel
from talker.text import PhonemeTokenizer

TINY = TalkerConfig.tiny()


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    frames, letters = rng.integers(3, 6, 40) * 4, rng.integers(4, 9, 40)
    letters[3] = 0  # an idle clip
    starts = [np.concatenate([[0], np.cumsum(counts)]) for counts in (frames, letters)]
    read = [np.linspace(0, n, f // 4) for n, f in zip(letters, frames, strict=True)]
    return Data.of(
        Latents(
            audio=rng.normal(1, 2, (frames.sum(), TINY.widths["audio"])).astype(np.float16),
            motion=rng.normal(size=(frames.sum(), TINY.widths["motion"])).astype(np.float16),
            text=rng.integers(1, 40, letters.sum()).astype(np.int16),
            read=np.concatenate(read).astype(np.float16),
            voice=rng.integers(0, 5, 40).astype(np.int32),
            speaker=rng.normal(size=(40, TINY.global_widths["audio"])).astype(np.float16),
            frame_starts=starts[0],
            text_starts=starts[1],
        )
    )


def parameters(engine) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in engine.module.state_dict().items()}


def test_resumes_bit_by_bit_and_exports(tmp_path, data):
    straight = build(TINY, tmp_path / "straight", steps=4)
    train(straight, data, data, steps=4)
    train(build(TINY, tmp_path / "broken", steps=4), data, data, steps=2)
    resumed = build(TINY, tmp_path / "broken", steps=4)
    train(resumed, data, data, steps=4)
    for name, value in parameters(straight).items():
        assert torch.equal(value, parameters(resumed)[name]), name
    assert straight.step_count == resumed.step_count == 4

    export(build(TINY, tmp_path / "broken", steps=4), tmp_path / "talker")
    loaded = load_component(TalkerModel, TalkerConfig, tmp_path / "talker")
    assert loaded.forecast is None
    assert loaded.config.tasks == TINY.tasks
    assert loaded.stats.audio_std.mean() > 1.5


def test_batches_are_a_function_of_seed_and_step(data):
    first = data.from_step(0)
    six = [next(first) for _ in range(6)]
    later = data.from_step(3)
    assert six[3:] == [next(later) for _ in range(3)]
    assert not set(six[0]) & set(six[1])


def test_rate_does_not_depend_on_the_end_before_the_fall():
    short, long = rate_at(1000), rate_at(2000)
    assert [short(s) for s in range(800)] == [long(s) for s in range(800)]
    assert short(999) < 0.01 + 1e-9
    assert short(900) == pytest.approx(0.5)


def test_reading_follows_the_sounds():
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
    assert tokens_read([], phonemes, times, tokenizer).tolist() == [0] * 6
