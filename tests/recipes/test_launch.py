"""What `launch` does before and after the body of every recipe."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_recipes import RECIPES

from recipes import train_speaker, train_talker
from recipes.configs.talker import PRESETS, tiny
from recipes.launch import argument_parser, launch


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["train_talker", *map(str, arguments)])


def test_launch_yields_config_and_device_and_creates_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "one"
    command(monkeypatch, "--config", "tiny", "--set", "steps=7", "--run", run, "--minutes", "3")
    with launch(argument_parser("talker", None, PRESETS)) as (options, config, device):
        assert config.steps == 7
        assert config.model == tiny().model
        assert options.minutes == 3
        assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
        assert run.is_dir()


@pytest.mark.parametrize("error", [None, ValueError, KeyError])
def test_thread_count_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    before = torch.get_num_threads()
    command(monkeypatch, "--run", tmp_path, "--threads", str(before + 1))
    inside = []

    def train() -> None:
        with launch(argument_parser("talker", None, PRESETS)):
            inside.append(torch.get_num_threads())
            if error:
                raise error("message")

    if error:
        with pytest.raises(SystemExit if error is ValueError else error, match="message"):
            train()
    else:
        train()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "optim.rat=1"), "train_talker: --set optim.rat=1: there is no 'optim.rat'"),
        (("--begin", "nowhere"), r"train_talker: --begin nowhere: .*model\.safetensors cannot be read"),
        (("--run", __file__), "train_talker: cannot create the folder --run .*test_launch.py"),
    ],
)
def test_wrong_options_end_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    command(monkeypatch, "--run", tmp_path, *arguments)
    with pytest.raises(SystemExit, match=message), launch(argument_parser("talker", None, PRESETS)):
        pass


def test_old_option_names_the_new_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, "--weights", "folder")
    with pytest.raises(SystemExit):
        train_talker.main()
    assert "--weights is now called --codecs" in capsys.readouterr().err


def test_begin_copies_weights_into_a_new_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"weight": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "state.pt").touch()
    for name, copied in (("new", True), ("old", False)):
        command(monkeypatch, "--run", tmp_path / name, "--begin", tmp_path)
        with launch(argument_parser("talker", None, PRESETS)):
            assert (tmp_path / name / "begin.safetensors").exists() == copied
    assert "continues from its checkpoint and ignores --begin" in capsys.readouterr().out


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_accepts_zero_or_refuses_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recipe = importlib.import_module(f"recipes.train_{name}")
    accepting = {"audio_vae", "speaker", "talker"}
    for stage in (1, 2, 3):
        command(monkeypatch, "--config", "tiny", "--set", f"zero={stage}", "--run", tmp_path)
        if name in accepting:
            with launch(argument_parser(name, None, recipe.PRESETS)) as (_, config, _):
                assert config.zero == stage
            continue
        with pytest.raises(SystemExit) as refused:
            recipe.main()
        message = str(refused.value)
        assert message.startswith(f"train_{name}: this recipe cannot run with zero={stage}, because ")
        assert message.endswith(": set zero=0")
        assert "\n" not in message


def test_speaker_with_margin_loss_refuses_zero() -> None:
    with pytest.raises(ValueError, match=r"zero=1, because the margin loss .*: set zero=0"):
        dataclasses.replace(train_speaker.margin(), zero=1)
