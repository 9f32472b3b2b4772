"""Laws of every recipe at tiny size: it resumes to the bit, exports, and can be divided among processes."""

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

from recipes.engine import Engine
from recipes.export import export
from recipes.record import read_config
from talker.checkpoint import load_component
from talker.signals import Interrupted

LAUNCHERS = (
    ("deepspeed", "--num_gpus=2", "--module"),
    ("torchrun", "--standalone", "--nproc-per-node=2", "-m", "--"),
    ("python", "-m"),
)
SETTINGS = {
    "audio_vae": ("frames=8",),
    "audio_vae_adversarial": ("frames=8", "judged=6"),
    "motion_ae": (
        "heldout=2",
        "weights.gradient=0.9",
        "weights.code=0.8",
        "weights.where=1.2",
        "weights.flow=20000",
    ),
    "talker": ("weights.audio=0.9", "weights.motion=0.8"),
}
# Every recipe with its tiny preset, with fewer frames and weights of losses that are not 1, and the speaker
# with its other loss. All frames of a tone are alike, so a ReLU whose input rounds to the other side of 0
# changes the gradient of all of them; at this scale none does.
FORMS = [
    *(pytest.param(name, SETTINGS.get(name, ()), id=name) for name in RECIPES),
    pytest.param("speaker", ("loss=margin", "scale=5"), id="speaker-margin", marks=pytest.mark.long),
]
ZERO_FORMS = [
    pytest.param(name, (f"zero={stage}",), id=f"{name}-zero{stage}")
    for name in ("audio_vae", "speaker")
    for stage in (2, 3)
]
SHORT = ("steps=2", "validate_every=2", "optim.clip=0.7", "optim.ema=0.05")
MEASURES = {"speaker": "separation", "recogniser": "error_rate"}  # other names than validate
MEASURED = ("minutes", "samples_s", "memory_gib")
VARYING = (*MEASURED, "heldout_phonemes", "per_unseen")  # counts of few phonemes differ between processors
RECORDED = Path(__file__).with_name("recorded.json")


def logged(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run's log that are about steps of training."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "samples_s" in row]


def terminate_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send SIGTERM to this process when an engine has done so many steps."""
    original = Engine.step

    def step_and_terminate(self: Engine, *given: Any, **parts: Any) -> float:
        norm = original(self, *given, **parts)
        if self.step_count == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return norm

    monkeypatch.setattr(Engine, "step", step_and_terminate)


def check_log(folder: Path, form: str) -> None:
    """Compare the log of a run of two steps with the recorded one: draws, losses, gradients and measures.

    After a deliberate change, write the new values by `PYTHONPATH=.:tests python tests/recipes/record.py`.
    """
    expected = json.loads(RECORDED.read_text())[form]
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    found = [{key: value for key, value in row.items() if key not in VARYING} for row in rows]
    assert len(found) == len(expected)
    assert found[0] == pytest.approx(expected[0], rel=2e-3, abs=1e-6)
    for row, recorded in zip(found[1:], expected[1:], strict=True):
        assert row == pytest.approx(recorded, rel=0.02, abs=1e-4)


def check_export(name: str, run: Path, folder: Path) -> None:
    """Check that the exported component loads, and holds the moving average in half precision."""
    export(name, run, folder)
    averaged = importlib.import_module(f"recipes.train_{name}").averaged(run)
    loaded = load_component(type(averaged), type(averaged.config), folder)
    assert loaded.config == averaged.config
    stored = loaded.state_dict()
    for key, value in averaged.state_dict().items():
        assert torch.equal(stored[key].half(), value.half()), key


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_terminated_run_resumes_to_the_bit_and_exports(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    name: str,
    settings: tuple[str, ...],
) -> None:
    run, train, cut = tiny(name, *SHORT, *settings), RECIPES[name], tmp_path / "cut"
    recipe, measure = importlib.import_module(f"recipes.train_{name}"), MEASURES.get(name, "validate")
    measured, original = [], getattr(recipe, measure)
    monkeypatch.setattr(recipe, measure, lambda net, *given: measured.append(net) or original(net, *given))
    whole = train(tmp_path / "whole", run)
    assert measured == [whole.ema_module], "the averaged weights are measured"
    assert not any(part.training for part in measured[0].modules())
    with monkeypatch.context() as patched:
        terminate_after(1, patched)
        with pytest.raises(Interrupted):
            train(cut, run)
    resumed = train(cut, run)
    assert whole.step_count == resumed.step_count == 2
    assert whole.skipped == 0
    factor, group = getattr(run, "factor", run.optim.factor(2)), whole.optimiser.param_groups[0]
    assert [whole.schedule(step) for step in range(2)] == [factor(step) for step in range(2)]
    assert (whole.backend.clip, whole.average.decay) == (run.optim.clip, run.optim.ema)
    assert (group["betas"], group["weight_decay"]) == (run.optim.betas, run.optim.decay)
    for ours, theirs in ((resumed.module, whole.module), (resumed.ema_module, whole.ema_module)):
        expected = theirs.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    assert read_config(cut, type(run), None) == run
    check_log(cut, request.node.callspec.id)
    check_export(name, cut, tmp_path / "exported")


@pytest.mark.long
@pytest.mark.parametrize("name", RECIPES)
def test_log_excludes_skipped_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    backward = Engine.backward
    monkeypatch.setattr(
        Engine, "backward", lambda self, loss: backward(self, loss * factors[self.step_count])
    )
    factors = [1.0, torch.nan]
    assert RECIPES[name](tmp_path, tiny(name, "steps=2", "log_every=2")).skipped == 1
    both = logged(tmp_path)
    factors[1] = 1.0
    RECIPES[name](tmp_path / "first", tiny(name, "steps=2"))
    first = logged(tmp_path / "first")
    for row in (*first, *both):
        for varies in (*MEASURED, "step", "stage"):
            row.pop(varies, None)
    assert both == first[:1] != first[1:]


@pytest.mark.long
@pytest.mark.parametrize("name", ["audio_vae_adversarial", "motion_ae", "motion_ae_selfsupervised"])
def test_older_run_folders_export_and_continue(tmp_path: Path, name: str) -> None:
    """Old runs recorded the network's config alone, and averaged all trained modules."""
    train, recipe = RECIPES[name], importlib.import_module(f"recipes.train_{name}")
    engine = train(tmp_path, tiny(name, "steps=1"))
    expected = recipe.averaged(tmp_path).state_dict()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    part = {f"{engine.average.part}.{key}": value for key, value in state["ema"].items()}
    assert part.keys() < state["module"].keys()
    torch.save(state | {"ema": state["module"] | part}, tmp_path / "state.pt")
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | {"config": record["config"]["model"]}))
    found = recipe.averaged(tmp_path).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert train(tmp_path, tiny(name, "steps=2")).step_count == 2


@pytest.mark.long
@pytest.mark.parametrize("name", RECIPES)
def test_run_continues_under_every_launcher(tmp_path: Path, name: str) -> None:
    """Runs the commands on clips of the corpus, which the ranks of the first command make."""
    pytest.importorskip("deepspeed")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if name == "audio_vae_source_filter":  # its recipe makes no data
        tiny_recipes.write_bank(tmp_path / "runs" / "speech")
    few = ("clips=8", "heldout=8", "zero=1") if name == "talker" else ()
    for steps, (program, *options) in zip((2, 4, 6), LAUNCHERS, strict=True):
        settings = [part for value in (f"steps={steps}", *few) for part in ("--set", value)]
        port = [f"--master_port={free_port()}"] if program == "deepspeed" else []
        command = [str(Path(sys.executable).with_name(program)), *port, *options, f"recipes.train_{name}"]
        done = subprocess.run(
            [*command, "--config", "tiny", "--run", "run", *settings],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        assert [row["step"] for row in logged(tmp_path / "run")] == list(range(1, steps + 1))
        shared = json.loads((tmp_path / "run" / "run.json").read_text())["environment"]["processes"]
        assert shared == (1 if program == "python" else 2)
    check_export(name, tmp_path / "run", tmp_path / "exported")


@pytest.mark.long
@pytest.mark.parametrize(("name", "settings"), [*FORMS, *ZERO_FORMS])
def test_two_processes_follow_the_curve_of_one(tmp_path: Path, name: str, settings: tuple[str, ...]) -> None:
    if name == "talker":
        pytest.skip("tested in test_laws.py")
    curves, options = [], [part for value in settings for part in ("--set", value)]
    for processes in (1, 2):
        folder = tmp_path / f"{processes}"
        # Adam turns a gradient of rounding errors into a whole step: at usual rates the curves would diverge.
        steps = ("--set", "steps=8", "--set", "optim.warmup=2", "--set", "optim.lr=1e-5")
        program = (tiny_recipes.__file__, name)
        given = () if processes == 1 and "zero" in str(settings) else options  # one process is the plain one
        finish(start(folder, processes, *steps, *given, program=program))
        curves.append([json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()])
    one, two = curves
    assert len(one) == len(two) >= 8
    for found, expected in zip(two, one, strict=True):
        losses = {key: value for key, value in expected.items() if key not in MEASURED}
        assert {key: found[key] for key in losses} == pytest.approx(losses, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "talker"])
def test_presets_of_a_recipe_have_one_type(name: str) -> None:
    presets = importlib.import_module(f"recipes.train_{name}").PRESETS
    assert {"puppet", "tiny"} <= presets.keys()
    made = [preset() for preset in presets.values()]
    assert len({type(run) for run in made}) == 1
    assert all(dataclasses.is_dataclass(run) for run in made)
