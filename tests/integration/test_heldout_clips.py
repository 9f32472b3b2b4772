"""Each task on held-out clips: the command and Python write the same file, of the right length."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest

from evaluation.heldout import performances
from evaluation.tasks import write_given
from talker import Talker
from talker.cli import main
from talker.clips.clip import Clip

CLIPS = int(os.environ.get("HELDOUT_CLIPS", "3"))  # per task; 20 take 15 minutes


@dataclass
class Given:
    """Files of a held-out clip, its text, and its length in frames of 960 samples."""

    sound: Path
    video: Path
    prompt: Path
    face: Path
    text: str
    frames: int


@pytest.fixture(scope="module")
def talker() -> Talker:
    return Talker.from_pretrained()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Given]:
    folder = tmp_path_factory.mktemp("given")
    return [
        Given(*write_given(case, frames, folder), case.text, len(frames))
        for case, frames in performances("heldout", CLIPS)
    ]


def lengths(path: Path) -> dict[str, int]:
    """Lengths of the tracks of a file: samples at 24 kHz, and video frames if it has any."""
    with av.open(str(path)) as container:
        sound, pictures = container.streams.audio[0], container.streams.video
        samples = {"samples": round(24_000 * sound.duration * sound.time_base)}
        return samples | ({"frames": pictures[0].frames} if pictures else {})


def command(arguments: list[str], out: Path, as_process: bool, capsys: Any) -> dict[str, Any]:
    """The `--json` report of a run that must succeed, in a new process or in this one."""
    arguments = [*arguments, "-o", str(out), "--json"]
    if not as_process:
        assert main(arguments) == 0
        return json.loads(capsys.readouterr().out)
    done = subprocess.run(
        [sys.executable, "-m", "talker", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def by_python(talker: Talker, task: str, given: Given) -> Clip:
    voice, face = talker.voice(given.prompt), talker.portrait(given.face, crop="none")
    makers: dict[str, Callable[[], Clip]] = {
        "t2av": lambda: talker.say(given.text, voice, face),
        "tts": lambda: talker.say(given.text, voice, audio_only=True),
        "a2v": lambda: talker.animate(given.sound, face, text=given.text),
        "a2v without text": lambda: talker.animate(given.sound, face),
        "v2a": lambda: talker.dub(given.video, given.text, voice, crop="none"),
    }
    return makers[task]()


def by_command(task: str, given: Given) -> list[str]:
    face, voice = ["--portrait", str(given.face), "--crop", "none"], ["--voice", str(given.prompt)]
    return {
        "t2av": ["say", given.text, *face, *voice],
        "tts": ["say", given.text, "--audio-only", *voice],
        "a2v": ["animate", str(given.sound), "--text", given.text, *face],
        "a2v without text": ["animate", str(given.sound), *face],
        "v2a": ["dub", str(given.video), given.text, "--crop", "none", *voice],
    }[task]


@pytest.mark.long
@pytest.mark.parametrize("task", ["t2av", "tts", "a2v", "a2v without text", "v2a"])
def test_command_and_python_write_the_same_file(
    talker: Talker, clips: list[Given], tmp_path: Path, capsys, task: str
) -> None:
    ends: Counter[str] = Counter()
    for number, given in enumerate(clips):
        ending = ".wav" if task == "tts" else ".mp4"
        one, other = tmp_path / f"command{ending}", tmp_path / f"python{ending}"
        said = command(by_command(task, given), one, as_process=number < 2, capsys=capsys)
        report = by_python(talker, task, given).save(other)
        # Generated speech has whole patches of 4 frames; a given recording or video fixes the length.
        frames = 4 * report.patches if task in ("t2av", "tts") else given.frames
        expected = {"samples": 960 * frames} | ({} if task == "tts" else {"frames": frames})
        assert lengths(one) == expected, given.text
        assert one.read_bytes() == other.read_bytes(), given.text
        assert said["finish_reason"] == report.finish_reason
        assert said["duration_seconds"] == round(frames / 25, 3)
        ends[report.finish_reason] += 1
    with capsys.disabled():
        print(f"\n{task}: {len(clips)} clips, the right length and equal files; {dict(ends)}")
