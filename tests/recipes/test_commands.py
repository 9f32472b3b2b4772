"""Every command that trains and that a page or a recipe's docstring shows is taken as it is written: by its
launcher, by the recipe, and by the config."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
import torch.distributed.run as torchrun

from recipes.arguments import started

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
RECIPES = {
    path: ast.get_docstring(ast.parse(path.read_text())) for path in (ROOT / "recipes").glob("train_*.py")
}
COMMAND = re.compile(r"^ *((?:python|torchrun|deepspeed) .*\brecipes\.train_.*?)(?:  .*)?$", re.M)


def commands() -> list[str]:
    """Continued lines are joined, brackets about what may be left out are gone, and so is what is said
    beside the command."""
    texts = (re.sub(r" *\\\n *", " ", text or "") for text in (*PAGES.values(), *RECIPES.values()))
    return sorted({re.sub(r"[][]", "", found) for text in texts for found in COMMAND.findall(text)})


def told_to_recipe(command: str) -> list[str]:
    """The recipe's module and what its launcher hands on to it."""
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


class TakenError(Exception):
    """The command line is read, and nothing is trained."""


def only_started(parser: ArgumentParser) -> None:
    with started(parser):
        raise TakenError


def test_every_recipe_is_shown_and_every_launcher() -> None:
    shown = commands()
    assert {path.stem for path in RECIPES} == {re.findall(r"recipes\.(train_\w+)", one)[0] for one in shown}
    assert {one.split()[0] for one in shown} == {"python", "torchrun", "deepspeed"}


@pytest.mark.parametrize("command", commands())
def test_command(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    module, *arguments = told_to_recipe(command)
    recipe = importlib.import_module(module)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.setattr(recipe, "started", only_started)
    with pytest.raises(TakenError):
        recipe.main()
