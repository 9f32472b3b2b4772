"""Run configs: what differs between the presets, what `--set` takes and refuses, what a run writes down."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from audio_vae.config import ConvolutionalConfig
from recipes.configs.override import names, override
from recipes.configs.talker import PRESETS, TalkerRun, paper, puppet, release, tiny
from recipes.plan import forward_flops, kept_by_rank, parameters, plan
from recipes.record import record, recorded
from talker.model.model import TalkerModel


def test_paper_and_release_differ_in_three_numbers() -> None:
    ours, theirs = paper(), release()
    differing = [name for name in names(ours) if value(ours, name) != value(theirs, name)]
    assert differing == ["optim.warmup", "weights.motion", "sampling.temperature"]


def value(config: object, name: str) -> object:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def test_settings_reach_nested_values() -> None:
    run = override(puppet(), ["optim.lr=2e-4", "steps=7", "precision=bfloat16", "optim.betas=(0.8, 0.9)"])
    assert (run.optim.lr, run.steps, run.precision, run.optim.betas) == (2e-4, 7, "bfloat16", (0.8, 0.9))
    assert override(run, ["optim.clip=2"]).optim.clip == 2.0
    assert override(ConvolutionalConfig(), ["strides=(2, 1e1)"]).strides == (2, 10)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("recompute=true", True),
        ("recompute=True", True),
        ("recompute=false", False),
        ("steps=1e3", 1000),
        ("optim.betas=(0, 0.5)", (0.0, 0.5)),
    ],
)
def test_settings_become_the_kind_of_their_name(setting: str, expected: object) -> None:
    name = setting.partition("=")[0]
    found = value(override(override(puppet(), [f"recompute={not expected}"]), [setting]), name)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("optim.rat=1", "nearest name is 'optim.lr'"),
        ("optm.clip=1", "nearest name is 'optim.clip'"),
        ("optim=1", "no 'optim' to set"),
        ("steps=many", "steps is of kind int"),
        ("steps=1.5", "steps is of kind int; '1.5' is not"),
        ("steps=1e999", "steps is of kind int"),
        ("steps=true", "steps is of kind int"),
        ("recompute=1", "recompute is of kind bool"),
        ("recompute=yes", "recompute is of kind bool"),
        ("optim.betas=(0.9,)", r"optim.betas is of kind tuple\[float, float\]; '\(0.9,\)' is not"),
        ("optim.betas=(0.9, 'a')", "optim.betas is of kind"),
        ("optim.betas=0.9", "optim.betas is of kind"),
        ("optim.lr=1" + 400 * "0", "optim.lr is of kind float"),
        ("model.tasks=('dance',)", "model.tasks is of kind"),
        ("steps", "name=value"),
        ("precision=float16", "one of float32, bfloat16"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        override(puppet(), [setting])


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = override(tiny(), ["optim.lr=3e-4"])
    record(tmp_path, "talker", run, "none")
    assert recorded(tmp_path, TalkerRun, None) == run
    assert recorded(tmp_path / "older", TalkerRun, run) is run


def test_a_run_that_goes_on_otherwise_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer = override(tiny(), ["steps=77", "optim.lr=3e-4"])
    record(tmp_path, "talker", tiny(), "old")
    record(tmp_path, "talker", longer, "new")  # nothing was saved, so it begins anew
    (tmp_path / "state.pt").touch()
    record(tmp_path, "talker", longer, "new")
    assert capsys.readouterr().out == ""
    record(tmp_path, "talker", tiny(), "newer")
    data, config = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}: goes on with other data than it was trained on (new, now newer): " in data
    changes = f"steps 77 -> {tiny().steps}, optim.lr 0.0003 -> {tiny().optim.lr}"
    assert config == f"{tmp_path}: goes on with another config: {changes}"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_plan(name: str) -> None:
    assert any("TFLOP" in line for line in plan(PRESETS[name](), ranks=2, seconds=4.0, text=50))


@pytest.mark.parametrize(
    "setting",
    [
        *("optim.ema=2", "optim.clip=0", "optim.warmup=-1", "batch.repeat=0", "batch.micro=0"),
        *("generate_every=-1", "mix.t2av=-1", "steps=0", "zero=7"),
    ],
)
def test_values_that_cannot_be_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=setting.split("=")[0].split(".")[-1]):
        override(tiny(), [setting])


def test_speech_comes_first_where_the_mix_says_so() -> None:
    run = override(tiny(), ["steps=10", "mix.speech_first=0.2"])
    assert [run.mix_at(step).tts for step in range(3)] == [1, 1, run.mix.tts]
    assert run.mix_at(1).t2av == 0
    assert run.mix_at(2) == run.mix
    assert tiny().mix_at(0) == tiny().mix


def test_more_ranks_than_rows_are_refused() -> None:
    assert dataclasses.replace(tiny()).passes(2, 8.0) == 1
    with pytest.raises(ValueError, match=r"batch\.rows"):
        tiny().passes(9, 8.0)


def test_the_plan_counts_what_there_is() -> None:
    config = tiny().model
    assert sum(parameters(config).values()) == sum(p.numel() for p in TalkerModel(config).parameters())
    alone, shared = (sum(kept_by_rank(1000, 3, ranks).values()) for ranks in (1, 4))
    assert alone == 24_000
    assert shared == 5_000 + 4_000
    once = forward_flops(config, 1, 20, 10, {"audio": 5, "motion": 5})
    assert forward_flops(config, 2, 20, 20, {"audio": 10, "motion": 10}) == 2 * once
