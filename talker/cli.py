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

from talker.errors import UserError

if TYPE_CHECKING:
    from heads.solver import Sampling
    from talker.pipeline import Utterance

log = logging.getLogger("talker")

LONGEST_TEXT = 100_000  # characters, more than an hour of speech
SYNTHETIC = (
    "the default voices and faces were learned from synthetic people only: expect little of real photos"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for what the user can mend, 130 after Ctrl-C."""
    began = time.perf_counter()
    logging.basicConfig(stream=sys.stderr, format="talker: %(message)s", force=True)
    log.setLevel(logging.INFO)
    options = _parser().parse_args(arguments)
    try:
        with _terminable():
            return options.run(options, began)
    except KeyboardInterrupt:
        log.error("interrupted; nothing was written")
        return 130
    except UserError as error:
        log.error("%s", error)
        return 2
    except (OSError, MemoryError) as error:
        log.error("%s; free some space or memory and try again", error)
        return 2


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Inside, a polite kill is a Ctrl-C, so that no half-written file stays; a caller's own handler stays."""

    def interrupt(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    ours = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="talker", description="Talking portraits from text, a voice and a face."
    )
    parser.add_argument(
        "--version", action="version", version=f"talker {importlib.metadata.version('talker')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    say = commands.add_parser(
        "say", help="speak a text", description="Speak TEXT with a voice and a face, as an mp4."
    )
    say.add_argument("text", metavar="TEXT", help="what to say, English; - reads it from standard input")
    say.add_argument("-o", "--output", metavar="OUT.mp4", required=True, help="where to write")
    say.add_argument(
        "--portrait", metavar="P", help="a picture of a face, or a name that `talker info` lists"
    )
    say.add_argument(
        "--voice", metavar="V", help="a recording of a voice, or a name that `talker info` lists"
    )
    say.add_argument(
        "--crop", choices=("face", "none"), default="face", help="frame the face, or take the picture as is"
    )
    say.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed, another take (default: 0)"
    )
    say.add_argument("--temperature", type=float, metavar="T", help="0 to 1: from even to lively")
    say.add_argument(
        "--guidance", type=float, metavar="G", help="how strictly to follow text and voice; 1 is off"
    )
    say.add_argument("--steps", type=int, metavar="N", help="solver steps a patch: fewer is faster")
    say.add_argument("--weights", metavar="FOLDER", help="a native checkpoint instead of the default")
    say.add_argument("--json", action="store_true", help="print one line about the result")
    say.set_defaults(run=_say)
    info = commands.add_parser(
        "info", help="list what ships", description="List the portraits and voices that ship."
    )
    info.set_defaults(run=_info)
    return parser


def _say(options: argparse.Namespace, began: float) -> int:
    from talker.media.mux import check_output

    text = _text(options.text)
    check_output(options.output)  # a wrong name should not cost the time to load
    if not 0 <= options.seed < 2**63:
        raise UserError("--seed must be 0 or a positive number below 2^63")
    sampling = _sampling(options)
    from talker.pipeline import Talker

    talker = Talker.from_pretrained(options.weights)
    if options.weights is None:
        log.info(SYNTHETIC)
    voice, face = talker.voice(options.voice), talker.portrait(options.portrait, options.crop)
    load_seconds = time.perf_counter() - began
    utterance = talker.say(text, voice, face, seed=options.seed, sampling=sampling)
    with _Progress(utterance) as progress:
        report = utterance.save(options.output, progress=progress)
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


def _sampling(options: argparse.Namespace) -> Sampling:
    """The default sampling, changed by the options that were given.

    Raises:
        UserError: an option is out of range.
    """
    from heads.solver import Sampling

    ranges: dict[str, tuple[float, float]] = {"temperature": (0, 2), "guidance": (0, 20), "steps": (1, 1000)}
    given = {name: getattr(options, name) for name in ranges if getattr(options, name) is not None}
    for name, value in given.items():
        low, high = ranges[name]
        if not low <= value <= high:  # also false for nan
            raise UserError(f"--{name} must be between {low} and {high}, not {value}")
    return dataclasses.replace(Sampling.puppet(), **given)


class _Progress:
    """A bar on standard error, in seconds of media; invisible where that is no terminal."""

    def __init__(self, utterance: Utterance) -> None:
        from tqdm import tqdm

        expected = round(0.08 * sum(map(len, utterance.sentences)) + 0.5 * len(utterance.sentences), 1)
        shape = "{l_bar}{bar}| {n:.1f} of about {total:.1f} s [{elapsed}]"
        self._bar = tqdm(total=expected, bar_format=shape, disable=None, leave=False, file=sys.stderr)

    def __enter__(self) -> Callable[[Any], None]:
        return lambda chunk: None if self._bar.disable else self._advance(len(chunk.frames) / 25)

    def _advance(self, seconds: float) -> None:
        self._bar.total = max(self._bar.total, self._bar.n + seconds)
        self._bar.update(seconds)

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _info(options: argparse.Namespace, began: float) -> int:
    from talker.checkpoint import PUPPET
    from talker.shipped import shipped_names

    print(f"talker {importlib.metadata.version('talker')}")
    for kind in ("portraits", "voices"):
        print(f"{kind}: {', '.join(shipped_names(kind)) or 'none'}")
    for folder in sorted(Path(PUPPET).glob("*/model.safetensors")):
        print(f"{folder.parent.name}: {folder.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
