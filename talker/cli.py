"""The command `talker`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import importlib.metadata
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from heads.sampling import SAMPLINGS, Sampling
from talker.clock import SAMPLE_RATE
from talker.errors import UserError
from talker.media.files import (
    CLIP_FILES,
    SOUND_FILES,
    VIDEO_FILES,
    check_input,
    check_output,
    error_reason,
    is_url,
    unused_name,
)
from talker.model.defaults import STOP_RULES
from talker.options import parse
from talker.shipped import (
    is_shipped,
    model_folder,
    shipped,
    shipped_models,
    shipped_names,
    voice_error_rates,
)
from talker.signals import discard_unwritable_output, exit_on_signals

if TYPE_CHECKING:
    from talker.clips.clip import Clip
    from talker.pipeline import Talker

log = logging.getLogger("talker")

LONGEST_TEXT = 100_000  # characters, more than an hour of speech
LONGEST_NAME = 40  # characters of the default output name
SYNTHETIC = (
    "the default model was trained on synthetic people only: results with real photos and voices will be poor"
)
INTERRUPTED = {"output": None, "duration_seconds": 0.0, "patches": 0, "finish_reason": "interrupted"}
NOTHING_WRITTEN = "nothing was written"
LOADING = "loading the model"
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "guidance": (0, 20),
    "steps": (1, 1000),
    "sway": (-1, 1.75),  # outside this range the times of the solver would not decrease
}
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
    stopping = exit_on_signals(NOTHING_WRITTEN) if arguments is None else contextlib.nullcontext()
    try:
        try:
            options = parse(arguments)
            if options.command is None:
                return 0
            with stopping:
                return _run_command(options, began)
        finally:
            sys.stdout.flush()  # finds the error of a full disk or of a reader that has gone
    except KeyboardInterrupt:
        log.error("interrupted: %s", NOTHING_WRITTEN)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of standard output has gone, which is no error of this command
        discard_unwritable_output()
        return 0
    except UserError as error:
        log.error("%s", error)
        return 2
    except (OSError, MemoryError) as error:
        discard_unwritable_output()
        number = getattr(error, "errno", errno.ENOMEM)  # None: from a library that cannot be loaded
        advice = "free disk space or memory and try again" if number else "run `talker doctor`"
        file = f"{name}: " if (name := getattr(error, "filename", None)) else ""
        log.error("%s%s; %s", file, error_reason(error), advice)
        return 2


def _run_command(options: argparse.Namespace, began: float) -> int:
    commands = {
        "say": _say,
        "animate": _animate,
        "dub": _dub,
        "batch-dub": _batch_dub,
        "demo": _demo,
        "serve": _serve,
        "key": _key,
        "info": _info,
        "doctor": _doctor,
    }
    try:
        return commands[options.command](options, began)
    except KeyboardInterrupt:
        if getattr(options, "json", False):
            print(json.dumps(INTERRUPTED))
        raise


def _say(options: argparse.Namespace, began: float) -> int:
    # Names and numbers are checked first, then the text and the files: everything before PyTorch is loaded.
    text = _given_text(options)
    if options.show_text:
        return _show_text(text, options.force)
    default = unused_name(_name_of(text), ".wav" if options.audio_only else ".mp4")
    output = check_output(options.output or default, tuple(SOUND_FILES if options.audio_only else CLIP_FILES))
    _check_not_input(output, options.voice)
    _check_options(options)
    _check_texts(text, options.voice_text, force=options.force)
    _check_files(options)
    talker = _load(options)
    voice = talker.voice(options.voice, options.voice_text, options.voice_seconds)
    face = None if options.audio_only else talker.portrait(options.portrait, options.crop)
    loaded = time.perf_counter()
    utterance = talker.say(
        text,
        voice,
        face,
        seed=options.seed,
        sampling=_sampling(options, talker),
        audio_only=options.audio_only,
        stop=STOP_RULES.get(options.stop),
        force=options.force,
    )
    return _save(utterance, output, options.json, loaded - began)


def _animate(options: argparse.Namespace, began: float) -> int:
    text = None if options.text is None else _text(options.text)
    if text is not None and options.transcribe is not None:
        raise UserError("give --text or --transcribe, not both")
    audio = check_input(options.audio)
    output = check_output(options.output or unused_name(f"{audio.stem}-animated", ".mp4"), tuple(CLIP_FILES))
    _check_not_input(output, str(audio))
    _check_options(options)
    _check_texts(text)
    _check_files(options, audio)
    if options.transcribe is not None:
        from talker.clips.transcript import whisper_transcriber, whisper_weights

        whisper_weights(options.transcribe)
    talker = _load(options)
    transcriber = None if options.transcribe is None else whisper_transcriber(options.transcribe)
    face = talker.portrait(options.portrait, options.crop)
    loaded = time.perf_counter()
    log.info("reading %s", audio)
    animation = talker.animate(
        audio, face, text, transcriber, seed=options.seed, sampling=_sampling(options, talker)
    )
    return _save(animation, output, options.json, loaded - began)


def _dub(options: argparse.Namespace, began: float) -> int:
    text, video = _given_text(options), check_input(options.video)
    if options.output:
        _check_not_input(check_output(options.output, tuple(VIDEO_FILES)), options.voice)
    _check_options(options)
    _check_texts(text, force=options.force)

    from talker.media.remux import check_dub, dubbed_name
    from talker.media.tracks import stated_seconds

    output = check_dub(options.output or dubbed_name(video), video)
    _check_files(options)
    talker = _load(options)
    voice = talker.voice(options.voice)
    loaded = time.perf_counter()
    from talker.progress import Progress

    with Progress("finding the face", stated_seconds(video), media=True) as progress:
        dubbing = talker.dub(
            video,
            text,
            voice,
            options.crop,
            seed=options.seed,
            sampling=_sampling(options, talker),
            force=options.force,
            progress=progress.advance,
        )
    with Progress("reading the face", dubbing.expected_seconds, media=True) as progress:
        dubbing = dubbing.ready(progress.advance)
    return _save(dubbing, output, options.json, loaded - began)


def _batch_dub(options: argparse.Namespace, began: float) -> int:
    from talker.batch.command import command

    return command(options)


def _serve(options: argparse.Namespace, began: float) -> int:
    folder = model_folder(options.model)
    try:
        from talker.serve.keys import Keys
        from talker.serve.server import listen, serve
        from talker.serve.store import Store, default_folder
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is missing: install the extra serve, `pip install 'talker[serve]'`"
        ) from error
    from talker.pipeline import Talker

    keys = Keys({}) if options.keys is None else Keys.read(options.keys)
    listener = listen(options.host, options.port, keys)
    store = Store(options.data or default_folder(), options.retain)
    log.info(LOADING)
    talker, name = Talker.from_pretrained(folder), folder.resolve().name
    serve(
        talker, name, listener, store, keys, tuple(options.allow_host), options.capacity, options.idle_limit
    )
    return 0


def _key(options: argparse.Namespace, began: float) -> int:
    from talker.serve.keys import add_key

    print(add_key(options.file, options.name))
    log.info("the key is shown only here; its hash is in %s: talker serve --keys %s", *2 * (options.file,))
    return 0


def _demo(options: argparse.Namespace, began: float) -> int:
    output = check_output(options.output or unused_name("talker-demo", ".mp4"), tuple(CLIP_FILES))
    log.info(LOADING)

    from talker.pipeline import Talker

    talker = Talker.from_pretrained()
    return _save(talker.say(DEMO), output, False, time.perf_counter() - began)


def _name_of(text: str) -> str:
    """The first words of a text as the stem of a file name: "talker-it-was-a-bright-cold-day"."""
    name = "talker"
    for word in re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("’", "")):
        if len(name) + len(word) >= LONGEST_NAME:
            break
        name += f"-{word}"
    return name


def _check_options(options: argparse.Namespace) -> None:
    """Check the numbers and the names of the model, the portrait and the voice. Opens no file.

    Raises:
        UserError: a number is out of range, a name is unknown, or a file does not exist.
    """
    if not 0 <= options.seed < 2**63:
        raise UserError("--seed must be 0 or a positive number below 2^63")
    for name, (low, high) in RANGES.items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:  # also refuses nan
            raise UserError(f"--{name} must be between {low} and {high}, not {value}")
    seconds = getattr(options, "voice_seconds", None)
    if seconds is not None and not 0 < seconds < float("inf"):
        raise UserError(f"--voice-seconds must be a positive number, not {seconds}")
    if options.weights is not None and options.model is not None:
        raise UserError("give --model alone: --weights is its former name")
    model_folder(options.model or options.weights)
    for kind, name in _sources(options).items():
        shipped(kind, name)
    voice = getattr(options, "voice", None)
    for name in ("voice_text", "voice_seconds"):
        if voice is None and getattr(options, name, None) is not None:
            raise UserError(f"--{name.replace('_', '-')} is about the recording of --voice: give both")


def _sources(options: argparse.Namespace) -> dict[str, str]:
    """The portrait and the voice that were given, by kind."""
    given = {kind: getattr(options, kind[:-1], None) for kind in ("portraits", "voices")}
    return {kind: name for kind, name in given.items() if name is not None}


def _check_texts(*texts: str | None, force: bool = False) -> None:
    """Check that each text can be spoken. Raises UserError."""
    from talker.text.sentences import split_sentences

    for text in texts:
        if text is not None:
            split_sentences(text, force=force)


def _check_files(options: argparse.Namespace, *recordings: Path) -> None:
    """Check the kinds of the user's files, from their headers.

    Raises:
        UserError: the portrait is no picture, or the voice or one of the recordings has no sound.
    """
    own = {kind: name for kind, name in _sources(options).items() if not is_shipped(kind, name)}
    if "portraits" in own:
        from talker.media.pictures import check_picture

        check_picture(own["portraits"])
    if "voices" in own:
        recordings += (Path(own["voices"]),)
    if recordings:
        from talker.media.sound import check_sound

        for recording in recordings:
            check_sound(recording)


def _check_not_input(output: Path, recording: str | None) -> None:
    """Raise UserError if the output would overwrite the recording that it is made from."""
    if recording and output.exists() and Path(recording).exists() and output.samefile(recording):
        raise UserError(f"{output} is the input recording: choose another name for --output")


def _load(options: argparse.Namespace) -> Talker:
    if options.weights is not None:
        log.warning("--weights is deprecated and will be removed: use --model")
    if options.model is None and options.weights is None and _uses_own_files(options):
        log.info(SYNTHETIC)
    log.info(LOADING)

    from talker.pipeline import Talker

    return Talker.from_pretrained(options.model or options.weights)


def _uses_own_files(options: argparse.Namespace) -> bool:
    """Whether the face or the voice is neither shipped nor generated."""
    own = {kind: name for kind, name in _sources(options).items() if not is_shipped(kind, name)}
    given = [(name, "Speech" if kind == "voices" else "Picture") for kind, name in own.items()]
    if options.command == "dub":
        given.append((options.video, "Picture"))
    if not given:
        return False

    from talker.media.provenance import is_generated

    return not all(is_generated(Path(name), part) for name, part in given)


def _save(clip: Clip, output: Path, as_json: bool, load_seconds: float) -> int:
    from talker.progress import Progress

    with Progress(output.name, clip.expected_seconds, media=True) as progress:
        report = clip.save(output, progress=lambda chunk: progress.advance(len(chunk.pcm) / SAMPLE_RATE))
    if as_json:
        print(json.dumps({**dataclasses.asdict(report), "load_seconds": round(load_seconds, 4)}))
    else:
        print(
            f"{report.output}: {report.duration_seconds:.1f} s ({report.finish_reason}), seed {report.seed}"
        )
    return 0


def _given_text(options: argparse.Namespace) -> str:
    """The text of TEXT or --text-file.

    Raises:
        UserError: neither or both are given, TEXT names a file, or the text is empty, too long or not UTF-8.
    """
    if (options.text is None) == (options.text_file is None):
        raise UserError("give the text once: as TEXT, as - for standard input, or with --text-file FILE")
    if options.text_file is not None:
        if is_url(options.text_file):
            raise UserError(f"{options.text_file} is a web address: download the file first")
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
        if Path(options.text).suffix.lower() in (*CLIP_FILES, *SOUND_FILES):
            raise UserError(f"{options.text} is a recording: use talker animate or talker dub for it")
        raise UserError(
            f"{options.text} is a file: give --text-file {options.text} to speak its text, or - to speak "
            "standard input"
        )
    if is_url(options.text) and len(options.text.split()) == 1:
        raise UserError(f"{options.text} is a web address: download it first, then give it as --text-file")
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


def _sampling(options: argparse.Namespace, talker: Talker) -> Sampling:
    """The model's settings with the changes of the options."""
    own = SAMPLINGS.get(options.preset) or talker.system.generator.defaults.sampling
    given = {name: getattr(options, name) for name in RANGES if getattr(options, name) is not None}
    return dataclasses.replace(own, **given)


def _info(options: argparse.Namespace, began: float) -> int:
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

    log.info("checking the installation")
    found = report()
    print("\n".join(found.lines))
    return 0 if found.works else 1


if __name__ == "__main__":
    sys.exit(main())
