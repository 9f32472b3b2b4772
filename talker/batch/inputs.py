"""The files of a row: found below the root, and checked from their headers before any work starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from talker.batch.cues import Cue, read_cues
from talker.batch.manifest import DUCK, SELF, Row, inside
from talker.errors import UserError
from talker.media.files import cannot_read
from talker.media.pictures import check_picture, is_picture
from talker.media.sound import check_sound
from talker.media.tracks import find_picture, stated_seconds
from talker.shipped import shipped, shipped_names
from talker.text.sentences import split_sentences

LANGUAGES = ("en", "en-us", "en-gb", "english")


@dataclass(frozen=True)
class Inputs:
    """A row with its files.

    Attributes:
        row: the row.
        mode: "voice" or "relip".
        video: the video file.
        voices: voice file for each speaker; "" is the speaker of cues without a name.
        audio, portrait, stem: files; None if the row has none.
        cues: from the subtitles; None: the text is spoken from `row.start` to `row.end`.
    """

    row: Row
    mode: str
    video: Path
    voices: dict[str, Path]
    audio: Path | None = None
    portrait: Path | None = None
    stem: Path | None = None
    cues: tuple[Cue, ...] | None = None

    @property
    def words(self) -> str:
        """All words."""
        return self.row.text if self.cues is None else " ".join(cue.text for cue in self.cues)

    @property
    def files(self) -> list[Path]:
        """All files that the result depends on."""
        more = [self.audio, self.portrait, self.stem]
        return [self.video, *(one for one in more if one is not None), *self.voices.values()]


def find_inputs(row: Row, root: Path) -> Inputs:
    """Find and check the files of a row. Reads headers and subtitles, and nothing else.

    Raises:
        UserError: a file is missing, outside of `root` or of the wrong kind, consent is missing, or the words
            cannot be spoken.
    """
    mode = row.mode
    if mode == "auto":
        mode = "relip" if row.audio or row.portrait else "voice"
    _check_fields(row, mode)
    video = inside(root, row.video)
    _check_video(row, video)
    cues = None
    if row.subtitles:
        cues = _within(row, read_cues(inside(root, row.subtitles), row.subtitles))
    for text in [row.text] if cues is None else [cue.text for cue in cues]:
        if text:  # else the row has audio
            split_sentences(text)
    audio = _optional(root, row.audio)
    stem = None if row.background in ("", DUCK) else inside(root, row.background)
    if audio is None:
        voices = {"": _voice(row, row.voice, root, video)}
        voices |= {speaker: _voice(row, name, root, video) for speaker, name in row.voices}
    else:
        voices = {}
    for name, sound in ((row.audio, audio), (row.background, stem)):
        if sound is not None:
            _renamed(check_sound, sound, name)
    if row.background == DUCK or row.keep_sound:
        _renamed(check_sound, video, row.video)
    portrait = None
    if row.portrait:
        own = row.portrait not in shipped_names("portraits")
        _check_consent(row, own, f"portrait {row.portrait}")
        portrait = inside(root, row.portrait) if own else shipped("portraits", row.portrait)
        _renamed(check_picture, portrait, row.portrait)
    return Inputs(row, mode, video, voices, audio, portrait, stem, cues)


def _check_fields(row: Row, mode: str) -> None:
    """Check that the fields fit each other."""
    if row.language.lower() not in LANGUAGES:
        raise UserError(f"language is {row.language!r}: the model speaks English (en)")
    if row.text and row.subtitles:
        raise UserError("the row has text and subtitles: give one of them")
    if not (row.text or row.subtitles or row.audio):
        raise UserError("the row has no words: give text, subtitles or audio")
    if row.end is not None and row.end <= row.start:
        raise UserError(f"the row ends at {row.end:g} s and starts at {row.start:g} s: correct start or end")
    if mode == "voice":
        for name in ("audio", "portrait"):
            if getattr(row, name):
                raise UserError(f"{name} is used in the mode relip only: set mode to relip, or leave it out")
    if row.audio and (row.voice or row.voices):
        raise UserError("the row has audio and a voice: give one of them")
    if row.audio and row.subtitles:
        raise UserError("the row has audio and subtitles: give its transcript as text")


def _check_consent(row: Row, own: bool, what: str) -> None:
    if own and not row.consent:
        raise UserError(
            f"{what} may show a real person: set consent to yes if that person agrees, or use a shipped name"
        )


def _voice(row: Row, name: str, root: Path, video: Path) -> Path:
    """The file of a voice; that of the video itself for SELF."""
    own = bool(name) and name not in shipped_names("voices")
    _check_consent(row, own, f"voice {name}")
    path = video if name == SELF else inside(root, name) if own else shipped("voices", name or None)
    if own:
        _renamed(check_sound, path, row.video if name == SELF else name)
    return path


def _check_video(row: Row, video: Path) -> None:
    name = row.video
    if is_picture(video):
        raise UserError(f"{name} is a picture: give a video")
    try:
        track, seconds = find_picture(video), stated_seconds(video)
    except (av.FFmpegError, OSError) as error:
        raise UserError(str(cannot_read(video, "video", error)).replace(str(video), name)) from error
    if track is None:
        raise UserError(f"{name} has no video track: give a video file")
    if seconds and row.start >= seconds:
        raise UserError(f"start is {row.start:g} s, and {name} is {seconds:.2f} s long: correct start")


def _within(row: Row, cues: tuple[Cue, ...]) -> tuple[Cue, ...]:
    """The cues between start and end of the row."""
    end = float("inf") if row.end is None else row.end
    kept = tuple(cue for cue in cues if cue.start >= row.start and cue.end <= end)
    if not kept:
        raise UserError(f"{row.subtitles} has no cue from {row.start:g} to {end:g} s: correct start or end")
    return kept


def _optional(root: Path, name: str) -> Path | None:
    return inside(root, name) if name else None


def _renamed(check: object, path: Path, name: str) -> None:
    """Call `check(path)`; messages have the name that the manifest gives."""
    assert callable(check)
    try:
        check(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from error
