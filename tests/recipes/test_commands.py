"""Every training command in the docs and in a recipe's docstring is accepted by launcher and recipe."""

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

from recipes.launch import launch

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
