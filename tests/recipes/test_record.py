"""What a run records about itself, and what it prints when it continues under other conditions."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from recipes.configs.override import override
from recipes.configs.talker import TalkerRun, tiny
from recipes.record import code_version, fingerprint, read_config, write_record


def test_fingerprint_depends_on_values_shapes_and_types() -> None:
    zeros = [np.zeros(4, np.int8), np.zeros(2, np.int16), np.zeros((2, 2), np.int8), np.ones(4, np.int8)]
    assert len({fingerprint([array]) for array in zeros}) == 4
    assert fingerprint([zeros[0]]) == fingerprint([np.zeros(8, np.int8)[::2]])


def test_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = override(tiny(), ["optim.lr=3e-4"])
    write_record(tmp_path, "talker", run, "none")
    assert read_config(tmp_path, TalkerRun, None) == run
    assert read_config(tmp_path / "unrecorded", TalkerRun, run) is run


def test_changed_data_and_config_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer = override(tiny(), ["steps=77", "optim.lr=3e-4"])
    write_record(tmp_path, "talker", tiny(), "old")
    write_record(tmp_path, "talker", longer, "new")  # there is no checkpoint, so the run starts anew
    (tmp_path / "state.pt").touch()
    write_record(tmp_path, "talker", longer, "new")
    assert capsys.readouterr().out == ""
    write_record(tmp_path, "talker", tiny(), "newer")
    data, config = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}: the data changed since this run was trained (new, now newer): " in data
    changes = f"steps 77 -> {tiny().steps}, optim.lr 0.0003 -> {tiny().optim.lr}"
    assert config == f"{tmp_path}: the config changed since this run was trained: {changes}"


def test_records_with_old_field_names_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = override(tiny(), ["noise.position=0.7", "noise.correlation=0.2"])
    write_record(tmp_path, "talker", run, "data")
    record = json.loads((tmp_path / "run.json").read_text())
    old = {"feedback": "fed", "motion": "read", "position": "shake", "correlation": "memory"}
    record["config"]["noise"] = {old[name]: value for name, value in record["config"]["noise"].items()}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "state.pt").touch()
    assert read_config(tmp_path, TalkerRun, None) == run
    write_record(tmp_path, "talker", run, "data")
    assert capsys.readouterr().out == "", "a new name is no change"


def test_field_that_did_not_exist_then_has_its_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path, "talker", tiny(), "data")
    record = json.loads((tmp_path / "run.json").read_text())
    del record["config"]["zero"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "state.pt").touch()
    assert read_config(tmp_path, TalkerRun, None) == tiny()
    write_record(tmp_path, "talker", tiny(), "data")
    assert capsys.readouterr().out == ""
    write_record(tmp_path, "talker", dataclasses.replace(tiny(), zero=2), "data")
    assert capsys.readouterr().out.endswith("trained: zero 0 -> 2\n")


def test_damaged_record_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    write_record(tmp_path, "talker", tiny(), "data")
    path = tmp_path / "run.json"
    whole = path.read_text()
    damaged = [whole[: len(whole) // 2], "", "\0" * 100, "[]", "{}", '{"config": 3}']
    changes = (("steps", "stops"), ("0.001", '"fast"'), ('"optim": {', '"optim": 3, "rest": {'))
    for content in (*damaged, *(whole.replace(old, new) for old, new in changes)):
        assert content != whole
        path.write_text(content)
        with pytest.raises(ValueError, match=r"run.json cannot be used .*: remove it and start") as caught:
            read_config(tmp_path, TalkerRun, None)
        assert "\n" not in str(caught.value)
    path.unlink()
    write_record(tmp_path, "talker", tiny(), "data")
    assert json.loads(path.read_text()) == json.loads(whole)


def test_training_with_a_damaged_record_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    (tmp_path / "state.pt").touch()
    with pytest.raises(ValueError, match=r"run\.json cannot be used"):
        write_record(tmp_path, "talker", tiny(), "data")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit, whose folder `recipes` lies on the top level."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "file").write_text("text")
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    return tmp_path


def test_code_version_names_the_commit_and_its_changes(repository: Path) -> None:
    head = subprocess.run(["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True)
    _, commit = code_version(repository / "recipes").split()
    assert commit == head.stdout[:12]
    (repository / "recipes" / "file").write_text("changed")
    assert code_version(repository / "recipes").endswith(f"{commit}+")


def test_code_version_ignores_the_repository_around_an_installed_package(repository: Path) -> None:
    installed = repository / ".venv" / "site-packages" / "recipes"
    installed.mkdir(parents=True)
    assert " " not in code_version(installed)
    assert " " not in code_version(Path("/"))
