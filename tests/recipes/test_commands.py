"""Every training command in the docs and in a recipe's docstring is accepted by launcher and recipe."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import sys
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed.run as torchrun
from tiny_talker import random_clips

from recipes.launch import launch
from recipes.train_recogniser import Sounds

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
RECIPES = {
    path: ast.get_docstring(ast.parse(path.read_text())) for path in (ROOT / "recipes").glob("train_*.py")
}
COMMAND = re.compile(r"^ *((?:python|torchrun|deepspeed) .*\brecipes\.train_.*?)(?:  .*)?$", re.M)


def commands() -> list[str]:
    """Return the commands, with continued lines joined and without brackets and comments."""
    texts = (re.sub(r" *\\\n *", " ", text or "") for text in (*PAGES.values(), *RECIPES.values()))
    return sorted({re.sub(r"[][]", "", found) for text in texts for found in COMMAND.findall(text)})


def recipe_arguments(command: str) -> list[str]:
    """Return the recipe's module and the arguments that the launcher passes to it."""
    launcher, *arguments = shlex.split(command)
    if launcher == "python":
        return arguments[arguments.index("-m") + 1 :]
    if launcher == "torchrun":
        options = torchrun.parse_args(arguments)
        assert options.module
        return [options.training_script, *options.training_script_args]
    runner = pytest.importorskip("deepspeed.launcher.runner")
    options = runner.parse_args(arguments)
    assert options.module
    return [options.user_script, *options.user_args]


class AcceptedError(Exception):
    """Raised once the command line is accepted, so that nothing is trained."""


def accept_only(parser: ArgumentParser) -> None:
    with launch(parser):
        raise AcceptedError


def test_docs_show_every_recipe_and_every_launcher() -> None:
    shown = commands()
    assert {path.stem for path in RECIPES} == {re.findall(r"recipes\.(train_\w+)", one)[0] for one in shown}
    assert {one.split()[0] for one in shown} == {"python", "torchrun", "deepspeed"}


@pytest.mark.parametrize("command", commands())
def test_command_is_accepted(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    module, *arguments = recipe_arguments(command)
    recipe = importlib.import_module(module)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.setattr(recipe, "launch", accept_only)
    with pytest.raises(AcceptedError):
        recipe.main()


FRAMES = {
    "FrameBank": lambda folder, split, people: (folder, split, people),
    "first_pairs": lambda bank, count: (bank, count),
    "to_batch": lambda pairs, *weights: pairs,
}
# What replaces the data of each recipe, under the name of the function or class that makes it: the split, and
# how many clips of it are wanted.
DATA: dict[str, dict[str, Any]] = {
    "audio_vae": {"spoken_clips": lambda run: ("clips", run)},
    "audio_vae_adversarial": {"spoken_clips": lambda run: ("clips", run)},
    "audio_vae_source_filter": {"WorldBank": lambda folder, split: (folder, split)},
    "speaker": {
        "speech": lambda bank, split: (bank, split),
        "prepare": lambda folder, spoken, each: (folder.name, spoken, each),
    },
    "recogniser": {
        "speech": lambda bank, split: (bank, split),
        "prepare": lambda folder, spoken, count: Sounds((folder.name, spoken), count, [["b", "a"]]),
    },
    "sync": {
        "corpus": lambda split, bank: SimpleNamespace(speech=(bank, split)),
        "prepare": lambda folder, speech, make_scene, count: (folder.name, speech, count),
    },
    "motion_ae": FRAMES,
    "motion_ae_selfsupervised": FRAMES,
    "talker": {
        "latents": lambda folder, split, clips, bank: random_clips(clips).held,
        "samples_for": lambda model, run, codecs, held: (run.seed, codecs, held),
    },
}


@pytest.mark.parametrize("name", DATA)
def test_command_passes_its_options_and_both_splits_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """A function that notes its arguments replaces the training."""
    recipe, given = importlib.import_module(f"recipes.train_{name}"), dict[str, Any]()
    for maker, replacement in DATA[name].items():
        monkeypatch.setattr(recipe, maker, replacement)
    signature = inspect.signature(recipe.train)
    monkeypatch.setattr(recipe, "train", lambda *a, **k: given.update(signature.bind(*a, **k).arguments))
    options = ["--config", "tiny", "--run", tmp_path / "run", "--minutes", 3, "--set", "seed=7"]
    if name == "talker":
        options += ["--codecs", tmp_path, "--set", "clips=6", "--set", "heldout=5"]
    elif name.startswith("motion_ae"):
        options += ["--frames", tmp_path]
    else:
        options += ["--set", "bank=here"]
    monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
    recipe.main()
    run = given["run"]
    assert (run.seed, given["minutes"]) == (7, 3)
    if name == "talker":
        assert given["trainer"].run == tmp_path / "run"
        assert (len(given["data"].held), len(given["heldout"].held)) == (6, 5)
        assert given["samples"] == (7, tmp_path, None)
        return
    assert given["folder"] == tmp_path / "run"
    assert given["device"].type == ("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("motion_ae"):
        assert given["bank"] == (tmp_path, "train", run.people)
        assert given["heldout"] == ((tmp_path, "heldout", 256), run.heldout)
    elif name.endswith("source_filter"):
        assert given["banks"] == ((Path(run.bank), "train"), (Path(run.bank), "heldout"))
    elif name.startswith("audio_vae"):
        assert given["clips"] == ("clips", run)
    elif name == "recogniser":
        assert run.model.symbols == ("a", "b")
        assert [given[part].starts for part in ("sounds", "unseen")] == [run.clips, run.heldout]
        assert [given[part].pcm for part in ("sounds", "unseen")] == [
            (split, ("here", split)) for split in ("train", "heldout")
        ]
    else:
        count = run.sentences if name == "speaker" else run.clips
        assert list(given.values())[2:4] == [
            ("train", ("here", "train"), count),
            ("heldout", ("here", "heldout"), run.heldout),
        ]
