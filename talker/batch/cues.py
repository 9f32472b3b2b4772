"""Cues: words with their times, from subtitles in SRT, WebVTT or ASS, and captions written back."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pysubs2

from talker.errors import UserError
from talker.text.decoding import decoded

FORMATS = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ass"}
MOST_BYTES = 64 * 2**20
SHORTEST = 0.16  # seconds, a patch
_VOICE = re.compile(r"<v(?:\.[^\s>]*)*\s+([^>]+)>")
_TAG = re.compile(r"</?[A-Za-z][^>]*>|<\d[^>]*>")
_SOUND = re.compile(r"\[[^\]]*\]|[\u2669-\u266c]+(?:[^\u2669-\u266c]*[\u2669-\u266c]+)?")


@dataclass(frozen=True)
class Cue:
    """Words that are spoken from `start` to `end`, in seconds of the video.

    `speaker` is the name that the subtitles give, or empty.
    """

    start: float
    end: float
    text: str
    speaker: str = ""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.end - self.start


def read_cues(path: Path, name: str) -> tuple[Cue, ...]:
    """Read subtitles: cues in order, without overlaps. A cue ends where the next one starts.

    WebVTT's `<v Anna>` and ASS's names of actors are the speakers. A cue with several speakers is divided in
    proportion to their letters. Descriptions of sounds in brackets and songs are left out.

    Args:
        path: the file; its suffix is the format.
        name: the name of the file in messages.

    Raises:
        UserError: the file is no subtitles, or has no cue with words.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{name} is no subtitle file: give a file named {', '.join(FORMATS)}")
    more = {"keep_unknown_html_tags": True} if kind in ("srt", "vtt") else {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        events = pysubs2.SSAFile.from_string(decoded(path.read_bytes())[0], format_=kind, **more)
    except (OSError, ValueError, RecursionError, pysubs2.exceptions.Pysubs2Error) as error:
        raise UserError(f"{name} cannot be read as subtitles ({error}): correct it") from error
    found = [
        cue
        for event in events
        if not event.is_comment and not event.is_drawing
        for cue in _parts(Cue(event.start / 1000, event.end / 1000, event.plaintext, event.name.strip()))
    ]
    return ordered(found, name)


def ordered(cues: Iterable[Cue], name: str) -> tuple[Cue, ...]:
    """Sort cues and cut each one at the start of the next.

    Raises:
        UserError: there is no cue, or one is shorter than SHORTEST.
    """
    sorted_cues = sorted(cues, key=lambda cue: (cue.start, cue.end))
    if not sorted_cues:
        raise UserError(f"{name} has no cue with words and times: correct it")
    starts = [cue.start for cue in sorted_cues[1:]]
    cut = [
        dataclasses.replace(cue, end=min(cue.end, start))
        for cue, start in zip(sorted_cues, [*starts, float("inf")], strict=True)
    ]
    for cue in cut:
        if cue.seconds < SHORTEST:
            raise UserError(
                f"the cue at {cue.start:.2f} s of {name} is shorter than {SHORTEST} s, or another one starts "
                "with it: correct the times"
            )
    return tuple(cut)


def write_captions(path: Path, cues: Iterable[Cue]) -> None:
    """Write cues as WebVTT."""
    events = [
        pysubs2.SSAEvent(round(1000 * cue.start), round(1000 * cue.end), _escaped(cue.text)) for cue in cues
    ]
    subtitles = pysubs2.SSAFile()
    subtitles.events = events
    path.write_text(subtitles.to_string("vtt"), encoding="utf-8")


def _escaped(text: str) -> str:
    """Text that WebVTT shows as it is. pysubs2 would read braces as commands."""
    return html.escape(" ".join(text.split()), quote=False).translate({ord("{"): "(", ord("}"): ")"})


def _parts(cue: Cue) -> list[Cue]:
    """The cue divided among the speakers that its text names."""
    pieces = _VOICE.split(cue.text)  # text before the first speaker, then speaker and text in turn
    named = [(cue.speaker, pieces[0]), *zip(pieces[1::2], pieces[2::2], strict=True)]
    spoken = [(html.unescape(speaker).strip(), _words(text)) for speaker, text in named]
    spoken = [(speaker, text) for speaker, text in spoken if text]
    letters, start, found = sum(len(text) for _, text in spoken), cue.start, []
    for speaker, text in spoken:
        end = start + cue.seconds * len(text) / letters
        found.append(Cue(start, end, text, speaker))
        start = end
    return found


def _words(text: str) -> str:
    return " ".join(_SOUND.sub(" ", html.unescape(_TAG.sub("", text))).split())
