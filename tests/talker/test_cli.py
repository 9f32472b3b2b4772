"""The command: what it prints where, its exit codes, and one line for whatever the user got wrong."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from talker.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav")
    return folder


def say(folder: Path, *more: str | Path, text: str = "Hi.", out: Path) -> int:
    options = {"--portrait": folder / "face.png", "--voice": folder / "voice.wav", "--steps": "1"}
    options |= dict(zip(more[::2], more[1::2], strict=True))
    flat = [str(part) for pair in options.items() for part in pair]
    return main(["say", text, "--weights", str(folder), "-o", str(out), "--json", *flat])


def test_json_is_one_line_and_logs_go_to_stderr(folder: Path, tmp_path: Path, capsys) -> None:
    assert say(folder, "--seed", "7", out=tmp_path / "out.mp4") == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    report = json.loads(printed.out)
    assert set(report) == {
        "output",
        "duration_seconds",
        "patches",
        "finish_reason",
        "load_seconds",
        "rtf",
        "first_chunk_seconds",
        "seed",
    }
    assert report["output"] == str(tmp_path / "out.mp4")
    assert report["seed"] == 7
    assert report["duration_seconds"] == pytest.approx(report["patches"] * 0.16)
    with av.open((tmp_path / "out.mp4").open("rb")) as container:
        assert container.duration / 1e6 == pytest.approx(report["duration_seconds"], abs=0.04)


def test_the_callers_signals_are_left_alone(folder: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert say(folder, text=" ", out=tmp_path / "a.mp4") == 2
    assert signal.getsignal(signal.SIGTERM) is before
    with ThreadPoolExecutor() as pool:  # which may set none
        assert pool.submit(main, ["info"]).result() == 0


@pytest.mark.long
def test_standard_input_is_a_text(folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi.\n"))
    assert say(folder, text="-", out=tmp_path / "a.mp4") == 0
    assert say(folder, out=tmp_path / "b.mp4") == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.long
def test_unusual_files_simply_work(folder: Path, tmp_path: Path, capsys) -> None:
    face = Image.open(folder / "face.png")
    face.convert("L").save(tmp_path / "grey portrait ü.png")
    face.convert("RGBA").save(tmp_path / "alpha.png")
    eight_bit = tmp_path / "acht bit.wav"
    with av.open(str(eight_bit), "w") as container:
        stream = container.add_stream("pcm_u8", rate=11_025, layout="stereo")
        samples = np.random.default_rng(0).integers(60, 190, (1, 2 * 11_025), np.uint8)
        frame = av.AudioFrame.from_ndarray(samples, "u8", "stereo")
        frame.sample_rate = 11_025
        container.mux([*stream.encode(frame), *stream.encode(None)])
    for portrait in ("grey portrait ü.png", "alpha.png"):
        arguments = ("--portrait", tmp_path / portrait, "--voice", eight_bit)
        assert say(folder, *arguments, out=tmp_path / "ö ut.mp4") == 0, capsys.readouterr().err


WRONG = [
    ((), {"text": ""}, "empty"),
    ((), {"text": " \n"}, "empty"),
    ((), {"text": "?!"}, "nothing to say"),
    ((), {"text": "こんにちは"}, "English"),
    ((), {"text": "a" * 100_001}, "split it"),
    (("--portrait", "missing.png"), {}, "does not exist"),
    (("--portrait", "nobody"), {}, "shipped portraits"),
    (("--portrait", "voice.wav"), {}, "not a picture"),
    (("--portrait", "green.png"), {}, "--crop none"),
    (("--voice", "missing.wav"), {}, "does not exist"),
    (("--voice", "face.png"), {}, "no audio|cannot be read"),
    (("--voice", "blip.wav"), {}, "0.05 s"),
    (("--voice", "silence.wav"), {}, "silent"),
    (("--seed", "-1"), {}, "--seed"),
    (("--steps", "0"), {}, "--steps"),
    (("--temperature", "nan"), {}, "--temperature"),
    (("--weights", "nowhere"), {}, "missing"),
]


@pytest.mark.parametrize(("more", "text", "words"), WRONG, ids=lambda value: str(value)[:30])
def test_a_mistake_is_one_line_and_writes_nothing(
    folder: Path, tmp_path: Path, capsys, more, text, words
) -> None:
    Image.new("RGB", (200, 200), "green").save(folder / "green.png")
    write_voice(folder / "blip.wav", 0.05)
    write_voice(folder / "silence.wav", 0.0)
    data = bytearray(write_voice(folder / "silence.wav").read_bytes())
    (folder / "silence.wav").write_bytes(data[:44] + bytes(len(data) - 44))
    here = {"--portrait", "--voice", "--weights"}
    more = [folder / v if k in here and v != "nobody" else v for k, v in zip(("", *more), more, strict=False)]
    assert say(folder, *more, **text, out=tmp_path / "out.mp4") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert words.split("|")[0] in printed.err or words.split("|")[-1] in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["missing/out.mp4", "out.avi", "."])
def test_a_bad_output_is_found_before_loading(folder: Path, tmp_path: Path, capsys, out: str) -> None:
    assert say(folder, "--weights", "not even looked at", out=tmp_path / out) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [[], ["sing"], ["say", "---", "-o", "a.mp4"], ["say", "Hi.", "--seed", "x"]]
)
def test_a_command_that_is_none_is_one_line(capsys, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "--help" in printed


def test_info_lists_what_ships(capsys) -> None:
    assert main(["info"]) == 0
    assert "portraits:" in capsys.readouterr().out


def test_the_model_needs_no_media_library_and_help_needs_no_torch() -> None:
    code = """if True:
        import sys, talker, talker.cli
        assert "torch" not in sys.modules
        import talker.model.model
        assert "av" not in sys.modules and "PIL" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
