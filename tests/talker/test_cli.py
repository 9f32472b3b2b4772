"""The command: output and log, exit codes, and one line for each error of the user."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import write_video
from PIL import Image
from takes import errors
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from heads.sampling import Sampling
from talker import Talker, UserError, cli, doctor
from talker.cli import DEMO, INTERRUPTED, SYNTHETIC, _name_of, _uses_own_files, main
from talker.clips import transcript
from talker.clips.clip import Clip
from talker.clock import HOP
from talker.media.encoders import VideoWriter
from talker.media.provenance import generated_tags
from talker.model.defaults import StopRule
from talker.shipped import model_folder, shipped, shipped_names


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
    return main(["say", text, "--model", str(folder), "-o", str(out), "--json", *flat])


def test_json_is_one_line_on_stdout_and_logs_go_to_stderr(folder: Path, tmp_path: Path, capsys) -> None:
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
    assert report["load_seconds"] > 0
    assert report["duration_seconds"] == pytest.approx(report["patches"] * 0.16)
    with av.open((tmp_path / "out.mp4").open("rb")) as container:
        assert container.duration / 1e6 == pytest.approx(report["duration_seconds"], abs=0.04)


def test_signal_handlers_of_the_caller_are_unchanged(folder: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert say(folder, text=" ", out=tmp_path / "a.mp4") == 2
    assert signal.getsignal(signal.SIGTERM) is before
    with ThreadPoolExecutor() as pool:  # only the main thread may set handlers
        assert pool.submit(main, ["info"]).result() == 0


@pytest.mark.long
def test_a_dash_reads_the_text_from_standard_input(
    folder: Path, tmp_path: Path, capsys, monkeypatch, reproducible_x264: None
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hi.\n")))
    assert say(folder, text="-", out=tmp_path / "a.mp4") == 0
    assert say(folder, out=tmp_path / "b.mp4") == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.long
def test_unusual_files_are_read(folder: Path, tmp_path: Path, capsys) -> None:
    face = Image.open(folder / "face.png")
    face.convert("L").save(tmp_path / "grey portrait ü.png")
    face.convert("RGBA").save(tmp_path / "alpha.png")
    eight_bit = tmp_path / "eight bit ü.wav"
    with av.open(str(eight_bit), "w") as container:
        stream = container.add_stream("pcm_u8", rate=11_025, layout="stereo")
        samples = np.random.default_rng(0).integers(60, 190, (1, 2 * 11_025), np.uint8)
        frame = av.AudioFrame.from_ndarray(samples, "u8", "stereo")
        frame.sample_rate = 11_025
        container.mux([*stream.encode(frame), *stream.encode(None)])
    for portrait in ("grey portrait ü.png", "alpha.png"):
        arguments = ("--portrait", tmp_path / portrait, "--voice", eight_bit)
        assert say(folder, *arguments, out=tmp_path / "ö ut.mp4") == 0, capsys.readouterr().err


LOADING = "talker: loading the model\n"
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
    (("--voice", "ada", "--voice-seconds", "-3"), {}, "--voice-seconds"),
    (("--steps", "0"), {}, "--steps"),
    (("--temperature", "nan"), {}, "--temperature"),
    (("--model", "nowhere"), {}, "shipped models"),
    (("--model", "empty"), {}, "missing"),
    (("--voice", "long.wav", "--voice-text", "abc"), {}, "too short for 5.9 s"),
]


@pytest.mark.parametrize(("more", "text", "words"), WRONG, ids=lambda value: str(value)[:30])
def test_an_error_of_the_user_prints_one_line_and_writes_nothing(
    folder: Path, tmp_path: Path, capsys, more, text, words
) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), "green").save(folder / "green.png")
    write_voice(folder / "blip.wav", 0.05)
    write_voice(folder / "long.wav", 6.0)
    write_voice(folder / "silence.wav", 0.0)
    data = bytearray(write_voice(folder / "silence.wav").read_bytes())
    (folder / "silence.wav").write_bytes(data[:44] + bytes(len(data) - 44))
    files = {"--portrait", "--voice", "--model"}
    more = [
        folder / v if k in files and v not in ("nobody", "nowhere") else v
        for k, v in zip(("", *more), more, strict=False)
    ]
    assert say(folder, *more, **text, out=tmp_path / "out.mp4") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(errors(printed.err)) == 1
    assert words.split("|")[0] in printed.err or words.split("|")[-1] in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["missing/out.mp4", "out.avi", "."])
def test_an_output_that_cannot_be_written_is_refused_before_loading(
    folder: Path, tmp_path: Path, capsys, out: str
) -> None:
    assert say(folder, "--model", "not opened", out=tmp_path / out) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_shown_text_is_what_would_be_spoken_and_nothing_is_loaded(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("talker.cli._load", lambda options: pytest.fail("loaded"))
    text = tmp_path / "text.txt"
    text.write_text("# Hello\n\nDr. Smith paid $3.50. It is VERY nice.", encoding="utf-8-sig")
    assert main(["say", "--text-file", str(text), "--show-text"]) == 0
    lines = ["Hello.", "doctor Smith paid three dollars fifty cents.", "It is very nice."]
    assert capsys.readouterr().out.splitlines() == lines
    assert main(["say", "https://example.com is a site.", "--show-text"]) == 0
    assert capsys.readouterr().out == "example dot com is a site.\n"


@pytest.mark.parametrize("command", [["say"], ["dub", "video.mp4"]])
def test_the_text_is_given_once_and_is_no_file_name(tmp_path: Path, capsys, command: list[str]) -> None:
    text, odd = tmp_path / "text.txt", tmp_path / "odd.txt"
    text.write_text("Hello.")
    sound = write_voice(tmp_path / "voice.wav")
    odd.write_bytes(b"caf\xe9")
    wrong = {
        (): "--text-file FILE",
        ("Hi.", "--text-file", str(text)): "--text-file FILE",
        (str(text),): "--text-file",
        (str(sound),): "use talker animate",
        ("--text-file", str(odd)): "UTF-8",
        ("--text-file", str(tmp_path / "absent")): "check --text-file",
    }
    for arguments, words in wrong.items():
        assert main([*command, *arguments, "-o", str(tmp_path / "out.mp4")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert words in error


def test_force_reads_a_text_of_another_language(folder: Path, tmp_path: Path, capsys) -> None:
    french = "Je ne parle pas anglais."
    assert say(folder, text=french, out=tmp_path / "a.mp4") == 2
    assert "French" in capsys.readouterr().err
    sources = ["--portrait", str(folder / "face.png"), "--voice", str(folder / "voice.wav")]
    model = ["--model", str(folder), "--steps", "1"]
    assert main(["say", french, "--force", *sources, *model, "-o", str(tmp_path / "a.mp4")]) == 0


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["sing"], "talker --help"),
        (["say", "---", "-o", "a.mp4"], "talker say --help"),
        (["say", "Hi.", "--seed", "x"], "talker say --help"),
        (["animate", "a.wav", "--portrat", "p"], "did you mean --portrait?; run `talker animate --help`"),
        (["say", "Hi.", "--frobnicate"], "unknown argument --frobnicate; run"),
        (["say", "Hi", "there"], "put the text in quotes"),
        (["dub", "a.mp4", "Hi", "there"], "put the text in quotes"),
        (["animate", "a.wav", "b.wav"], "unknown argument b.wav; run"),
        (["say", "--", "-5 degrees", "--show-text"], "--show-text stands after --"),
        (["-v"], "did you mean --version?"),
        (["say", "Hi.", "-A"], "did you mean --audio-only?"),
    ],
)
def test_an_invalid_command_line_prints_one_line(capsys, arguments: list[str], hint: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert hint in printed


def test_the_command_alone_prints_the_help(capsys) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"    {name} " in printed for name in ("say", "animate", "dub", "demo", "info", "doctor"))


def test_default_names_have_the_first_words_and_replace_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["--model", str(folder), "--steps", "1", "--voice", str(folder / "voice.wav")]
    speech = ["say", "Don't stop!", "--audio-only", *short]
    assert [main(speech), main(speech)] == [0, 0]
    face = ["--model", str(folder), "--steps", "1", "--portrait", str(folder / "face.png")]
    assert main(["animate", str(folder / "voice.wav"), *face]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "talker-dont-stop-2.wav",
        "talker-dont-stop.wav",
        "voice-animated.mp4",
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("It was a bright, cold day in April, and the clocks...", "talker-it-was-a-bright-cold-day-in-april"),
        ("Ünïcode/../../etc", "talker-n-code-etc"),
        ("?", "talker"),
    ],
)
def test_a_name_from_a_text_is_short_and_has_no_separators(text: str, name: str) -> None:
    assert _name_of(text) == name


@pytest.mark.parametrize("extension", [".mov", ".mkv", ".webm", ".gif"])
def test_video_is_written_to_other_containers(folder: Path, tmp_path: Path, extension: str) -> None:
    assert say(folder, out=tmp_path / f"a{extension}") == 0
    with av.open(str(tmp_path / f"a{extension}")) as container:
        assert len(container.streams.video) == 1
        assert len(container.streams.audio) == (extension != ".gif")


def test_the_warning_about_synthetic_people_needs_a_file_of_the_user(folder: Path, tmp_path: Path) -> None:
    def options(command: str, portrait: str | None = None, voice: str | None = None) -> argparse.Namespace:
        return argparse.Namespace(command=command, portrait=portrait, voice=voice)

    assert not _uses_own_files(options("say"))
    assert not _uses_own_files(options("say", "ada", "ben"))
    assert _uses_own_files(options("say", str(folder / "face.png")))
    assert _uses_own_files(options("say", "ada", str(folder / "voice.wav")))
    frames = [np.zeros((64, 64, 3), np.uint8)] * 3
    picture = "generated from the portrait p"
    made = {
        "own": None,
        "made": generated_tags("a", picture),
        "spoken": generated_tags("the recording a", picture),
    }
    for name, tags in made.items():
        with VideoWriter(tmp_path / f"{name}.mp4", 64, tags) as writer:
            writer.write(np.zeros(3 * HOP, np.float32), np.stack(frames))
        assert _uses_own_files(options("say", voice=str(tmp_path / f"{name}.mp4"))) == (name != "made")
        video = argparse.Namespace(command="dub", video=str(tmp_path / f"{name}.mp4"), voice="ADA")
        assert _uses_own_files(video) == (name == "own")


def test_a_reader_of_the_output_that_leaves_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "talker", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_doctor_lists_all_parts_and_the_next_step(capsys) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for title in ("environment", "devices", "packages", "optional packages", "models", "next"):
        assert f"{title}:\n" in printed
    assert "run `talker demo`" in printed


def test_doctor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CORE", ("a-package-that-nobody-has",))
    monkeypatch.setattr(doctor, "_models", lambda found: [])
    found = doctor.report()
    assert not found.works
    assert found.lines[-1].startswith("  install a-package-that-nobody-has: run make demo")


def test_doctor_needs_what_make_demo_installs_and_nothing_else() -> None:
    wanted = (Path(doctor.__file__).parents[1] / "requirements-demo.in").read_text().split()
    names = {re.split("[=<>]", line)[0] for line in wanted}
    assert names - {"setuptools"} <= set(doctor.CORE)
    locked = (Path(doctor.__file__).parents[1] / "requirements-demo.lock").read_text()
    assert all(f"\n{name}==" in f"\n{locked}" for name in doctor.CORE)


def test_packages_that_do_not_fit_torch_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "misfit.py").write_text("raise OSError('Could not load this library: misfit.so')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "FITTED", ("misfit",))
    found = doctor.report()
    assert "  misfit cannot be loaded: Could not load this library: misfit.so" in found.lines
    assert found.lines[-1].startswith("  install misfit again, of the version that fits torch")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("Could not load this library: a.so"), "run `talker doctor`"),
        (OSError(errno.ENOSPC, "No space left on device"), "free disk space or memory"),
        (MemoryError("too little"), "free disk space or memory"),
    ],
)
def test_errors_of_the_system_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys, error: Exception, advice: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(doctor, "report", fail)
    assert main(["doctor"]) == 2
    assert advice in capsys.readouterr().err


def test_doctor_names_every_problem_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Talker:
        raise UserError("the folder is gone")

    monkeypatch.setattr(doctor, "FREE_DISK", 1 << 60)
    monkeypatch.setattr(doctor, "FREE_MEMORY", 1 << 60)
    monkeypatch.setattr(doctor, "ENCODERS", ("gif", "libnothing"))
    monkeypatch.setattr(Talker, "from_pretrained", broken)
    report, found = doctor.report, doctor.report()
    lines = "\n".join(found.lines)
    assert "  encoders: gif\n" in lines
    assert "  puppet cannot be loaded: the folder is gone\n" in lines
    wanted = ["free some disk space", "close other programs", "install the registry's wheel of av: it lacks"]
    for problem, words in zip(found.problems, [*wanted, "restore talker/assets/puppet"], strict=True):
        assert problem.startswith(words)
        assert f"  {problem}" in lines
    assert "libnothing" in found.problems[2]
    monkeypatch.setattr(doctor, "report", lambda: found)
    assert main(["doctor"]) == 1
    monkeypatch.setattr(doctor, "report", report)
    monkeypatch.setattr("talker.shipped.shipped_models", lambda: [])
    assert doctor.report().problems[-1] == "no model is shipped: clone the repository again"


def test_info_without_measures_says_so(capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("talker.shipped.VOICE_MEASURES", tmp_path / "none.json")
    assert main(["info"]) == 0
    first, *others = shipped_names("voices")
    printed = capsys.readouterr().out
    assert f"  {first}: not measured (default)\n" in printed
    assert f"  {others[0]}: not measured\n" in printed


def test_info_lists_models_portraits_and_voices(capsys) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for line in ("portraits: ada, ", "  ada: ", " (default)", "model puppet: "):
        assert line in printed


def test_weights_is_a_deprecated_name_of_model(folder: Path, tmp_path: Path, capsys) -> None:
    speech = ["say", "Hi.", "--audio-only", "--steps", "1", "--voice", str(folder / "voice.wav"), "--json"]
    assert main([*speech, "--model", str(folder), "-o", str(tmp_path / "a.wav")]) == 0
    assert capsys.readouterr().err == LOADING
    assert main([*speech, "--weights", str(folder), "-o", str(tmp_path / "b.wav")]) == 0
    printed = capsys.readouterr()
    assert printed.err == "talker: --weights is deprecated and will be removed: use --model\n" + LOADING
    assert printed.out.count("\n") == 1
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    both = ["--weights", str(folder), "--model", str(folder)]
    assert main([*speech, *both, "-o", str(tmp_path / "c.wav")]) == 2
    assert "give --model alone" in capsys.readouterr().err


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose stop probability is always 1."""
    return write_checkpoint(tmp_path_factory.mktemp("stopping"), stops=True)


OPTIONS = [
    (["--preset", "release", "--sway", "0.5"], {"sampling": Sampling(steps=2, temperature=0.3, sway=0.5)}),
    (["--guidance", "1.5", "--voice-text", "So."], {"guidance": 1.5, "said": "So."}),
    (["--temperature", "0.1", "--seed", "7"], {"temperature": 0.1, "seed": 7}),
    (["--stop", "release"], {"stop": StopRule.release()}),
    (["--voice-seconds", "0.4"], {"prefix_seconds": 0.4}),
]


@pytest.mark.parametrize(("options", "meaning"), OPTIONS, ids=lambda value: str(value)[:24])
def test_each_option_is_an_argument_of_say(stopping: Path, folder: Path, tmp_path: Path, options, meaning):
    """The command and the call write identical files, which differ from that of the default settings."""
    wav = folder / "voice.wav"
    speech = ["say", "Hi.", "--audio-only", "--steps", "2", "--voice", str(wav), "--model", str(stopping)]
    assert main([*speech, *options, "-o", str(tmp_path / "command.wav")]) == 0
    talker = Talker.from_pretrained(stopping)
    own = dataclasses.replace(talker.system.generator.defaults.sampling, steps=2)
    sampling = meaning.get("sampling") or dataclasses.replace(
        own, **{name: value for name, value in meaning.items() if name in ("temperature", "guidance")}
    )
    voice = talker.voice(wav, meaning.get("said"), meaning.get("prefix_seconds"))
    arguments = {name: value for name, value in meaning.items() if name in ("stop", "seed")}
    clip = talker.say("Hi.", voice, sampling=sampling, audio_only=True, **arguments)
    clip.save(tmp_path / "call.wav")
    talker.say("Hi.", talker.voice(wav), sampling=own, audio_only=True).save(tmp_path / "default.wav")
    command, call, default = (
        (tmp_path / f"{name}.wav").read_bytes() for name in ("command", "call", "default")
    )
    assert command == call != default


def test_values_out_of_range_are_refused(folder: Path, tmp_path: Path, capsys) -> None:
    assert say(folder, "--sway", "2", out=tmp_path / "a.mp4") == 2
    assert "--sway must be between" in capsys.readouterr().err
    assert say(folder, "--voice-text", "word " * 300, out=tmp_path / "a.mp4") == 2
    assert "the text of the voice's recording is too long" in capsys.readouterr().err


def test_wrong_calls_are_refused_before_torch_is_imported(folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [np.zeros((64, 64, 3), np.uint8)] * 5)
    picture = str(tmp_path / "face.png")
    Image.new("RGB", (64, 64)).save(picture)
    calls = [
        ["say", "Hi.", "--portrait", "nobody"],
        ["say", "Hi.", "--voice", "nobody"],
        ["say", "Hi.", "--model", "nowhere"],
        ["say", "Hi.", "--voice", picture],
        ["say", "Hi.", "--portrait", str(tmp_path / "v.mp4")],
        ["say", "Hi.", "--guidance", "nan"],
        ["say", "Hi.", "--temperature", "9"],
        ["say", "Hi.", "-o", str(tmp_path / "none" / "out.mp4")],
        ["say", "Hi.", "-o", str(tmp_path / "out.avi")],
        ["say", "Hi.", "--voice-text", "So."],
        ["say", "Je ne parle pas anglais."],
        ["say", "https://example.org/text.txt"],
        ["say", "Hi.", "--portrait", "https://example.org/face.png"],
        ["demo", "-o", "a.txt"],
        ["animate", "nofile.wav"],
        ["animate", picture],
        ["animate", str(folder / "voice.wav"), "--transcribe", "no-such-model"],
        ["animate", "https://example.org/a.wav"],
        ["dub", str(tmp_path / "v.mp4")],
        ["dub", picture, "Hi."],
        ["dub", "https://example.org/a.mp4", "Hi."],
        ["dub", str(tmp_path / "v.mp4"), "Hi.", "-o", "out.gif"],
    ]
    code = f"""if True:
        import sys
        from talker.cli import main
        for call in {calls!r}:
            assert main(call) == 2, call
            assert "torch" not in sys.modules, call
        assert main(["info"]) == main(["say", "Hi.", "--show-text"]) == 0
        assert "torch" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(calls), done.stderr
    assert done.stderr.count("download") == 4


def test_names_of_shipped_files_in_capitals_are_known() -> None:
    assert shipped("portraits", "ADA") == shipped("portraits", "ada")
    assert shipped("voices", "Frank") == shipped("voices", "frank")
    assert model_folder("Puppet") == model_folder(None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_output_to_a_full_disk_is_an_error_of_one_line() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for arguments in (["say", "Hi.", "--show-text"], ["--help"]):
        with Path("/dev/full").open("w") as full:
            command = [sys.executable, "-m", "talker", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
        assert (done.returncode, done.stderr.count("\n"), "Errno" in done.stderr) == (2, 1, False)


@pytest.mark.long
def test_the_model_imports_no_media_library() -> None:
    code = """if True:
        import sys
        import talker.model.model
        assert "av" not in sys.modules and "PIL" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_input_recording_is_never_overwritten(folder: Path, tmp_path: Path, capsys) -> None:
    own = tmp_path / "own.wav"
    own.write_bytes((folder / "voice.wav").read_bytes())
    before = own.read_bytes()
    model = ["--model", str(folder)]
    assert main(["say", "Hi.", "--audio-only", "--voice", str(own), "-o", str(own), *model]) == 2
    assert "choose another name" in capsys.readouterr().err
    clip = own.rename(tmp_path / "own.mp4")  # the container is found out from the content
    assert main(["animate", str(clip), "-o", str(clip), *model]) == 2
    assert "choose another name" in capsys.readouterr().err
    assert clip.read_bytes() == before


def test_standard_input_one_character_too_long_is_refused(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a" * 500_000)))
    assert main(["say", "-", "--model", str(tmp_path / "none"), "-o", str(tmp_path / "out.mp4")]) == 2
    assert "more than 100,000 characters" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["animate", "say", "dub"])
def test_output_may_not_replace_the_input_recording(tmp_path: Path, capsys, command: str) -> None:
    recording = write_voice(tmp_path / "voice.mp4")
    before = recording.read_bytes()
    arguments = {
        "animate": ["animate", str(recording)],
        "say": ["say", "Hi.", "--voice", str(recording)],
        "dub": ["dub", str(tmp_path / "video.mp4"), "Hi.", "--voice", str(recording)],
    }
    write_video(tmp_path / "video.mp4", [np.zeros((64, 64, 3), np.uint8)] * 5)
    # The check comes before the model is loaded.
    assert main([*arguments[command], "--model", str(tmp_path / "none"), "-o", str(recording)]) == 2
    assert "is the input recording" in capsys.readouterr().err
    assert recording.read_bytes() == before


def test_options_reach_the_clip(
    folder: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options that `test_each_option_is_an_argument_of_say` does not cover, and the defaults of the demo."""
    saved: list[tuple[Clip, Path]] = []
    monkeypatch.setattr(cli, "_save", lambda clip, output, *_: saved.append((clip, output)) or 0)
    monkeypatch.setattr(transcript, "whisper_weights", lambda model: None)
    monkeypatch.setattr(transcript, "whisper_transcriber", lambda model: lambda pcm: f"Heard by {model}.")
    write_video(tmp_path / "video.mp4", [np.zeros((64, 96, 3), np.uint8)] * 5)
    voice, video, out = folder / "voice.wav", tmp_path / "video.mp4", tmp_path / "out.mp4"
    common = ["--model", str(folder), "--seed", "7", "--steps", "3", "--crop", "none", "-o", str(out)]
    own = [*common, "--portrait", str(folder / "face.png")]
    assert main(["say", "Go. We will.", *own, "--voice", str(voice)]) == 0
    assert main(["animate", str(voice), *own, "--text", "Go."]) == 0
    assert main(["animate", str(voice), *own, "--transcribe", "small"]) == 0
    assert main(["dub", str(video), "Le chat dort.", "--force", *common, "--voice", str(voice)]) == 0
    clips = [clip for clip, _ in saved]
    assert [output for _, output in saved] == [out] * 4
    assert [(clip.seed, clip.sampling.steps) for clip in clips] == [(7, 3)] * 4
    say, texted, heard, dubbed = clips
    assert say.sentences == ("Go.", "We will.")
    assert [clip.portrait.framing.side for clip in (say, texted, heard)] == [256] * 3
    assert [window.text for window in texted.windows] == ["Go."]
    assert [window.text for window in heard.windows] == ["Heard by small."]
    assert (dubbed.track.squares, dubbed.sentences, dubbed.voice.name) == (None, ("Le chat dort.",), "voice")
    assert SYNTHETIC not in capsys.readouterr().err
    monkeypatch.setattr(Talker, "from_pretrained", lambda model=None: Talker(say.system))
    assert main(["demo", "-o", str(out)]) == 0
    assert saved[-1][0].sentences == tuple(DEMO.replace("! ", "!|").split("|"))
    assert main(["say", "Go.", "--voice", str(voice), "-o", str(out)]) == 0
    assert errors(capsys.readouterr().err) == [f"talker: {SYNTHETIC}"]
    defaults = saved[-1][0]
    assert defaults.portrait.name == shipped_names("portraits")[0]
    assert main(["say", "Go.", "-o", str(out)]) == 0
    assert saved[-1][0].voice.name == shipped_names("voices")[0]


def test_an_interrupted_command_prints_one_line_and_its_report(capsys, monkeypatch) -> None:
    def interrupt(options: argparse.Namespace, began: float) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_info", interrupt)
    monkeypatch.setattr(cli, "_say", interrupt)
    assert main(["info"]) == main(["say", "Hi."]) == main(["say", "Hi.", "--json"]) == 130
    printed = capsys.readouterr()
    assert printed.out == json.dumps(INTERRUPTED) + "\n"
    assert printed.err == 3 * "talker: interrupted: nothing was written\n"


def test_text_that_is_not_utf8_is_refused(tmp_path: Path, capsys, monkeypatch) -> None:
    nowhere = ["--model", str(tmp_path / "none"), "-o", str(tmp_path / "out.mp4")]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    assert main(["say", "-", *nowhere]) == 2
    assert "standard input is not UTF-8 text" in capsys.readouterr().err
    assert main(["say", "caf\udce9", *nowhere]) == 2
    assert "the text is not UTF-8" in capsys.readouterr().err


def test_options_of_serve_reach_the_server(folder: Path, tmp_path: Path, monkeypatch) -> None:
    seen: list[tuple] = []
    monkeypatch.setattr("talker.serve.server.listen", lambda *where: where[:2])
    monkeypatch.setattr("talker.serve.server.serve", lambda *given: seen.append(given))
    monkeypatch.setattr("talker.serve.store.Store", lambda *kept: kept)
    monkeypatch.setattr(Talker, "from_pretrained", lambda folder: folder)
    options = ["--host", "127.0.0.2", "--port", "8123", "--data", str(tmp_path), "--retain", "2.5"]
    options += ["--capacity", "16", "--allow-host", "a.example", "--allow-host", "b.example"]
    for idle_limit in ("0", "7.5"):
        assert main(["serve", "--model", str(folder), *options, "--idle-limit", idle_limit]) == 0
    talker, name, listener, store, _, hosts, capacity, idle_limit = seen[0]
    assert (talker, name, listener, store) == (folder, folder.name, ("127.0.0.2", 8123), (tmp_path, 2.5))
    assert (hosts, capacity, idle_limit, seen[1][-1]) == (("a.example", "b.example"), 16, 0.0, 7.5)


def test_a_transcript_that_cannot_be_spoken_is_refused_before_a_model_is_loaded(
    folder: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(cli, "_load", lambda options: pytest.fail("loaded"))
    assert say(folder, "--voice-text", "мир", out=tmp_path / "a.mp4") == 2
