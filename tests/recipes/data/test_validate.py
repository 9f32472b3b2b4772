"""Validation finds every kind of fault and gives one line for it, and no line for a sound data set."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prepared_data import AUDIO, sample, usual, write_prepared
from safetensors.torch import load_file, save_file

from recipes.data import validate
from recipes.data.prepare.samples import Sample
from recipes.data.tar_shards import INDEX, MEMBERS, SHARDS, STATS
from recipes.data.transcript import Cue
from recipes.data.validate import check


def test_a_data_set_without_faults_has_no_problem(tmp_path: Path) -> None:
    found, problems = check(usual(tmp_path))
    assert problems == []
    assert found["clips"].startswith("24")


def _with_nan(one: Sample) -> Sample:
    one.motion[3, 2] = np.nan
    return one


FAULTS = {
    "not finite": _with_nan,
    "outside the tokenizer": lambda one: dataclasses.replace(one, cues=(Cue(0.1, 1.0, "你好"),)),
    "sound is silent": lambda one: dataclasses.replace(one, audio=np.full((50, AUDIO), -3.0, np.float16)),
    "index says 50": lambda one: dataclasses.replace(one, motion=one.motion[:40]),
    "words outside": lambda one: dataclasses.replace(one, cues=(Cue(0.1, 9.0, "so it goes on"),)),
    "letters in 2.0 s": lambda one: dataclasses.replace(one, cues=(Cue(0.1, 1.0, "so it goes " * 20),)),
    "different numbers of values": lambda one: dataclasses.replace(one, speaker=one.speaker[:4]),
    "2 clips have this key": lambda one: dataclasses.replace(one, key="clip1-0"),
}


@pytest.mark.parametrize("words", FAULTS)
def test_every_kind_of_fault_is_found(tmp_path: Path, words: str) -> None:
    clips = [[sample(f"clip{k}-0", 2, k)] for k in range(12)]
    folder = write_prepared(tmp_path, [*clips, [FAULTS[words](sample("bad-0", 2, 99))]])
    problems = check(folder)[1]
    assert any(words in line for line in problems), problems
    assert len(problems) <= 2
    assert not any("\n" in line for line in problems)


def test_a_clip_that_is_partly_silent_has_no_problem(tmp_path: Path) -> None:
    pausing = sample("pausing-0", 2, 99)
    pausing.audio[:25] = -3.0  # the latent of silence
    folder = write_prepared(tmp_path, [*[[sample(f"clip{k}-0", 2, k)] for k in range(12)], [pausing]])
    assert check(folder)[1] == []


def test_missing_and_damaged_files_are_found(tmp_path: Path) -> None:
    folder = usual(tmp_path)
    shard = next((folder / SHARDS).glob("train*.tar"))
    shard.rename(tmp_path / "elsewhere")
    assert any("cannot be read" in line for line in check(folder)[1])
    (tmp_path / "elsewhere").rename(shard)
    stats = load_file(folder / STATS)
    for part in ("mean", "std"):
        off = {name: tensor + 0.2 * name.endswith(part) for name, tensor in stats.items()}
        save_file(off, folder / STATS)
        assert sum("statistics are not those" in line for line in check(folder)[1]) == 2, "audio and motion"
    save_file(stats, folder / STATS)
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size // 2)
    assert any("is truncated" in line for line in check(folder)[1])
    (folder / STATS).unlink()
    assert len(check(folder)[1]) == 1
    (folder / INDEX).unlink()
    assert "cannot be read" in check(folder)[1][0]


def test_arrays_of_other_clips_are_found(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path, [[sample(f"clip{k}-0", 2, k)] for k in range(8)])

    def problems() -> list[str]:
        # The statistics of so few clips change when one is missing.
        return [line for line in check(folder)[1] if "statistics" not in line]

    index = (folder / INDEX).read_text()
    first, second, *others = map(json.loads, index.splitlines())
    swapped = [first | {"members": second["members"]}, second | {"members": first["members"]}, *others]
    (folder / INDEX).write_text("\n".join(map(json.dumps, swapped)))
    expected = [
        f"{one['key']}.{name} is not where the index says" for one in (first, second) for name in MEMBERS
    ]
    for line, words in zip(problems(), expected, strict=True):
        assert words in line
    damaged = [f"{first['shard']} differs from the digest in its name: remove it and prepare the data again"]
    (folder / INDEX).write_text("\n".join(index.splitlines()[1:]))
    assert problems() == damaged
    (folder / INDEX).write_text(index)
    with (folder / SHARDS / first["shard"]).open("r+b") as file:
        offset, size = first["members"]["motion"]
        file.seek(offset + size - 400)
        file.write(bytes(400))
    assert problems() == damaged


@pytest.mark.long
def test_exit_code_is_1_if_there_is_a_problem(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.data.validate"]
    good = subprocess.run([*command, usual(tmp_path) / INDEX], capture_output=True, text=True)
    assert good.returncode == 0, good.stdout + good.stderr
    bad = subprocess.run([*command, tmp_path / "nothing"], capture_output=True, text=True)
    assert bad.returncode == 1
    assert len(bad.stdout.splitlines()) == 1


@pytest.mark.parametrize("problems", [[], ["a problem"]])
def test_command_names_problems_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], problems: list[str]
) -> None:
    """A folder with metadata/train.csv is the published data set."""
    own, published = tmp_path / "own", tmp_path / "published"
    (published / "metadata").mkdir(parents=True)
    (published / "metadata" / "train.csv").touch()
    seen: list[tuple[str, Path, object]] = []
    monkeypatch.setattr(validate, "ChatTokenizer", lambda folder: f"words of {folder}")
    for name in ("check", "check_released"):
        result = lambda *given, name=name: seen.append((name, *given)) or ({"clips": "7"}, problems)  # noqa: E731
        monkeypatch.setattr(validate, name, result)
    for path in (own, own / INDEX, published, published / "metadata" / "train.csv"):
        monkeypatch.setattr(sys, "argv", ["validate", str(path), "--tokenizer", "words"])
        with pytest.raises(SystemExit) as ended:
            validate.main()
        assert ended.value.code == len(problems)
        assert capsys.readouterr().out.splitlines() == ["clips: 7", *problems]
    assert (
        seen == [("check", own, "words of words")] * 2 + [("check_released", published, "words of words")] * 2
    )
