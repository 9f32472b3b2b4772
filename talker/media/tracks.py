"""Choice among the tracks of a file: the picture to show, the sound to hear and its channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

# A media file may refer to further files or addresses (playlists); without protocols PyAV opens none of them.
NO_PROTOCOLS = {"protocol_whitelist": "none"}
# Tracks and channels whose loudest second is 30 dB below that of the loudest one are silent.
SILENT_SHARE = 1e-3
CENTRE_SHARE = 0.1  # the centre channel holds the speech if it is at most 10 dB below the loudest channel
LOUD_SHARE = 0.02  # seconds above this share of the loudest second are examined for cancellation
# The mean of n channels of which one has sound has 1 / n**2 of its power; less means that channels cancel.
CANCELLED_SHARE = 0.8
MOST_CANCELLED = 0.1  # share of the loud seconds in which channels may cancel
STILL_SHARE = 0.1  # a video track with less than this share of the frames of another is a still picture
MISSING = 0.05  # share of the length in a file's header that may be unreadable
ESTIMATED = ("mp3", "aac", "mpeg", "mpegvideo", "h264", "hevc")  # formats without a length in the header
SPECIAL_SOUND = Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired


@dataclass(frozen=True)
class Sound:
    """Where the sound of a file is.

    Attributes:
        track: index of the stream.
        channels: the channels whose mean is the mono signal.
        total: number of channels of the track; frames with another number are averaged as a whole.
    """

    track: int
    channels: tuple[int, ...]
    total: int

    def mono(self, samples: np.ndarray) -> np.ndarray:
        """Samples (channels, N) of the track -> the mono signal (N,)."""
        chosen = len(samples) == self.total and len(self.channels) < self.total
        mean: np.ndarray = (samples[list(self.channels)] if chosen else samples).mean(0)
        return mean


@dataclass
class Damage:
    """What of a track cannot be decoded, counted by `decode_packets`.

    Attributes:
        packets: number of packets.
        times: times in seconds of the packets that cannot be decoded, and of the frames with errors.
    """

    packets: int = 0
    times: list[Fraction] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.times)} of {self.packets} packets cannot be decoded"


@contextmanager
def open_media(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a media file for reading; whatever else it refers to is not opened.

    Raises:
        av.FFmpegError, OSError: the file cannot be read.
    """
    with path.open("rb") as file, av.open(file, "r", options=NO_PROTOCOLS) as container:
        yield container


def decode_packets(
    container: av.container.InputContainer, *tracks: Any, damage: Damage | None = None
) -> Iterator[Any]:
    """Packets of the tracks, each with its decoded frames. Packets that cannot be decoded have none.

    `damage`: counts what cannot be decoded.
    """
    for packet in container.demux(*tracks):
        try:
            frames = packet.decode()
            damaged = [frame for frame in frames if frame.is_corrupt]
        except av.FFmpegError as error:  # decoders report damage by many codes
            if isinstance(error, MemoryError):
                raise
            frames, damaged = [], [packet]
        if damage is not None:
            damage.packets += packet.size > 0
            damage.times += [Fraction(one.pts or 0) * Fraction(one.time_base or 0) for one in damaged]
        yield packet, frames


def stated_seconds(path: Path) -> float:
    """Duration that the header of a file states; 0 if it states none.

    Raises:
        av.FFmpegError, OSError: the file cannot be read.
    """
    with open_media(path) as container:
        return (container.duration or 0) / av.time_base


def missing_end(path: Path) -> str | None:
    """Say how much of a file can be read, such as "1.5 s of 2.4 s can be read"; None if all of it can.

    Raises:
        av.FFmpegError, OSError: the file cannot be read.
    """
    end = 0.0
    with open_media(path) as container:
        if container.format.name in ESTIMATED:
            return None
        claimed = (container.duration or 0) / av.time_base
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return f"{end:.1f} s of {claimed:.1f} s can be read" if is_cut(end, claimed) else None


def damage_line(path: Path, damage: Damage) -> str | None:
    """A line about a file that is cut short or damaged; None if neither is known.

    `damage`: of the track that was read.

    Raises:
        av.FFmpegError, OSError: the file cannot be read.
    """
    missing = missing_end(path)
    if missing is not None:
        return f"{path} is cut short: {missing}"
    return f"{path} is damaged: {damage}" if damage.times else None


def is_cut(end: float, claimed: float) -> bool:
    """Whether a file ends, in seconds, long before the end that its header states."""
    return claimed - end > max(0.5, MISSING * claimed)


def find_picture(path: Path) -> int | None:
    """The index of the video track to show; None if the file has none. A cover picture is none.

    Among several tracks, still pictures come last. Then the default track is preferred, then the one with
    the most pixels, the longest, the first. Frames are counted, since headers may omit or misstate them.

    Raises:
        av.FFmpegError, OSError: the file cannot be read.
    """
    with open_media(path) as container:
        tracks = [t for t in container.streams.video if Disposition.attached_pic not in t.disposition]
        if len(tracks) < 2:
            return tracks[0].index if tracks else None
        frames: Counter[int] = Counter()
        for packet in container.demux(*tracks):
            frames[packet.stream.index] += packet.size > 0
        most = max(frames.values(), default=0)

        def rank(track: Any) -> tuple[bool, bool, bool, int, int, int]:
            context, count = track.codec_context, frames[track.index]
            pixels = context.width * context.height if context else 0
            moves, default = count > STILL_SHARE * most, Disposition.default in track.disposition
            return context is not None, moves, default, pixels, count, -track.index

        return int(max(tracks, key=rank).index)


def find_sound_track(path: Path, seconds: float = float("inf")) -> int | None:
    """The index of the audio track to hear, judged by the first `seconds`; None if the file has none.

    Among several tracks, silent ones come last. Then the default track is preferred, then one that is no
    commentary or description, then those of nearly full length, then the first.

    Raises:
        av.FFmpegError, OSError: the file cannot be read.
    """
    with open_media(path) as container:
        index, _ = _track_to_hear(container, seconds)
    return index


def _track_to_hear(
    container: av.container.InputContainer, seconds: float
) -> tuple[int | None, dict[int, np.ndarray]]:
    """`find_sound_track`, and what `_measure` gives of each track if there are several."""
    tracks = container.streams.audio
    if len(tracks) < 2:
        return (tracks[0].index if tracks else None), {}
    power = _measure(container, tracks, seconds)
    levels = {index: _levels(measured).max(initial=0.0) for index, measured in power.items()}
    loudest, longest = max(levels.values()), max(map(len, power.values()))

    def rank(track: Any) -> tuple[bool, bool, bool, bool, int]:
        sounds = levels[track.index] > SILENT_SHARE * loudest
        usual = not track.disposition & SPECIAL_SOUND
        full = len(power[track.index]) > 0.9 * longest
        return sounds, Disposition.default in track.disposition, usual, full, -track.index

    return int(max(tracks, key=rank).index), power


def find_sound(path: Path, seconds: float = float("inf")) -> Sound | None:
    """The audio track to hear and its channels, judged by the first `seconds`; None without a track.

    Raises:
        av.FFmpegError, OSError: the file cannot be read.
    """
    with open_media(path) as container:
        index, measured = _track_to_hear(container, seconds)
        if index is None:
            return None
        track: Any = container.streams[index]
        layout = track.codec_context.layout if track.codec_context else None
        if layout is None or layout.nb_channels < 2:
            return Sound(index, (0,), 1)
        names = [channel.name for channel in layout.channels]
        power = (measured or _measure(container, (track,), seconds))[index]
    if len(power) and power.shape[1] != len(names):
        names = [""] * power.shape[1]
    return Sound(index, choose_channels(power, names), len(names))


def choose_channels(power: np.ndarray, names: Sequence[str]) -> tuple[int, ...]:
    """Choose the channels whose mean holds the speech at its level.

    Silent channels and the subwoofer are left out. In surround sound, the centre has the speech, or else the
    two front channels. Where the channels cancel each other, one of them is taken alone: the
    first that is at most 3 dB below the loudest.

    Args:
        power: (seconds, channels, channels) mean products of the channels.
        names: FFmpeg's names of the channels.
    """
    everyone = tuple(range(len(names)))
    levels = _levels(power)
    if not levels.any():
        return everyone
    audible = [c for c in everyone if levels[c] > SILENT_SHARE * levels.max() and names[c] != "LFE"]
    if len(names) > 2:
        centre = [c for c in audible if names[c] == "FC" and levels[c] > CENTRE_SHARE * levels[audible].max()]
        audible = centre or [c for c in audible if names[c] in ("FL", "FR")] or audible
    if len(audible) < 2:
        return tuple(audible) or everyone
    products = power[:, audible][:, :, audible]
    single = products.diagonal(axis1=1, axis2=2)
    loud = single.max(1) > LOUD_SHARE * single.max()
    cancelled = products.mean((1, 2)) < CANCELLED_SHARE / len(audible) ** 2 * single.max(1)
    if cancelled[loud].mean() > MOST_CANCELLED:
        energies = single.sum(0)
        first = int((energies > energies.max() / 2).argmax())  # of those that are as loud
        return (audible[first],)
    return tuple(audible)


def channels_of(frame: av.AudioFrame) -> np.ndarray:
    """The samples of a frame, (channels, N) float32; integers of any width are scaled to [-1, 1]."""
    raw = frame.to_ndarray()
    raw = raw if frame.format.is_planar else raw.reshape(-1, frame.layout.nb_channels).T
    samples: np.ndarray = raw.astype(np.float32)
    if raw.dtype == np.uint8:
        samples = (samples - 128) / 128
    elif raw.dtype.kind == "i":
        samples = samples / 2.0 ** (8 * raw.dtype.itemsize - 1)
    return samples


def _measure(
    container: av.container.InputContainer, tracks: Sequence[Any], seconds: float
) -> dict[int, np.ndarray]:
    """Mean products of the channels of each track, (seconds, channels, channels), by index of the track."""
    sums: dict[int, list[np.ndarray]] = {track.index: [] for track in tracks}
    counts: dict[int, list[int]] = {track.index: [] for track in tracks}
    known = [track for track in tracks if track.codec_context is not None]
    for packet, frames in decode_packets(container, *known) if known else ():
        total, count = sums[packet.stream.index], counts[packet.stream.index]
        for frame in frames:
            samples = np.nan_to_num(channels_of(frame)).clip(-1, 1)
            if total and len(samples) != len(total[0]):
                continue
            while samples.shape[1]:
                if not count or count[-1] >= frame.sample_rate:
                    total.append(np.zeros((len(samples),) * 2))
                    count.append(0)
                part, samples = np.split(samples, [max(1, frame.sample_rate - count[-1])], axis=1)
                total[-1] += part @ part.T
                count[-1] += part.shape[1]
        if frames and all(len(counts[track.index]) > seconds for track in known):
            break
    return {
        index: np.stack(total) / np.maximum(counts[index], 1)[:, None, None] if total else np.zeros((0, 1, 1))
        for index, total in sums.items()
    }


def _levels(power: np.ndarray) -> np.ndarray:
    """(seconds, channels, channels) -> the power of each channel in its loudest second, (channels,)."""
    levels: np.ndarray = power.diagonal(axis1=1, axis2=2).max(0, initial=0.0)
    return levels
