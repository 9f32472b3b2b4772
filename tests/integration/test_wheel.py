"""A wheel built from the repository and installed in an empty environment generates a clip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from an archive of HEAD, so it contains only tracked files."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=source, input=archive, check=True)
    build = "from setuptools import build_meta; import sys; print(build_meta.build_wheel(sys.argv[1]))"
    run(sys.executable, "-c", build, folder, cwd=source)
    return next(folder.glob("*.whl"))


@pytest.mark.long
def test_wheel_contains_the_default_model_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for part in ("talker", "audio_vae", "motion_ae", "speaker"):
        assert f"talker/assets/puppet/{part}/model.safetensors" in names
    assert "evaluation/assets/recogniser/model.safetensors" in names
    assert not [name for name in names if name.startswith(("tests/", "runs/", "docs/"))]


@pytest.mark.long
def test_wheel_generates_a_clip_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    pip = [Path("python3"), "-m", "pip", "--python", python, "install", "-q"]
    run(*pip, wheel, cwd=tmp_path)
    line = run(tmp_path / "env/bin/talker", "say", "Hello there.", "-o", "out.mp4", "--json", cwd=tmp_path)
    report = json.loads(line)
    assert (tmp_path / "out.mp4").stat().st_size > 1000
    assert report["duration_seconds"] > 0.3
