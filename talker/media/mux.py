"""H.264 + AAC in mp4, written as it comes, and a file that is either whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from talker.errors import UserError

FRAME_RATE = 25
SAMPLE_RATE = 24_000
GENERATED = "AI-generated: this speech and this face were synthesised by talker"
TAGS = {"title": "AI-generated talking portrait", "comment": GENERATED, "description": GENERATED}
# No B-frames: then decoding order is display order and no player can get the offset wrong.
H264 = {"crf": "18", "preset": "veryfast", "bf": "0"}
AAC_BITS_PER_SECOND = 96_000
BT709 = 1


def check_output(path: str | Path) -> Path:
    """`path` as a Path that a clip can be written to, found out before any work is done.

    Raises:
        UserError: not an .mp4, a folder, or in a folder that is missing or not writable.
    """
    path = Path(path)
    folder = path.absolute().parent
    if path.suffix.lower() != ".mp4":
        raise UserError(f"{path} is not named .mp4, and only mp4 is written: try {path.stem or 'out'}.mp4")
    try:
        is_folder, has_folder = path.is_dir(), folder.is_dir()
    except (OSError, ValueError) as error:  # too long a name, a NUL inside
        raise UserError(f"{path} cannot be a file ({error}): choose another name") from error
    if is_folder:
        raise UserError(f"{path} is a folder: name a file in it")
    if not has_folder:
        raise UserError(f"the folder {folder} does not exist: create it first (mkdir -p)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"the folder {folder} is not writable: choose another for the output")
    return path


class Mp4Writer:
    """`with Mp4Writer(path, size) as writer: writer.write(pcm, frames)` for each chunk.

    Times come from sample and frame counts alone. The file grows under a temporary name in the same folder;
    leaving the block normally finishes it, syncs it and gives it its name, leaving it by an exception removes
    it.
    """

    def __init__(self, path: str | Path, size: int, tags: dict[str, str] | None = None) -> None:
        """`size`: width and height of the frames, even. `tags`: further mp4 metadata."""
        assert size % 2 == 0, f"yuv420p needs even frames, not {size}"
        self.path = check_output(path)
        self.size = size
        self.tags = {**(tags or {}), **TAGS}
        self.samples = self.frames = 0

    def __enter__(self) -> Mp4Writer:
        try:
            handle, name = tempfile.mkstemp(
                prefix=f".{self.path.stem[:40]}.", suffix=".part", dir=self.path.absolute().parent
            )
        except OSError as error:
            raise UserError(
                f"cannot write into {self.path.absolute().parent} ({error.strerror}): choose another folder"
            ) from error
        os.close(handle)
        self._temporary = Path(name)
        try:
            self._open()
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        return self

    def _open(self) -> None:
        self._container = av.open(
            f"file:{self._temporary}", "w", format="mp4", options={"movflags": "+faststart"}
        )
        self._container.metadata.update(self.tags)
        video = self._container.add_stream("libx264", rate=FRAME_RATE, options=H264)
        video.width = video.height = self.size
        video.pix_fmt = "yuv420p"
        context = video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        audio = self._container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.bit_rate = AAC_BITS_PER_SECOND
        self._video, self._audio = video, audio

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append pcm (samples,) float32 in [-1, 1] and frames (n, size, size, 3) uint8; either may be empty.

        Raises:
            UserError: the disk is full, or the file can no longer be written.
        """
        try:
            for frame in frames:
                self._container.mux(self._video.encode(self._picture(frame)))
            if len(pcm):
                self._container.mux(self._audio.encode(self._sound(pcm)))
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _picture(self, frame: np.ndarray) -> av.VideoFrame:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = self.frames, Fraction(1, FRAME_RATE)
        self.frames += 1
        return picture

    def _sound(self, pcm: np.ndarray) -> av.AudioFrame:
        samples = np.ascontiguousarray(pcm, np.float32).clip(-1, 1)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate = SAMPLE_RATE
        sound.pts, sound.time_base = self.samples, Fraction(1, SAMPLE_RATE)
        self.samples += len(pcm)
        return sound

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._abandon()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        assert abs(self.samples - self.frames * SAMPLE_RATE // FRAME_RATE) <= SAMPLE_RATE // FRAME_RATE, (
            "out of step"
        )
        try:
            self._container.mux(self._video.encode(None))
            self._container.mux(self._audio.encode(None))
            self._container.close()
            _check_whole(self._temporary)
            with self._temporary.open("rb+") as file:
                os.fsync(file.fileno())
            self._temporary.chmod(0o644)  # mkstemp makes private files
            self._temporary.replace(self.path)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _abandon(self) -> None:
        with contextlib.suppress(OSError):  # the very error that brought us here
            self._container.close()


def _check_whole(path: Path) -> None:
    """OSError unless the top-level boxes of an mp4 fill the file: a muxer may swallow a failed write."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        position, names = 0, []
        while position + 8 <= end:
            file.seek(position)
            header = file.read(16)
            size = int.from_bytes(header[:4], "big")
            names.append(header[4:8])
            position += int.from_bytes(header[8:16], "big") if size == 1 else size
            if size == 0:
                break
    if position != end or b"moov" not in names or b"mdat" not in names:
        raise OSError("the file came out incomplete; is the disk full?")


def _cannot_write(path: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(
        f"{path} cannot be written ({reason}): free space or choose another folder; nothing is left behind"
    )
