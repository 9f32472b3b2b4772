"""The set-up: which Python it accepts, what the locks install where, and which `talker` is imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from module_graph import PACKAGES

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("version", "refused"), [((3, 10), True), ((3, 11), False), ((3, 14), True)])
def test_other_versions_of_python_are_refused_in_one_line(
    tmp_path: Path, version: tuple[int, int], refused: bool
) -> None:
    """A stand-in for `python3` runs the check with another version, and then fails as if it had no pip."""
    python = tmp_path / "python3"
    check = f"import sys; sys.version_info = (*{version}, 0); exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{check}" "$2"\nexit 1\n')
    python.chmod(0o755)
    command = ["sh", str(ROOT / ".ci" / "install"), str(python), "requirements.lock", "0 GB"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    wrong = f"Talker needs Python 3.11, 3.12 or 3.13, and this is {version[0]}.{version[1]}"
    assert line.startswith(wrong if refused else f"{python} has no pip")


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-demo.lock"])
def test_cuda_packages_are_installed_on_linux_only(lock: str) -> None:
    lines = re.findall(r"^(?:nvidia|cuda|triton)[\w-]*==.*", (ROOT / lock).read_text(), re.M)
    assert lines
    assert all("sys_platform == 'linux'" in line for line in lines)


def test_the_demo_needs_no_package_for_serving_training_or_clusters() -> None:
    names = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements-demo.lock").read_text(), re.M))
    assert not names & {"ray", "fastapi", "deepspeed", "triton", "transformers", "openai-whisper"}


def test_a_folder_named_talker_beside_a_script_does_not_hide_the_package(tmp_path: Path) -> None:
    """Such a folder is a clone of this project in another project."""
    (tmp_path / "talker" / "docs").mkdir(parents=True)
    script = tmp_path / "script.py"
    script.write_text("import talker; print(talker.__file__)")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    printed = subprocess.check_output([sys.executable, str(script)], env=environment, text=True)
    assert Path(printed.strip()).name == "__init__.py"


def test_readme_says_for_which_machines_a_seed_gives_the_same_values() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    assert "The same seed gives identical samples and frames" in text
    assert "one kind of processor with one number of threads" in text


def test_the_wheel_contains_every_file_of_the_packages() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        files = {
            path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        }
        packed = {path for pattern in patterns.get(package, []) for path in (ROOT / package).glob(pattern)}
        assert {path for path in files - packed if path.suffix != ".py"} == set()
