"""Sample clips are written in validation; neither they nor their errors change the training."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from prepared_data import sample, write_prepared
from tiny_checkpoint import write_checkpoint

from heads.config import TwoDiTHeadsConfig
from recipes import ranks, samples
from recipes.configs.talker import Batch, Mix, tiny
from recipes.data.prepared import Prepared
from recipes.samples import samples_for, task_means
from recipes.train_talker import Data, build, train
from talker.clock import HOP
from talker.media.readers import read_audio, read_frames
from talker.shipped import PUPPET

NARROW = dataclasses.replace(tiny().model, heads=TwoDiTHeadsConfig.tiny())  # widths of the tiny autoencoders
RUN = dataclasses.replace(
    tiny(), model=NARROW, steps=2, batch=Batch(rows=2, micro=60, repeat=1), validate_every=2, generate_every=2
)


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = [[sample(f"video{k}-0", 2, k, config=NARROW)] for k in range(4)]
    return write_prepared(tmp_path_factory.mktemp("prepared"), clips)


def trained(run: Path, prepared: Path, codecs: Path | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and random state after two steps; with `codecs`, samples are generated."""
    engine = build(RUN, run)
    data, heldout = (Prepared(prepared, split) for split in ("train", "heldout"))
    samples = samples_for(engine.ema_module, RUN, codecs, heldout) if codecs else None
    train(engine, RUN, Data.of(data), Data.of(heldout), samples=samples)
    return torch.nn.utils.parameters_to_vector(engine.module.parameters()), torch.get_rng_state()


@pytest.mark.long
def test_samples_of_every_task_are_written_and_do_not_change_the_training(
    tmp_path: Path, prepared: Path, codecs: Path
) -> None:
    threads = torch.get_num_threads()
    with_samples = trained(tmp_path / "with", prepared, codecs)
    assert torch.get_num_threads() == threads
    for found, expected in zip(with_samples, trained(tmp_path / "without", prepared), strict=True):
        assert torch.equal(found, expected)
    assert not (tmp_path / "without" / "samples").exists()
    folder = tmp_path / "with" / "samples" / "00000002"
    rows = json.loads((folder / "clips.json").read_text())
    assert [row["task"] for row in rows] == ["t2av", "tts", "a2v", "v2a"]
    for row in rows:
        path = folder / f"{row['clip']}-{row['task']}.{'wav' if row['task'] == 'tts' else 'mp4'}"
        assert len(read_audio(path)) >= 24_000 * row["seconds"]
        if row["task"] != "tts":
            assert all(frame.std() > 0 for frame in read_frames(path))
        if "exact" in row:
            assert row["exact"]


def test_error_in_samples_is_printed_and_training_continues(
    tmp_path: Path,
    prepared: Path,
    codecs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads, given = torch.get_num_threads(), []

    def missing(*arguments: object) -> None:
        given.append(arguments[3:])
        torch.set_num_threads(threads + 1)
        torch.rand(3)
        raise ImportError("No module named 'numba'")

    monkeypatch.setattr("recipes.samples.perform_clip", missing)
    ended = trained(tmp_path / "failing", prepared, codecs)
    printed = [line for line in capsys.readouterr().out.splitlines() if "no samples" in line]
    assert len(printed) == 1
    assert "No module named 'numba'" in printed[0]
    assert given == [(["t2av", "tts", "a2v", "v2a"], RUN.seed, RUN.sampling)]
    assert torch.get_num_threads() == threads
    without = trained(tmp_path / "without", prepared)
    assert all(torch.equal(one, other) for one, other in zip(ended, without, strict=True))


def test_tasks_without_a_share_in_the_mix_have_no_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(samples, "perform_clip", lambda *all: given.append(all[3]) or [])
    run = dataclasses.replace(RUN, mix=Mix(t2av=0.5, tts=0.0, a2v=0.5, v2a=0.0))
    samples.Samples._generate(SimpleNamespace(_clips=[None], _held=None), None, run, tmp_path)
    assert given == [["t2av", "a2v"]]


def test_run_without_samples_prints_why(
    codecs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(RUN, Path()).ema_module
    assert samples_for(model, dataclasses.replace(RUN, generate_every=0), codecs, None) is None
    assert not capsys.readouterr().out
    assert samples_for(model, RUN, PUPPET, None) is None
    assert "set --codecs to the checkpoint that made the latents" in capsys.readouterr().out
    assert samples_for(model, RUN, codecs / "nowhere", None) is None
    assert "config.json is missing" in capsys.readouterr().out
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    assert samples_for(model, RUN, codecs, None) is None
    assert not capsys.readouterr().out


def test_means_pool_edits_and_leave_out_missing_measures() -> None:
    rows = [
        {"task": "t2av", "edits": 1, "phonemes": 10, "offset": -3, "confidence": 0.5},
        {"task": "t2av", "edits": 5, "phonemes": 20, "offset": 1, "confidence": 0.3},
        {"task": "t2av", "edits": 0, "phonemes": 10},  # too short for an offset
        {"task": "tts", "edits": 4, "phonemes": 0},
    ]
    found = task_means(rows)
    assert found == pytest.approx({"t2av_per": 6 / 40, "t2av_offset": 2.0, "t2av_confidence": 0.4})
    assert not any(math.isnan(value) for value in found.values())


def test_only_clips_of_the_default_codecs_are_measured(
    codecs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = build(RUN, Path()).ema_module, [{"task": "tts", "edits": 1, "phonemes": 4}]
    monkeypatch.setattr(samples.Samples, "_generate", lambda *_: rows)
    for default, expected in ((PUPPET, {}), (codecs, {"tts_per": 0.25})):
        monkeypatch.setattr(samples, "PUPPET", default)
        made = samples_for(model, RUN, codecs, None)
        assert made is not None
        assert made(RUN, tmp_path) == expected


def test_decoded_clips_have_a_text_and_two_to_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sound of this system has the value of the audio latents, its pictures that of the motion."""
    frames = [49, 50, 251, 250, 60]
    held = SimpleNamespace(
        frames=frames,
        ids=lambda clip: [1] if clip != 4 else [],
        text=lambda clip: f"words {clip}",
        of=lambda name, clip: torch.full((frames[clip], 2), clip + 10 * (name == "motion")),
    )
    system = SimpleNamespace(
        patch_frames=4,
        resolution=32,
        decode=lambda audio: (x[:, 0].repeat_interleave(HOP).float().numpy() for x in audio),
        render=lambda motion, face: (x[:, 0, None, None, None].expand(-1, 8, 8, 3).numpy() for x in motion),
    )
    talker = SimpleNamespace(system=system, portrait=lambda path: SimpleNamespace(source=None))
    monkeypatch.setattr(
        samples, "recogniser", lambda: SimpleNamespace(transcribe=lambda pcm: [str(len(pcm))])
    )
    found = list(samples.decoded_clips(talker, held))  # type: ignore[arg-type]
    assert [(case.name, case.text) for case, _ in found] == [("0001", "words 1"), ("0003", "words 3")]
    for (case, pictures), clip in zip(found, (1, 3), strict=True):
        count = frames[clip] // 4 * 4
        assert (len(case.pcm), len(pictures)) == (count * HOP, count)
        assert case.phonemes == [str(count * HOP)]
        assert (case.pcm == clip).all()
        assert (pictures == clip + 10).all()
        assert (case.prompt.equal(case.pcm), case.portrait.shape) == (True, (32, 32, 3))
    held.ids = lambda clip: []
    with pytest.raises(ValueError, match="no held-out clip of 2 to 10 s has a text"):
        next(samples.decoded_clips(talker, held))  # type: ignore[arg-type]
