"""Run configs: how presets differ, what `--set` accepts, and what a training needs."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from audio_vae.config import ConvolutionalConfig
from recipes.configs.override import names, override
from recipes.configs.talker import PRESETS, paper, puppet, release, tiny
from recipes.plan import forward_flops, main, memory_per_rank, parameters, plan
from talker.model.model import TalkerModel


def test_paper_and_release_differ_in_three_numbers() -> None:
    one, other = paper(), release()
    differing = [name for name in names(one) if value(one, name) != value(other, name)]
    assert differing == ["optim.warmup", "weights.motion", "sampling.temperature"]


def value(config: object, name: str) -> object:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def test_settings_change_nested_values() -> None:
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
def test_settings_are_converted_to_the_type_of_the_field(setting: str, expected: object) -> None:
    name = setting.partition("=")[0]
    found = value(override(override(puppet(), [f"recompute={not expected}"]), [setting]), name)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optim.rat=1", "nearest name is 'optim.lr'"),
        ("optm.clip=1", "nearest name is 'optim.clip'"),
        ("optim=1", "there is no 'optim'"),
        ("steps=many", "steps must be of type int"),
        ("steps=1.5", "steps must be of type int, not '1.5'"),
        ("steps=1e999", "steps must be of type int"),
        ("steps=true", "steps must be of type int"),
        ("recompute=1", "recompute must be of type bool"),
        ("recompute=yes", "recompute must be of type bool"),
        ("optim.betas=(0.9,)", r"optim.betas must be of type tuple\[float, float\], not '\(0.9,\)'"),
        ("optim.betas=(0.9, 'a')", "optim.betas must be of type"),
        ("optim.betas=0.9", "optim.betas must be of type"),
        ("optim.lr=1" + 400 * "0", "optim.lr must be of type float"),
        ("model.tasks=('dance',)", "model.tasks must be of type"),
        ("steps", "--set expects NAME=VALUE"),
        ("#=1", "there is no '#'; the nearest name is"),
        ("precision=float16", "precision must be one of float32, bfloat16"),
    ],
)
def test_wrong_settings_are_errors(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(puppet(), [setting])


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
def test_values_out_of_range_are_errors(setting: str) -> None:
    with pytest.raises(ValueError, match=setting.split("=")[0].split(".")[-1]):
        override(tiny(), [setting])


def test_first_steps_train_speech_alone_if_the_mix_says_so() -> None:
    run = override(tiny(), ["steps=10", "mix.speech_first=0.2"])
    assert [run.mix_at(step).tts for step in range(3)] == [1, 1, run.mix.tts]
    assert run.mix_at(1).t2av == 0
    assert run.mix_at(2) == run.mix
    assert tiny().mix_at(0) == tiny().mix


def test_more_ranks_than_rows_are_an_error() -> None:
    assert dataclasses.replace(tiny()).passes(2, 8.0) == 1
    assert tiny().passes(3, 1e9) == 2, "three passes of three ranks would leave one without a clip"
    with pytest.raises(ValueError, match=r"batch\.rows"):
        tiny().passes(9, 8.0)


def test_plan_counts_parameters_memory_and_flops() -> None:
    config = tiny().model
    assert sum(parameters(config).values()) == sum(p.numel() for p in TalkerModel(config).parameters())
    one, four = (sum(memory_per_rank(1000, 3, ranks).values()) for ranks in (1, 4))
    assert one == 24_000
    assert four == 5_000 + 4_000
    once = forward_flops(config, 1, 20, 10, {"audio": 5, "motion": 5})
    assert forward_flops(config, 2, 20, 20, {"audio": 10, "motion": 10}) == 2 * once


RECORDED_PLAN = [
    "backbone 596.05 M parameters",
    "task_embedding 0.00 M parameters",
    "patch_encoders 102.84 M parameters",
    "heads 212.36 M parameters",
    "stop_head 1.05 M parameters",
    "motion_pad_emb 0.00 M parameters",
    "all 912.30 M",
    "",
    "GiB on each of 8 rank(s), without activations:",
    "ZeRO-0 16.99 (weights 3.40, gradients 3.40, optimiser 6.80, average 3.40)",
    "ZeRO-1 11.47 (weights 3.40, gradients 3.40, optimiser 0.85, masters 0.42, average 3.40) <- this config",
    "ZeRO-2 8.50 (weights 3.40, gradients 0.42, optimiser 0.85, masters 0.42, average 3.40)",
    "ZeRO-3 5.52 (weights 0.42, gradients 0.42, optimiser 0.85, masters 0.42, average 3.40)",
    "activations of 16 clips of 10 s in one pass: about 15.53 GiB",
    "",
    "a step: 256 clips in 2 passes a rank, 47,104 tokens, 468.8 TFLOP",
    "100,000 steps: 4.71 G tokens, 71,111 hours of clips, 46.9 EFLOP",
]


def test_plan_of_the_release_is_as_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--ranks 8 --seconds 10 --text 120 --set steps=100000"
    monkeypatch.setattr(sys, "argv", ["plan", "release", *options.split()])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines] == RECORDED_PLAN
