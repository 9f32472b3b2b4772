"""Paths of input and output files: checks before any work starts, and the formats that file names select."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from talker.errors import UserError

# Containers for speech alone, by file extension: FFmpeg's name of the container, and the codec.
SOUND_FILES = {
    ".wav": ("wav", "pcm_s16le"),
    ".flac": ("flac", "flac"),
    ".m4a": ("ipod", "aac"),
    ".mp3": ("mp3", "libmp3lame"),
    ".ogg": ("ogg", "libopus"),
    ".opus": ("ogg", "libopus"),
}
# Containers for generated video: FFmpeg's name of the container, and the codecs of video and sound.
CLIP_FILES: dict[str, tuple[str, str, str | None]] = {
    ".mp4": ("mp4", "libx264", "aac"),
    ".mov": ("mov", "libx264", "aac"),
    ".mkv": ("matroska", "libx264", "aac"),
    ".webm": ("webm", "libvpx-vp9", "libopus"),
    ".gif": ("gif", "gif", None),
}
# Containers that a dubbed video of any container may be copied into, if they support its codec; the codec is
# that of the speech.
ANY_VIDEO = {
    ".mp4": ("mp4", "aac"),
    ".mkv": ("matroska", "aac"),
    ".mov": ("mov", "aac"),
    ".m4v": ("mp4", "aac"),
    ".webm": ("webm", "libopus"),
}
# Containers that store packets in forms of their own: they take a video only from the same container.
SAME_VIDEO = {
    ".avi": ("avi", "pcm_s16le"),
    ".wmv": ("asf", "wmav2"),
    ".asf": ("asf", "wmav2"),
    ".flv": ("flv", "aac"),
    ".mpg": ("mpeg", "mp2"),
    ".mpeg": ("mpeg", "mp2"),
    ".ts": ("mpegts", "aac"),
    ".ogv": ("ogg", "libopus"),
}
VIDEO_FILES = ANY_VIDEO | SAME_VIDEO


def check_input(path: str | Path) -> Path:
    """`path` as a Path, if it is an existing regular file.

    Raises:
        UserError: the file does not exist, or is a folder, a URL, a device or a pipe, which may be endless.
    """
    if is_url(str(path)):
        raise UserError(f"{path} is a web address: download the file first and give its path")
    path = Path(path)
    try:
        if path.is_file():
            return path
        problem = (
            "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        )
    except (OSError, ValueError) as error:  # the name is too long, or contains NUL
        problem = f"cannot be opened ({error_reason(error)})"
    raise UserError(f"{path} {problem}: give the path of an existing file")


def is_url(text: str) -> bool:
    """Whether a text has the form of a web address. `Path` shortens "https://" to "https:/"."""
    return re.match(r"[a-z][a-z0-9+.-]+:/", text, re.IGNORECASE) is not None


def unused_name(stem: str, extension: str) -> Path:
    """A path in the current folder at which no file exists: STEM, STEM-2, STEM-3 and so on."""
    numbers = itertools.count(2)
    path = Path(f"{stem}{extension}")
    while os.path.lexists(path):
        path = Path(f"{stem}-{next(numbers)}{extension}")
    return path


def check_output(path: str | Path, extensions: tuple[str, ...] = (".mp4",)) -> Path:
    """`path` as a Path, if a file can be written there.

    Args:
        path: the file to write. It may exist already; its folder must exist.
        extensions: the accepted file extensions, in lower case.

    Raises:
        UserError: the extension is not accepted, the path is a folder, or its folder is missing or read-only.
    """
    if is_url(str(path)):
        raise UserError(f"{path} is a web address: give the name of a local file for the output")
    path = Path(path)
    folder = path.absolute().parent
    if path.suffix.lower() not in extensions:
        raise UserError(
            f"{path} is not named {' or '.join(extensions)}: "
            f"choose an output name such as {path.stem or 'out'}{extensions[0]}"
        )
    try:
        is_folder, has_folder = path.is_dir(), folder.is_dir()
    except (OSError, ValueError) as error:  # the name is too long, or contains NUL
        raise UserError(f"{path} cannot be a file name ({error}): choose another name") from error
    if is_folder:
        raise UserError(f"{path} is a folder: give the name of a file in it")
    if not has_folder:
        raise UserError(f"the folder {folder} does not exist: create it first (mkdir -p)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"the folder {folder} is not writable: choose another folder for the output")
    return path


def error_reason(error: Exception) -> str:
    """The reason that an exception of PyAV or of the operating system gives, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def cannot_read(path: Path, kind: str, error: Exception) -> UserError:
    """The error for an input file that is no `kind` ("video", "sound") that can be read."""
    usual = path.suffix.lower() in (CLIP_FILES | VIDEO_FILES if kind == "video" else CLIP_FILES | SOUND_FILES)
    convert = f"convert it to {'mp4' if kind == 'video' else 'wav'} first"
    advice = "it is damaged or incomplete, so copy or download it again" if usual else convert
    return UserError(f"{path} cannot be read as {kind} ({error_reason(error)}): {advice}")


def cannot_write(path: Path, error: Exception) -> UserError:
    """The error for an output file that cannot be completed."""
    return UserError(
        f"{path} cannot be written ({error_reason(error)}): free disk space or choose another folder; "
        "the unfinished file was removed"
    )
