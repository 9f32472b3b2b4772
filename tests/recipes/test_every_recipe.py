"""What holds of every recipe at tiny size: it steps, is cut, resumes to the bit, exports and is shared."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_recipes
import torch
from tiny_recipes import RECIPES, tiny
from tiny_talker import ROOT, finish, free_port, start

from recipes.export import export
from recipes.launch import Engine
from recipes.record import recorded
from talker.checkpoint import load_component

LAUNCHERS = (
    ("deepspeed", "--num_gpus=2", "--module"),
    ("torchrun", "--standalone", "--nproc-per-node=2", "-m", "--"),
    ("python", "-m"),
)
# Every recipe as its tiny preset has it, and the other loss where there are two. Frames of a tone are alike:
# where rounding turns one ReLU, the gradient jumps; at this scale it did not.
FORMS = [
    *(pytest.param(name, (), id=name) for name in RECIPES),
    pytest.param("speaker", ("loss=margin", "scale=5"), id="speaker-margin"),
]
UNSHARED = ("minutes", "samples_s", "memory_gib")


def logged(folder: Path) -> list[dict[str, float]]:
    """Rows about steps of training, in the order of a run's log."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "samples_s" in row]


def terminate_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is asked to end when an engine has done so many steps."""
    whole = Engine.step

    def stepping(self: Engine, *given: Any, **parts: Any) -> float:
        norm = whole(self, *given, **parts)
        if self.step_count == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return norm

    monkeypatch.setattr(Engine, "step", stepping)


def check_export(name: str, run: Path, folder: Path) -> None:
    """What is exported loads, and is the moving average."""
    export(name, run, folder)
    averaged = importlib.import_module(f"recipes.train_{name}").averaged(run)
    loaded = load_component(type(averaged), type(averaged.config), folder)
    assert loaded.config == averaged.config
    for key, value in averaged.state_dict().items():
        assert torch.equal(loaded.state_dict()[key].half(), value.half()), key


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_two_steps_cut_between_resumed_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, settings: tuple[str, ...]
) -> None:
    run, train, cut = tiny(name, "steps=2", *settings), RECIPES[name], tmp_path / "cut"
    whole = train(tmp_path / "whole", run)
    with monkeypatch.context() as patched:
        terminate_after(1, patched)
        with pytest.raises(SystemExit):
            train(cut, run)
    resumed = train(cut, run)
    assert whole.step_count == resumed.step_count == 2
    assert whole.skipped == 0
    for ours, theirs in ((resumed.module, whole.module), (resumed.ema_module, whole.ema_module)):
        assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    assert recorded(cut, type(run), None) == run

    check_export(name, cut, tmp_path / "exported")


@pytest.mark.long
@pytest.mark.parametrize("name", RECIPES)
def test_what_is_skipped_is_not_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    backward = Engine.backward
    monkeypatch.setattr(Engine, "backward", lambda self, loss: backward(self, loss * spoilt[self.step_count]))
    spoilt = [1.0, torch.nan]
    assert RECIPES[name](tmp_path, tiny(name, "steps=2", "log_every=2")).skipped == 1
    both = logged(tmp_path)
    spoilt[1] = 1.0
    RECIPES[name](tmp_path / "first", tiny(name, "steps=2"))
    first = logged(tmp_path / "first")
    for row in (*first, *both):
        for varies in (*UNSHARED, "step"):
            del row[varies]
    assert both == first[:1] != first[1:]


@pytest.mark.long
@pytest.mark.parametrize("name", ["audio_vae_adversarial", "motion_ae", "motion_ae_selfsupervised"])
def test_older_run_folders_export_and_continue(tmp_path: Path, name: str) -> None:
    """They recorded the network's config alone, and averaged all that was trained."""
    train, recipe = RECIPES[name], importlib.import_module(f"recipes.train_{name}")
    engine = train(tmp_path, tiny(name, "steps=1"))
    wanted = recipe.averaged(tmp_path).state_dict()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    part = {f"{engine.averaged}.{key}": value for key, value in state["ema"].items()}
    assert part.keys() < state["module"].keys()
    torch.save(state | {"ema": state["module"] | part}, tmp_path / "state.pt")
    said = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(said | {"config": said["config"]["model"]}))
    found = recipe.averaged(tmp_path).state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    assert train(tmp_path, tiny(name, "steps=2")).step_count == 2


@pytest.mark.long
@pytest.mark.parametrize("name", RECIPES)
def test_what_one_launcher_began_the_others_continue(tmp_path: Path, name: str) -> None:
    """The commands themselves, on the corpus, of which the first one's ranks make what they need."""
    pytest.importorskip("deepspeed")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    few = ("clips=8", "heldout=8", "zero=1") if name == "talker" else ()
    for steps, (program, *options) in zip((2, 4, 6), LAUNCHERS, strict=True):
        settings = [part for value in (f"steps={steps}", *few) for part in ("--set", value)]
        port = [f"--master_port={free_port()}"] if program == "deepspeed" else []
        command = [str(Path(sys.executable).with_name(program)), *port, *options, f"recipes.train_{name}"]
        said = subprocess.run(
            [*command, "--config", "tiny", "--run", "run", *settings],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert said.returncode == 0, said.stdout[-2000:] + said.stderr[-4000:]
        assert [row["step"] for row in logged(tmp_path / "run")] == list(range(1, steps + 1))
        shared = json.loads((tmp_path / "run" / "run.json").read_text())["environment"]["processes"]
        assert shared == (1 if program == "python" else 2)
    check_export(name, tmp_path / "run", tmp_path / "exported")


@pytest.mark.long
@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_two_processes_follow_the_curve_of_one(tmp_path: Path, name: str, settings: tuple[str, ...]) -> None:
    if name == "talker":
        pytest.skip("tests/recipes/test_laws.py has its law")
    curves, others = [], [part for value in settings for part in ("--set", value)]
    for processes in (1, 2):
        folder = tmp_path / f"{processes}"
        # Adam makes whole steps of gradients that are mere rounding: at usual rates curves of noise part.
        steps = ("--set", "steps=8", "--set", "optim.warmup=2", "--set", "optim.lr=1e-5")
        program = (tiny_recipes.__file__, name)
        finish(start(folder, processes, *steps, *others, program=program))
        curves.append([json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()])
    alone, shared = curves
    assert len(alone) == len(shared) >= 8
    for ours, theirs in zip(shared, alone, strict=True):
        measured = {key: value for key, value in theirs.items() if key not in UNSHARED}
        assert {key: ours[key] for key in measured} == pytest.approx(measured, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "talker"])
def test_presets_are_configs_of_one_kind(name: str) -> None:
    presets = importlib.import_module(f"recipes.train_{name}").PRESETS
    assert {"puppet", "tiny"} <= presets.keys()
    made = [preset() for preset in presets.values()]
    assert len({type(run) for run in made}) == 1
    assert all(dataclasses.is_dataclass(run) for run in made)
