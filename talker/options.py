"""The arguments of the command `talker`, and hints at what a wrong one should have been."""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
from pathlib import Path
from typing import Any, NoReturn

from heads.sampling import SAMPLINGS
from talker.model.defaults import STOP_RULES

CAPACITIES = (1, 4, 8, 16)  # those of `talker.generation.running_batch`, whose import takes seconds


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Print `message` in one line and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; run `{self.prog} --help` for usage\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command; None: those of the process. `command` is None without any.

    Raises SystemExit after printing the help, the version or an error of one line.
    """
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        getattr(options, "parser", parser).error(_unknown(getattr(options, "parser", parser), unknown[0]))
    if options.command is None:
        parser.print_help()
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="talker", description="Make talking portraits from a text, a voice and a face.")
    parser.add_argument(
        "--version", action="version", version=f"talker {importlib.metadata.version('talker')}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_say(commands)
    _add_animate(commands)
    _add_dub(commands)
    _add_batch_dub(commands)
    _add_demo(commands)
    _add_serve(commands)
    _add_key(commands)
    for name, about in (
        ("info", "list the shipped models, portraits and voices"),
        ("doctor", "check the installation and say what to do next"),
    ):
        commands.add_parser(name, help=about, description=f"{about.capitalize()}.")
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _unknown(parser: argparse.ArgumentParser, argument: str) -> str:
    """Error message for an unknown argument, with the closest known option if there is one."""
    names = {name for action in parser._actions for name in action.option_strings}
    name = argument.split("=")[0]
    if name in names:
        return f"{name} stands after --: give options before it"
    if not argument.startswith("-"):
        takes_text = any(action.dest == "text" and not action.option_strings for action in parser._actions)
        return f"unknown argument {argument}{': put the text in quotes' if takes_text else ''}"
    # The dashes are no part of the comparison: short names would be close to each other because of them.
    wanted, known = name.strip("-"), {one.strip("-"): one for one in sorted(names)}
    near = difflib.get_close_matches(wanted, known, 1)
    if len(wanted) == 1:
        near = [one for one in known if len(one) > 1 and one.startswith(wanted.lower())]
    return f"unknown argument {argument}{f', did you mean {known[near[0]]}?' if len(near) == 1 else ''}"


def _add_say(commands: Any) -> None:
    say = commands.add_parser(
        "say",
        help="make a video that speaks a text",
        description="Write a video in which a face speaks TEXT with a voice.",
    )
    _add_text(say)
    say.add_argument(
        "--show-text",
        action="store_true",
        help="print the words that would be spoken, one sentence a line, and exit without loading a model",
    )
    _add_output(say, "talker-FIRST-WORDS.mp4, or .wav with --audio-only")
    say.add_argument(
        "--audio-only",
        action="store_true",
        help="write speech without video: OUT is a .wav, .flac, .m4a, .mp3, .ogg or .opus file",
    )
    _add_portrait(say)
    _add_voice(say)
    before = say.add_mutually_exclusive_group()
    before.add_argument(
        "--voice-text",
        metavar="TEXT",
        help="transcript of the recording V; TEXT is spoken as the sentence after it",
    )
    before.add_argument(
        "--voice-seconds",
        type=float,
        metavar="S",
        help="continue from the first S seconds of V; TEXT must begin with the words in them",
    )
    _add_sampling(say)
    say.add_argument(
        "--stop",
        choices=tuple(STOP_RULES),
        help="end after one stop prediction (paper) or three in a row (release); default: rule of the model",
    )


def _add_animate(commands: Any) -> None:
    animate = commands.add_parser(
        "animate",
        help="make a video of a face that speaks a recording",
        description="Write a video in which a face speaks AUDIO. It has the length and the sound of AUDIO.",
    )
    animate.add_argument("audio", metavar="AUDIO", help="a recording of speech: wav, mp3, m4a, a video, ...")
    _add_output(animate, "AUDIO-animated.mp4")
    animate.add_argument(
        "--text",
        metavar="TEXT",
        help="transcript of AUDIO, which improves the lip motion; - reads it from standard input",
    )
    animate.add_argument(
        "--transcribe",
        metavar="MODEL",
        help="transcribe AUDIO with openai-whisper: a weights file, or the name of a model that whisper has "
        "already downloaded, such as base.en",
    )
    _add_portrait(animate)
    _add_sampling(animate)


def _add_dub(commands: Any) -> None:
    dub = commands.add_parser(
        "dub",
        help="replace the speech of a video",
        description="Speak TEXT with a voice, synchronous with the face in VIDEO. The video track is copied.",
    )
    dub.add_argument("video", metavar="VIDEO", help="a video of one person speaking")
    _add_text(dub)
    dub.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="output file (default: VIDEO-dubbed.mp4, or the container of VIDEO if mp4 cannot hold it)",
    )
    _add_crop(dub)
    _add_voice(dub, "; VIDEO itself may be given if it has sound")
    _add_sampling(dub)


def _add_batch_dub(commands: Any) -> None:
    batch = commands.add_parser(
        "batch-dub",
        help="dub many videos by a manifest",
        description="Dub the videos of MANIFEST (JSON lines or CSV, see docs/dubbing.md) into DIR. "
        "The same command continues a batch. Exit codes: 0, 1 if a row failed, 2 if the manifest "
        "cannot be used, 130 if interrupted.",
    )
    batch.add_argument("manifest", metavar="MANIFEST", help="one row a clip: a .csv file, or JSON lines")
    batch.add_argument("--out", metavar="DIR", help="folder of the finished videos and of the report")
    batch.add_argument("--root", metavar="DIR", help="folder that contains all inputs (default: of MANIFEST)")
    batch.add_argument(
        "--init", metavar="FOLDER", help="write MANIFEST for the videos and subtitles of FOLDER, and exit"
    )
    batch.add_argument(
        "--dry-run", action="store_true", help="check all rows, print their problems, and exit"
    )
    batch.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="value of a field that rows do not have",
    )
    batch.add_argument(
        "--model", metavar="M", help="model name that `talker info` lists, or a checkpoint folder"
    )
    batch.add_argument(
        "--capacity",
        type=int,
        default=4,
        choices=(1, 4, 8, 16),
        help="cues that are generated at once (default: 4)",
    )
    batch.add_argument("--workers", type=int, default=1, metavar="N", help="number of processes (default: 1)")
    batch.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="use N workers of a Ray cluster: its address, auto (the running one) or local",
    )
    batch.add_argument(
        "--gc", action="store_true", help="remove artefacts in DIR/work that no row of MANIFEST uses"
    )


def _add_text(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "text", metavar="TEXT", nargs="?", help="English text to speak; - reads it from standard input"
    )
    command.add_argument(
        "--text-file", metavar="FILE", help="read the text from a UTF-8 file instead of TEXT"
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="read a text of another language by English rules, and leave out letters of other scripts",
    )


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="make the demo clip",
        description="Write a video in which the first shipped face speaks one sentence.",
    )
    _add_output(demo, "talker-demo.mp4")


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser(
        "serve",
        help="generate live streams for other programs",
        description="Serve live streams over HTTP and WebSockets, until Ctrl-C or SIGTERM.",
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="H",
        help="address to listen on; one that other machines reach needs --keys (default: 127.0.0.1)",
    )
    serve.add_argument(
        "--port",
        type=int,
        default=8000,
        metavar="N",
        help="port to listen on; 0: any free one (default: 8000)",
    )
    serve.add_argument(
        "--capacity",
        type=int,
        choices=CAPACITIES,
        help="number of rows of the batch; the number of sessions is measured, too (default: measured)",
    )
    serve.add_argument(
        "--keys",
        metavar="FILE",
        help="API keys, from `talker key FILE`; every request then needs one (default: none needed)",
    )
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name of this server in its users' URLs, for example behind a proxy; may be repeated",
    )
    serve.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="folder for uploads, jobs and results (default: ~/.local/share/talker/serve)",
    )
    serve.add_argument(
        "--idle-limit",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="end a session after this time without input and speech; 0: never (default: 120)",
    )
    serve.add_argument(
        "--retain",
        type=_hours,
        default=24.0,
        metavar="HOURS",
        help="time after which uploads and results are deleted (default: 24)",
    )
    _add_model(serve)


def _add_key(commands: Any) -> None:
    key = commands.add_parser(
        "key",
        help="create an API key for `talker serve`",
        description="Create an API key, print it, and append its hash to FILE.",
    )
    key.add_argument("file", metavar="FILE", help="file for `talker serve --keys FILE`")
    key.add_argument(
        "--name",
        default="default",
        metavar="N",
        help="name of the owner, who sees only what was made with keys of this name (default: default)",
    )


def _hours(text: str) -> float:
    """A duration in hours."""
    hours = float(text)
    if not 0 < hours <= 24 * 365:
        raise ValueError
    return hours


def _seconds(text: str) -> float:
    """A duration in seconds, or 0."""
    seconds = float(text)
    if not 0 <= seconds <= 24 * 3600:
        raise ValueError
    return seconds


def _add_output(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help=f"output file: .mp4, .mov, .mkv, .webm or .gif (default: {default}; a number is added to the "
        "name if the file exists)",
    )


def _add_portrait(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--portrait", metavar="P", help="image of a face, or a portrait name that `talker info` lists"
    )
    _add_crop(command)


def _add_crop(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--crop",
        choices=("face", "none"),
        default="face",
        help="crop to the face (default), or to the largest centred square",
    )


def _add_voice(command: argparse.ArgumentParser, more: str = "") -> None:
    command.add_argument(
        "--voice", metavar="V", help=f"recording of a voice, or a voice name that `talker info` lists{more}"
    )


def _add_sampling(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the random noise (default: 0)"
    )
    command.add_argument(
        "--preset",
        choices=tuple(SAMPLINGS),
        help="sampling settings (default: those of the model)",
    )
    command.add_argument(
        "--temperature", type=float, metavar="T", help="scale of the noise; higher values vary more (0 to 2)"
    )
    command.add_argument(
        "--guidance", type=float, metavar="G", help="scale of classifier-free guidance; 1 turns it off"
    )
    command.add_argument(
        "--steps", type=int, metavar="N", help="solver steps per patch; fewer steps are faster"
    )
    command.add_argument(
        "--sway",
        type=float,
        metavar="S",
        help="coefficient of sway sampling; higher values take smaller steps first, 0 takes equal steps",
    )
    _add_model(command)
    command.add_argument("--weights", metavar="FOLDER", help=argparse.SUPPRESS)  # the former name of --model
    command.add_argument("--json", action="store_true", help="print a report as one line of JSON")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", metavar="M", help="model name that `talker info` lists, or a checkpoint folder"
    )
