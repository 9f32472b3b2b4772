"""The command `talker`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import errno
import importlib.metadata
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from talker.clock import SAMPLE_RATE
from talker.errors import UserError
from talker.signals import exit_on_signals

if TYPE_CHECKING:
    from heads.solver import Sampling
    from talker.clips.clip import Clip
    from talker.pipeline import Talker

log = logging.getLogger("talker")

LONGEST_TEXT = 100_000  # characters, more than an hour of speech
LONGEST_NAME = 40  # characters of the default output name
CAPACITIES = (1, 4, 8, 16)  # those of `talker.generation.running_batch`, whose import takes seconds
SYNTHETIC = (
    "the default model was trained on synthetic people only: results with real photos and voices will be poor"
)
INTERRUPTED = {"output": None, "duration_seconds": 0.0, "patches": 0, "finish_reason": "interrupted"}
NOTHING_WRITTEN = "nothing was written"
DEMO = "Hello! I am a talking portrait, and I was generated just now, on this very machine."


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    The exit code is 0, 2 after an error of the user, or 128 + the number of the signal that ended the
    command: 130 after Ctrl-C.

    `arguments` None: use the arguments of the process, and handle its signals.
    """
    began = time.perf_counter()
    with _logging_to_stderr():
        return _run(arguments, began)


@contextlib.contextmanager
def _logging_to_stderr() -> Iterator[None]:
    """Log messages of the package to standard error, and restore the logger afterwards."""
    handler, level = logging.StreamHandler(sys.stderr), log.level
    handler.setFormatter(logging.Formatter("talker: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _run(arguments: list[str] | None, began: float) -> int:
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    if unknown:
        options.parser.error(f"unknown argument {unknown[0]}{_near(options.parser, unknown[0])}")
    stopping = exit_on_signals(NOTHING_WRITTEN) if arguments is None else contextlib.nullcontext()
    try:
        with stopping:
            return _run_command(options, began)
    except KeyboardInterrupt:
        log.error("interrupted: %s", NOTHING_WRITTEN)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of standard output has gone, which is no error of this command
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        log.error("%s", error)
        return 2
    except (OSError, MemoryError) as error:
        number = getattr(error, "errno", errno.ENOMEM)  # None: from a library that cannot be loaded
        advice = "free disk space or memory and try again" if number else "run `talker doctor`"
        log.error("%s; %s", error, advice)
        return 2


def _run_command(options: argparse.Namespace, began: float) -> int:
    try:
        code: int = options.run(options, began)
    except KeyboardInterrupt:
        if getattr(options, "json", False):
            print(json.dumps(INTERRUPTED))
        raise
    return code


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Print `message` in one line and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; run `{self.prog} --help` for usage\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="talker", description="Make talking portraits from a text, a voice and a face.")
    parser.add_argument(
        "--version", action="version", version=f"talker {importlib.metadata.version('talker')}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_say(commands)
    _add_animate(commands)
    _add_dub(commands)
    _add_demo(commands)
    _add_serve(commands)
    for name, run, about in (
        ("info", _info, "list the shipped models, portraits and voices"),
        ("doctor", _doctor, "check the installation and say what to do next"),
    ):
        command = commands.add_parser(name, help=about, description=f"{about.capitalize()}.")
        command.set_defaults(run=run)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _near(parser: argparse.ArgumentParser, argument: str) -> str:
    """A hint at the option whose name is closest to an unknown one, if any."""
    names = [name for action in parser._actions for name in action.option_strings]
    found = difflib.get_close_matches(argument.split("=")[0], names, 1)
    return f", did you mean {found[0]}?" if found else ""


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
        choices=("paper", "release"),
        help="end after one stop prediction (paper) or three in a row (release); default: rule of the model",
    )
    say.set_defaults(run=_say)


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
    animate.set_defaults(run=_animate)


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
    dub.set_defaults(run=_dub)


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
    demo.set_defaults(run=_demo, text=DEMO)


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
        help="address to listen on, of this machine only (default: 127.0.0.1)",
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
        help="number of sessions at once; more are refused (default: measured when the server starts)",
    )
    _add_model(serve)
    serve.set_defaults(run=_serve, weights=None)


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
        choices=("puppet", "paper", "release"),
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


def _say(options: argparse.Namespace, began: float) -> int:
    text = _text_to_speak(options)
    if options.show_text:
        return _show_text(text, options.force)
    from talker.media.files import CLIP_FILES, SOUND_FILES, check_output, unused_name
    from talker.model.defaults import STOP_RULES

    # Check everything before loading, which takes time.
    default = unused_name(_name_of(text), ".wav" if options.audio_only else ".mp4")
    output = check_output(options.output or default, tuple(SOUND_FILES if options.audio_only else CLIP_FILES))
    _check_not_input(output, options.voice)
    sampling = _sampling(options)
    _check_inputs(options)
    talker = _load(options)
    voice = talker.voice(options.voice, options.voice_text, options.voice_seconds)
    face = None if options.audio_only else talker.portrait(options.portrait, options.crop)
    loaded = time.perf_counter()
    utterance = talker.say(
        text,
        voice,
        face,
        seed=options.seed,
        sampling=sampling.of(talker),
        audio_only=options.audio_only,
        stop=STOP_RULES.get(options.stop),
        force=options.force,
    )
    return _save(utterance, output, options.json, loaded - began)


def _animate(options: argparse.Namespace, began: float) -> int:
    from talker.media.files import CLIP_FILES, check_input, check_output, unused_name
    from talker.media.readers import check_sound

    text = None if options.text is None else _text(options.text)
    if text is not None and options.transcribe is not None:
        raise UserError("give --text or --transcribe, not both")
    audio = check_input(options.audio)
    output = check_output(options.output or unused_name(f"{audio.stem}-animated", ".mp4"), tuple(CLIP_FILES))
    _check_not_input(output, str(audio))
    check_sound(audio)
    sampling, transcriber = _sampling(options), None
    _check_inputs(options)
    if options.transcribe is not None:
        from talker.clips.transcript import whisper_transcriber

        transcriber = whisper_transcriber(options.transcribe)
    talker = _load(options)
    face = talker.portrait(options.portrait, options.crop)
    loaded = time.perf_counter()
    animation = talker.animate(
        options.audio, face, text, transcriber, seed=options.seed, sampling=sampling.of(talker)
    )
    return _save(animation, output, options.json, loaded - began)


def _dub(options: argparse.Namespace, began: float) -> int:
    from talker.media.remux import check_dub, dubbed_name

    text = _text_to_speak(options)
    output = check_dub(options.output or dubbed_name(options.video), options.video)
    _check_not_input(output, options.voice)
    sampling = _sampling(options)
    _check_inputs(options)
    talker = _load(options)
    voice = talker.voice(options.voice)
    loaded = time.perf_counter()
    dubbing = talker.dub(
        options.video,
        text,
        voice,
        options.crop,
        seed=options.seed,
        sampling=sampling.of(talker),
        force=options.force,
    )
    return _save(dubbing, output, options.json, loaded - began)


def _demo(options: argparse.Namespace, began: float) -> int:
    from talker.media.files import CLIP_FILES, check_output, unused_name
    from talker.pipeline import Talker

    output = check_output(options.output or unused_name("talker-demo", ".mp4"), tuple(CLIP_FILES))
    talker = Talker.from_pretrained()
    return _save(talker.say(options.text), output, False, time.perf_counter() - began)


def _name_of(text: str) -> str:
    """The first words of a text as the stem of a file name: "talker-it-was-a-bright-cold-day"."""
    name = "talker"
    for word in re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("’", "")):
        if len(name) + len(word) >= LONGEST_NAME:
            break
        name += f"-{word}"
    return name


def _check_inputs(options: argparse.Namespace) -> None:
    """Check the portrait, the voice and the model without reading them completely.

    Raises:
        UserError: one of them does not exist or is not of the expected kind.
    """
    from talker.media.face import check_picture
    from talker.media.readers import check_sound
    from talker.shipped import model_folder, shipped

    model_folder(options.model or options.weights)
    if getattr(options, "portrait", None) is not None:
        check_picture(shipped("portraits", options.portrait))
    if getattr(options, "voice", None) is not None:
        check_sound(shipped("voices", options.voice))


def _check_not_input(output: Path, recording: str | None) -> None:
    """Raise UserError if the output would overwrite the recording that it is made from."""
    if recording and output.exists() and Path(recording).exists() and output.samefile(recording):
        raise UserError(f"{output} is the input recording: choose another name for --output")


def _load(options: argparse.Namespace) -> Talker:
    from talker.pipeline import Talker

    if options.weights is not None:
        log.warning("--weights is deprecated and will be removed: use --model")
        if options.model is not None:
            raise UserError("give --model alone: --weights is its former name")
    if options.model is None and options.weights is None and _uses_own_files(options):
        log.info(SYNTHETIC)
    return Talker.from_pretrained(options.model or options.weights)


def _uses_own_files(options: argparse.Namespace) -> bool:
    """Whether the face or the voice is not a shipped one."""
    from talker.shipped import shipped_names

    given = [(kind, getattr(options, kind[:-1], None)) for kind in ("portraits", "voices")]
    return options.command == "dub" or any(
        name is not None and name not in shipped_names(kind) for kind, name in given
    )


def _save(clip: Clip, output: Path, as_json: bool, load_seconds: float) -> int:
    with _Progress(clip) as progress:
        report = clip.save(output, progress=progress)
    if as_json:
        print(json.dumps({**dataclasses.asdict(report), "load_seconds": round(load_seconds, 4)}))
    else:
        print(
            f"{report.output}: {report.duration_seconds:.1f} s ({report.finish_reason}), seed {report.seed}"
        )
    return 0


def _text_to_speak(options: argparse.Namespace) -> str:
    """The text of TEXT or --text-file, after a check that it can be spoken.

    Raises:
        UserError: neither or both are given, TEXT names a file, or the text cannot be read or spoken.
    """
    from talker.text.sentences import split_sentences

    text = _given_text(options)
    split_sentences(text, force=options.force)
    return text


def _given_text(options: argparse.Namespace) -> str:
    if (options.text is None) == (options.text_file is None):
        raise UserError("give the text once: as TEXT, as - for standard input, or with --text-file FILE")
    if options.text_file is not None:
        try:
            with Path(options.text_file).open(encoding="utf-8-sig") as file:
                return _checked(file.read(LONGEST_TEXT + 1))
        except UnicodeDecodeError as error:
            raise UserError(f"{options.text_file} is not UTF-8 text: convert it first") from error
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise UserError(
                f"cannot read {options.text_file}: {error.strerror}; check --text-file"
            ) from error
    if options.text != "-" and _is_file(options.text):
        raise UserError(
            f"{options.text} is a file: give --text-file {options.text} to speak its text, or - to speak "
            "standard input"
        )
    return _text(options.text)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def _show_text(text: str, force: bool) -> int:
    """Print the spoken form of each sentence on a line."""
    from talker.text.sentences import split_sentences
    from talker.text.spoken import spoken

    for sentence in split_sentences(text, force=force):
        print(spoken(sentence))
    return 0


def _text(argument: str) -> str:
    """The text to speak: the argument, or standard input for "-".

    Raises:
        UserError: the text is empty or too long, or standard input is not UTF-8.
    """
    if argument == "-":
        data = sys.stdin.buffer.read(4 * LONGEST_TEXT + 1)  # UTF-8 has at most 4 bytes per character
        try:
            text = data.decode("utf-8-sig", "strict" if len(data) <= 4 * LONGEST_TEXT else "ignore")
        except UnicodeDecodeError as error:
            raise UserError("standard input is not UTF-8 text: save the text as UTF-8") from error
    else:
        text = argument
        if any("\ud800" <= character <= "\udfff" for character in text):  # bytes that are not UTF-8
            raise UserError("the text is not UTF-8: give it in a UTF-8 terminal, or with - from a file")
    return _checked(text)


def _checked(text: str) -> str:
    """The text, unless it is empty or too long. Raises UserError."""
    if not text.strip():
        raise UserError("the text is empty: give at least one word")
    if len(text) > LONGEST_TEXT:
        raise UserError(f"the text has more than {LONGEST_TEXT:,} characters: split it into several clips")
    return text


def _sampling(options: argparse.Namespace) -> Changes:
    """The sampling options that were given. Also checks the seed.

    Raises:
        UserError: an option is out of range.
    """
    from heads.solver import SAMPLINGS

    if not 0 <= options.seed < 2**63:
        raise UserError("--seed must be 0 or a positive number below 2^63")
    ranges: dict[str, tuple[float, float]] = {
        "temperature": (0, 2),
        "guidance": (0, 20),
        "steps": (1, 1000),
        "sway": (-1, 1.75),  # outside this range the times of the solver would not decrease
    }
    given = {name: getattr(options, name) for name in ranges if getattr(options, name) is not None}
    for name, value in given.items():
        low, high = ranges[name]
        if not low <= value <= high:  # also false for nan
            raise UserError(f"--{name} must be between {low} and {high}, not {value}")
    return Changes(SAMPLINGS.get(options.preset), given)


@dataclasses.dataclass(frozen=True)
class Changes:
    """Changes of a model's sampling settings.

    Args:
        preset: settings that replace the model's defaults; None: keep the defaults.
        values: single settings by name, applied afterwards.
    """

    preset: Sampling | None
    values: dict[str, Any]

    def of(self, talker: Talker) -> Sampling:
        """The settings of `talker` with these changes."""
        own = self.preset or talker.system.generator.defaults.sampling
        return dataclasses.replace(own, **self.values)


class _Progress:
    """A progress bar on standard error, in seconds of media. Hidden if standard error is not a terminal."""

    def __init__(self, clip: Clip) -> None:
        from tqdm import tqdm

        expected = round(clip.expected_seconds, 1)
        shape = "{l_bar}{bar}| {n:.1f} of about {total:.1f} s [{elapsed}]"
        self._bar = tqdm(total=expected, bar_format=shape, disable=None, leave=False, file=sys.stderr)

    def __enter__(self) -> Callable[[Any], None]:
        return lambda chunk: None if self._bar.disable else self._advance(len(chunk.pcm) / SAMPLE_RATE)

    def _advance(self, seconds: float) -> None:
        self._bar.total = max(self._bar.total, self._bar.n + seconds)
        self._bar.update(seconds)

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _serve(options: argparse.Namespace, began: float) -> int:
    try:
        from talker.serve.server import listen, serve
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is missing: install the extra serve, `pip install 'talker[serve]'`"
        ) from error
    from talker.pipeline import Talker
    from talker.shipped import model_folder

    listener = listen(options.host, options.port)
    folder = model_folder(options.model)
    serve(Talker.from_pretrained(folder), folder.resolve().name, listener, options.capacity)
    return 0


def _info(options: argparse.Namespace, began: float) -> int:
    from talker.shipped import model_folder, shipped_models, shipped_names, voice_error_rates

    print(f"talker {importlib.metadata.version('talker')}")
    print(f"portraits: {', '.join(shipped_names('portraits')) or 'none'}")
    rates = voice_error_rates()
    print("voices, with the phoneme errors of the default model:")
    for number, name in enumerate(shipped_names("voices")):
        rate = f"{100 * rates[name]:.0f} %" if name in rates else "not measured"
        print(f"  {name}: {rate}{' (default)' if number == 0 else ''}")
    for name in shipped_models():
        parts = sorted(model_folder(name).glob("*/model.safetensors"))
        sizes = ", ".join(f"{path.parent.name} {path.stat().st_size / 1e6:.1f} MB" for path in parts)
        print(f"model {name}: {sizes}")
    return 0


def _doctor(options: argparse.Namespace, began: float) -> int:
    from talker.doctor import report

    found = report()
    print("\n".join(found.lines))
    return 0 if found.works else 1


if __name__ == "__main__":
    sys.exit(main())
