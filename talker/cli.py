"""The command `talker`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from talker.clock import SAMPLE_RATE
from talker.errors import UserError

if TYPE_CHECKING:
    from heads.solver import Sampling
    from talker.clips.clip import Clip
    from talker.pipeline import Talker

log = logging.getLogger("talker")

LONGEST_TEXT = 100_000  # characters, more than an hour of speech
SYNTHETIC = (
    "the default voices and faces were learned from synthetic people only: expect little of real photos"
)
INTERRUPTED = {"output": None, "duration_seconds": 0.0, "patches": 0, "finish_reason": "interrupted"}
IMPATIENT_SECONDS = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for what the user can mend, 130 after Ctrl-C.

    Without arguments, those of the process, whose signals then are the command's too.
    """
    began = time.perf_counter()
    with _logging_to_stderr():
        return _run(arguments, began)


@contextlib.contextmanager
def _logging_to_stderr() -> Iterator[None]:
    """Messages of the package on standard error; afterwards the logger is as it was before."""
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
    options = _parser().parse_args(arguments)
    try:
        if arguments is None:
            _take_signals()
        return options.run(options, began)
    except KeyboardInterrupt:
        if arguments is None:
            # On the way out there is nothing to interrupt, and Python would say where it was.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        if getattr(options, "json", False):
            print(json.dumps(INTERRUPTED))
        log.error("interrupted; nothing was written")
        return 130
    except UserError as error:
        log.error("%s", error)
        return 2
    except (OSError, MemoryError) as error:
        log.error("%s; free some space or memory and try again", error)
        return 2


def _take_signals() -> None:
    """A polite kill is a Ctrl-C, so that no half-written file stays; so are several in a row, for a second
    one would interrupt the cleaning up.
    """
    last = -IMPATIENT_SECONDS

    def interrupt(number: int, frame: Any) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= IMPATIENT_SECONDS:
            raise KeyboardInterrupt

    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is usual:  # a shell's background job ignores Ctrl-C
            signal.signal(number, interrupt)


class _Parser(argparse.ArgumentParser):
    """Whose complaints are one line too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` shows how\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="talker", description="Talking portraits from text, a voice and a face.")
    parser.add_argument(
        "--version", action="version", version=f"talker {importlib.metadata.version('talker')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_say(commands)
    _add_animate(commands)
    _add_dub(commands)
    info = commands.add_parser(
        "info", help="list what ships", description="List the portraits and voices that ship."
    )
    info.set_defaults(run=_info)
    return parser


def _add_say(commands: Any) -> None:
    say = commands.add_parser(
        "say", help="speak a text", description="Speak TEXT with a voice and a face, as an mp4."
    )
    say.add_argument("text", metavar="TEXT", help="what to say, English; - reads it from standard input")
    say.add_argument("-o", "--output", metavar="OUT.mp4", required=True, help="where to write")
    say.add_argument(
        "--audio-only",
        action="store_true",
        help="speech alone, without a face: OUT is a .wav, .flac, .m4a, .mp3, .ogg or .opus",
    )
    _add_portrait(say)
    _add_voice(say)
    before = say.add_mutually_exclusive_group()
    before.add_argument(
        "--voice-text",
        metavar="TEXT",
        help="the words in the recording V: go on from it as the next sentence",
    )
    before.add_argument(
        "--voice-seconds",
        type=float,
        metavar="S",
        help="go on from the first S seconds of V, TEXT begins there",
    )
    _add_sampling(say)
    say.add_argument(
        "--stop",
        choices=("paper", "release"),
        help="end at the first patch that looks like an end, or at three in a row (else as the weights want)",
    )
    say.set_defaults(run=_say)


def _add_animate(commands: Any) -> None:
    animate = commands.add_parser(
        "animate",
        help="let a face speak a recording",
        description="Let a face speak AUDIO, as an mp4 that is as long and has the same sound.",
    )
    animate.add_argument("audio", metavar="AUDIO", help="a recording of speech: wav, mp3, m4a, a video, ...")
    animate.add_argument("-o", "--output", metavar="OUT.mp4", required=True, help="where to write")
    animate.add_argument("--text", metavar="TEXT", help="what is said; helps the lips. - reads it from stdin")
    animate.add_argument(
        "--transcribe",
        metavar="MODEL",
        help="let openai-whisper find out what is said: the file of its weights, or a name such as base.en "
        "where it has them already",
    )
    _add_portrait(animate)
    _add_sampling(animate)
    animate.set_defaults(run=_animate)


def _add_dub(commands: Any) -> None:
    dub = commands.add_parser(
        "dub",
        help="give a video a voice",
        description="Let a voice speak TEXT in time with the face in VIDEO; its pictures are copied.",
    )
    dub.add_argument("video", metavar="VIDEO", help="a video of one person speaking")
    dub.add_argument("text", metavar="TEXT", help="what is said, English; - reads it from standard input")
    dub.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="where to write (default: VIDEO-dubbed.mp4; in the container of VIDEO where mp4 cannot hold it)",
    )
    dub.add_argument("--crop", choices=("face", "none"), default="face", help="find the face, or do not look")
    _add_voice(dub, "; VIDEO itself, if it has sound")
    _add_sampling(dub)
    dub.set_defaults(run=_dub)


def _add_portrait(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--portrait", metavar="P", help="a picture of a face, or a name that `talker info` lists"
    )
    command.add_argument(
        "--crop", choices=("face", "none"), default="face", help="frame the face, or take the picture as is"
    )


def _add_voice(command: argparse.ArgumentParser, more: str = "") -> None:
    command.add_argument(
        "--voice", metavar="V", help=f"a recording of a voice, or a name that `talker info` lists{more}"
    )


def _add_sampling(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed, another take (default: 0)"
    )
    command.add_argument(
        "--preset",
        choices=("puppet", "paper", "release"),
        help="how patches are drawn (else as the model wants)",
    )
    command.add_argument("--temperature", type=float, metavar="T", help="0 to 1: from even to lively")
    command.add_argument(
        "--guidance", type=float, metavar="G", help="how strictly to follow what is given; 1 is off"
    )
    command.add_argument("--steps", type=int, metavar="N", help="solver steps a patch: fewer is faster")
    command.add_argument("--sway", type=float, metavar="S", help="how far small steps come first; 0 is even")
    command.add_argument(
        "--model", metavar="M", help="a name that `talker info` lists, or a checkpoint's folder"
    )
    command.add_argument("--weights", metavar="FOLDER", help=argparse.SUPPRESS)  # the former name of --model
    command.add_argument("--json", action="store_true", help="print one line about the result")


def _say(options: argparse.Namespace, began: float) -> int:
    from talker.media.files import SOUND_FILES, check_output
    from talker.model.defaults import STOP_RULES

    text = _text(options.text)
    # A wrong name should not cost the time to load.
    output = check_output(options.output, tuple(SOUND_FILES) if options.audio_only else (".mp4",))
    _spare(output, options.voice)
    sampling = _sampling(options)
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
    )
    return _save(utterance, options, loaded - began)


def _animate(options: argparse.Namespace, began: float) -> int:
    from talker.media.files import check_input, check_output

    text = None if options.text is None else _text(options.text)
    if text is not None and options.transcribe is not None:
        raise UserError("give --text or --transcribe, not both")
    output = check_output(options.output)
    _spare(output, str(check_input(options.audio)))
    sampling, transcriber = _sampling(options), None
    if options.transcribe is not None:
        from talker.clips.transcript import whisper_transcriber

        transcriber = whisper_transcriber(options.transcribe)
    talker = _load(options)
    face = talker.portrait(options.portrait, options.crop)
    loaded = time.perf_counter()
    animation = talker.animate(
        options.audio, face, text, transcriber, seed=options.seed, sampling=sampling.of(talker)
    )
    return _save(animation, options, loaded - began)


def _dub(options: argparse.Namespace, began: float) -> int:
    from talker.media.remux import check_dub, dubbed_name

    text = _text(options.text)
    options.output = check_dub(options.output or dubbed_name(options.video), options.video)
    _spare(options.output, options.voice)
    sampling = _sampling(options)
    talker = _load(options)
    voice = talker.voice(options.voice)
    loaded = time.perf_counter()
    dubbing = talker.dub(
        options.video, text, voice, options.crop, seed=options.seed, sampling=sampling.of(talker)
    )
    return _save(dubbing, options, loaded - began)


def _spare(output: Path, recording: str | None) -> None:
    """Raises UserError where the output would replace the recording that it is made from."""
    if recording and output.exists() and Path(recording).exists() and output.samefile(recording):
        raise UserError(f"{output} is the recording itself: choose another name for the output")


def _load(options: argparse.Namespace) -> Talker:
    from talker.pipeline import Talker

    if options.weights is not None:
        log.warning("--weights is deprecated and will be removed: use --model")
        if options.model is not None:
            raise UserError("give --model alone: --weights is its former name")
    talker = Talker.from_pretrained(options.model or options.weights)
    if options.model is None and options.weights is None:
        log.info(SYNTHETIC)
    return talker


def _save(clip: Clip, options: argparse.Namespace, load_seconds: float) -> int:
    with _Progress(clip) as progress:
        report = clip.save(options.output, progress=progress)
    if options.json:
        print(json.dumps({**dataclasses.asdict(report), "load_seconds": round(load_seconds, 4)}))
    else:
        print(
            f"{report.output}: {report.duration_seconds:.1f} s ({report.finish_reason}), seed {report.seed}"
        )
    return 0


def _text(argument: str) -> str:
    """The text to say.

    Raises:
        UserError: empty, too long, or standard input is no text.
    """
    try:
        text = sys.stdin.read(LONGEST_TEXT + 1) if argument == "-" else argument
    except UnicodeDecodeError as error:
        raise UserError("standard input is not UTF-8 text") from error
    if not text.strip():
        raise UserError("the text is empty: give at least one word")
    if len(text) > LONGEST_TEXT:
        raise UserError(f"the text has more than {LONGEST_TEXT:,} characters: split it into several clips")
    return text


def _sampling(options: argparse.Namespace) -> Changes:
    """The preset and the options that were given; checks the seed too.

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
        "sway": (-1, 1.75),  # beyond, time would run backwards
    }
    given = {name: getattr(options, name) for name in ranges if getattr(options, name) is not None}
    for name, value in given.items():
        low, high = ranges[name]
        if not low <= value <= high:  # also false for nan
            raise UserError(f"--{name} must be between {low} and {high}, not {value}")
    return Changes(SAMPLINGS.get(options.preset), given)


@dataclasses.dataclass(frozen=True)
class Changes:
    """What the user changes of a model's own sampling: a preset (None: its own), and single values."""

    preset: Sampling | None
    values: dict[str, Any]

    def of(self, talker: Talker) -> Sampling:
        """The sampling of a clip."""
        own = self.preset or talker.system.generator.defaults.sampling
        return dataclasses.replace(own, **self.values)


class _Progress:
    """A bar on standard error, in seconds of media; invisible where that is no terminal."""

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


def _info(options: argparse.Namespace, began: float) -> int:
    from talker.shipped import model_folder, shipped_models, shipped_names

    print(f"talker {importlib.metadata.version('talker')}")
    for kind in ("portraits", "voices"):
        print(f"{kind}: {', '.join(shipped_names(kind)) or 'none'}")
    for name in shipped_models():
        parts = sorted(model_folder(name).glob("*/model.safetensors"))
        sizes = ", ".join(f"{path.parent.name} {path.stat().st_size / 1e6:.1f} MB" for path in parts)
        print(f"model {name}: {sizes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
