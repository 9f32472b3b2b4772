"""Writers that copy the sound of a recording, or the frames of a video, without encoding them again."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.errors import UserError
from talker.media.display import display_matrix, orientation, pixel_aspect, square_size
from talker.media.encoders import AudioEncoder, GifEncoder, MediaWriter, VideoEncoder
from talker.media.files import (
    ANY_VIDEO,
    CLIP_FILES,
    VIDEO_FILES,
    cannot_read,
    cannot_write,
    check_input,
    check_output,
    error_reason,
    unused_name,
)
from talker.media.pictures import is_picture
from talker.media.sound import timed_frames
from talker.media.tracks import NO_PROTOCOLS, decode_packets, find_picture, find_sound_track, open_media

# Codecs that mp4 supports and that players play in it.
MP4_VIDEO = ("h264", "hevc", "av1", "vp9", "mpeg4")
# Codecs of sound that can be copied, by container.
COPIED_SOUND: dict[str, tuple[str, ...]] = {
    "mp4": ("aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac"),
    "matroska": ("aac", "mp3", "opus", "vorbis", "ac3", "eac3", "alac", "flac"),
    "webm": ("opus", "vorbis"),
}
MIN_MP3_RATE = 16_000  # lower rates are MPEG-2.5, which mp4 does not support
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
TRIAL_PACKETS = 25


class PacketReader:
    """Reads the encoded packets of the sound or the picture of a file, with complete timestamps."""

    def __init__(self, path: Path, kind: str, start: Fraction, index: int | None = None) -> None:
        """Open a file.

        Args:
            path: the media file.
            kind: "audio" or "video".
            start: time in seconds that becomes 0 in `packets`.
            index: of the track; None: the one that is seen or heard.

        Raises:
            UserError: the file does not exist.
            av.FFmpegError, OSError: the file cannot be read.
        """
        path = check_input(path)
        if index is None:
            index = find_sound_track(path) if kind == "audio" else find_picture(path)
        assert index is not None, f"{path} has no {kind} track"
        self._file = path.open("rb")
        self.container = av.open(self._file, "r", options=NO_PROTOCOLS)
        self.track: Any = self.container.streams[index]
        self.start = start

    def packets(self, stream: Any) -> Iterator[tuple[float, av.Packet]]:
        """Every packet, assigned to the output `stream`, with its decoding time in seconds after `start`."""
        previous: int | None = None
        for packet in self.stamped():
            shift = round(self.start / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            if previous is not None:  # repairs damaged timestamps, which the muxer would refuse
                packet.dts = max(packet.dts, previous + 1)
                packet.pts = max(packet.pts, packet.dts)
            previous = packet.dts
            time = float(packet.dts * packet.time_base)
            packet.stream = stream
            yield time, packet

    def first_decoding_time(self) -> Fraction:
        """Decoding time of the first packet in seconds. Consumes that packet."""
        packet = next(self.stamped(), None)
        return Fraction(0) if packet is None else packet.dts * packet.time_base

    def stamped(self) -> Iterator[Any]:
        """Packets with presentation and decoding timestamps.

        Matroska has no decoding timestamps for the first packets: they get one duration less each, counted
        back from the first packet that has one.
        """
        waiting: list[Any] = []
        for packet in self.container.demux(self.track):
            if not packet.size or (packet.pts is None and packet.dts is None):
                continue
            waiting.append(packet)
            if packet.dts is not None:
                yield from _complete_timestamps(waiting, packet.dts)
                waiting = []
        yield from _complete_timestamps(waiting, waiting[-1].pts if waiting else 0)

    def close(self) -> None:
        """Close the file."""
        self.container.close()
        self._file.close()


class CopiedStream:
    """Packets with their times, copied as far as the stream that is encoded beside them has advanced."""

    def __init__(self, packets: Iterator[tuple[float, av.Packet]]) -> None:
        """`packets`: (time in seconds, packet), in order of time."""
        self._packets = packets
        self._next = next(packets, None)

    def until(self, seconds: float) -> Iterator[av.Packet]:
        """The remaining packets before a time."""
        while self._next is not None and self._next[0] < seconds:
            yield self._next[1]
            self._next = next(self._packets, None)


class AnimationWriter(MediaWriter):
    """Writes generated frames with a recording's own sound to a video file.

    The packets of the sound are copied if the container supports their codec; otherwise the samples are
    encoded again.
    """

    def __init__(self, path: str | Path, size: int, sound: Path, tags: dict[str, str] | None = None) -> None:
        """Prepare a writer.

        Args:
            path: the file to write, with an extension of CLIP_FILES. A GIF has no sound.
            size: side of the frames in pixels, even.
            sound: a file with an audio track.
            tags: metadata of the file, see `generated_tags`.

        Raises:
            UserError: as `check_output` for `path`, as `check_input` for `sound`.
        """
        path = check_output(path, tuple(CLIP_FILES))
        container_format, self.video_codec, self.sound_codec = CLIP_FILES[path.suffix.lower()]
        super().__init__(path, container_format, tags or {})
        self.size, self.sound = size, sound
        self.source = PacketReader(sound, "audio", first_sample_time(sound))

    def add_streams(self, container: av.container.OutputContainer) -> None:
        self._encoded: list[Any] = []
        self._video: VideoEncoder | GifEncoder
        if self.sound_codec is None:
            self._video, self._copied = GifEncoder(container, self.size), CopiedStream(iter(()))
            return
        self._video = VideoEncoder(container, self.size, self.video_codec)
        track = self.source.track
        low_mp3 = track.codec.canonical_name == "mp3" and track.rate < MIN_MP3_RATE
        if (
            track.codec.canonical_name in COPIED_SOUND[self.format]
            and not low_mp3
            and has_ordered_packets(self.sound, "audio")
        ):
            packets = self.source.packets(container.add_stream_from_template(track))
        else:
            packets = self._encode_sound(container, self.sound_codec)
        self._copied = CopiedStream(packets)

    def _encode_sound(
        self, container: av.container.OutputContainer, codec: str
    ) -> Iterator[tuple[float, av.Packet]]:
        """The recording's samples as encoded packets, mono or stereo, at its own rate if possible."""
        track = self.source.track
        rates = OPUS_RATES if codec == "libopus" else AAC_RATES
        rate = min((r for r in rates if r >= track.rate), default=rates[-1])
        layout = "mono" if track.codec_context.layout.nb_channels == 1 else "stereo"
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 96_000 if layout == "mono" else 160_000
        self._encoded = [stream]
        return self._encoded_packets(stream, av.AudioResampler("fltp", layout, rate))

    def _encoded_packets(
        self, stream: Any, resampler: av.AudioResampler
    ) -> Iterator[tuple[float, av.Packet]]:
        count = 0
        for frame in self._frames_without_gaps():
            for resampled in resampler.resample(frame):
                resampled.pts, resampled.time_base = count, Fraction(1, stream.rate)
                count += resampled.samples
                for packet in stream.encode(resampled):
                    yield count / stream.rate, packet

    def _frames_without_gaps(self) -> Iterator[av.AudioFrame | None]:
        """The recording's frames, with silence where the timestamps leave gaps; None at the end."""
        for silent, frame in timed_frames(self.source.container, self.source.track.index):
            frame.pts = None
            while silent:
                part = min(silent, frame.sample_rate)
                yield _silence(frame, part)
                silent -= part
            yield frame
        yield None  # flushes the resampler

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append frames (n, size, size, 3) uint8 and the recording's sound up to their end; `pcm` is ignored.

        Raises:
            UserError: the file cannot be written, or its container does not support the sound.
        """
        try:
            for frame in frames:
                self.mux(self._video.encode(frame))
            self.mux(self._copied.until(self._video.frames / FRAME_RATE))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        except av.FFmpegError as error:
            raise UserError(
                f"the sound of {self.sound} cannot be copied to {self.format} ({error_reason(error)}): "
                "convert it to wav"
            ) from error

    def encoders(self) -> list[Any]:
        self.mux(self._copied.until(float("inf")))
        return [self._video.stream, *self._encoded]

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            self.source.close()


class DubWriter(MediaWriter):
    """Writes a video's own packets with generated speech; the video's own sound is dropped."""

    def __init__(
        self, path: str | Path, video: Path, start: Fraction, tags: dict[str, str] | None = None
    ) -> None:
        """Prepare a writer.

        Args:
            path: the file to write, with an extension of VIDEO_FILES.
            video: the video file.
            start: time of the video's first frame in seconds.
            tags: metadata of the file, see `generated_tags`.

        Raises:
            UserError: as `check_dub`.
        """
        path = check_dub(path, video)
        container_format, self.codec = VIDEO_FILES[path.suffix.lower()]
        super().__init__(path, container_format, tags or {})
        first = start
        if (
            container_format == "avi"
        ):  # has no timestamps: the first packet and the first sample start together
            with closing(PacketReader(video, "video", start)) as source:
                first = source.first_decoding_time()
        self.source, self._delay = PacketReader(video, "video", first), start - first

    def add_streams(self, container: av.container.OutputContainer) -> None:
        stream = add_copy(container, self.source.track)
        self._copied = CopiedStream(self.source.packets(stream))
        self._speech = AudioEncoder(container, self.codec)
        self.mux(self._speech.encode(np.zeros(round(self._delay * SAMPLE_RATE), np.float32)))

    def write(self, pcm: np.ndarray, frames: np.ndarray) -> None:
        """Append pcm (samples,) float32 in [-1, 1] and the video up to its end; `frames` is ignored.

        Raises:
            UserError: the file cannot be written, or its container does not support the video.
        """
        try:
            self.mux(self._speech.encode(pcm))
            self.mux(self._copied.until(self._speech.samples / SAMPLE_RATE))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        except av.FFmpegError as error:
            raise UserError(
                f"the video cannot be copied to {self.path.suffix} ({error_reason(error)}): "
                "give the output the extension of the video"
            ) from error

    def encoders(self) -> list[Any]:
        self.mux(self._copied.until(float("inf")))
        return [self._speech.stream]

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            self.source.close()


def dubbed_name(video: str | Path) -> Path:
    """The default name of a dubbed video, in the current folder: "NAME-dubbed.mp4", or another container.

    The container is mp4 if it supports the video's codec, else the video's own.

    Raises:
        UserError: the video cannot be read, or no container supports it.
    """
    video = check_input(video)
    codec, formats = _probe(video)
    extension = next(_supporting_extensions(video, codec, formats), None)
    if extension is None:
        raise _cannot_copy(video, codec)
    return unused_name(f"{video.stem}-dubbed", extension)


def copy_extension(video: Path) -> str:
    """The extension of a file that the video can be copied to: its own, mp4, or another container.

    Raises:
        UserError: the video cannot be read, or no container supports it.
    """
    codec, formats = _probe(video)
    extension = next(_supporting_extensions(video, codec, formats, video.suffix.lower()), None)
    if extension is None:
        raise _cannot_copy(video, codec)
    return extension


def check_dub(path: str | Path, video: str | Path) -> Path:
    """`path` as a Path, if `video` can be copied to a file of that name.

    Raises:
        UserError: `path` cannot be written, is the video itself, or its container does not support the video.
            The message names a container that does.
    """
    path, video = check_output(path, tuple(VIDEO_FILES)), check_input(video)
    if path.exists() and path.samefile(video):
        raise UserError(f"{path} is the video itself: choose another name for the output")
    codec, formats = _probe(video)
    wanted = path.suffix.lower()
    extension = next(_supporting_extensions(video, codec, formats, wanted), None)
    if extension != wanted:
        advice = f"name the output {path.stem}{extension}" if extension else "convert it to H.264 first"
        raise UserError(f"{video} cannot be copied to {wanted} ({codec}): {advice}")
    return path


def add_copy(container: av.container.OutputContainer, track: Any) -> Any:
    """Add a stream for the packets of a video track, with its display matrix and sample aspect ratio."""
    stream: Any = container.add_stream_from_template(track, opaque=True)
    aspect = pixel_aspect(track)
    if aspect is not None:  # the template has only the codec's own ratio
        stream.codec_context.sample_aspect_ratio = aspect
    return stream


def first_sample_time(path: Path) -> Fraction:
    """Time of the first decoded sample of a file's sound, in seconds."""
    track = find_sound_track(check_input(path))
    assert track is not None, f"{path} has no audio track"
    with open_media(path) as container:
        for _, frame in timed_frames(container, track):
            return Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)
    return Fraction(0)


def has_ordered_packets(path: Path, kind: str, index: int | None = None) -> bool:
    """Whether the decoding timestamps of a track increase; in concatenated files they start again."""
    with closing(PacketReader(path, kind, Fraction(0), index)) as source:
        stamps = (packet.dts for packet in source.stamped())
        return all(one < other for one, other in pairwise(stamps))


def _complete_timestamps(packets: list[Any], last: int) -> Iterator[Any]:
    """Fill in the missing timestamps of consecutive packets; `last` is the decoding timestamp of the last."""
    for remaining, packet in zip(reversed(range(len(packets))), packets, strict=True):
        if packet.dts is None:
            packet.dts = last - remaining * max(1, packet.duration or 1)
        if packet.pts is None:
            packet.pts = packet.dts
        yield packet


def _silence(like: av.AudioFrame, samples: int) -> av.AudioFrame:
    """A silent frame of the given length, in the format of another frame."""
    silence = av.AudioFrame(format=like.format.name, layout=like.layout.name, samples=samples)
    value = 128 if like.format.name.startswith("u8") else 0
    for plane in silence.planes:
        plane.update(bytes([value]) * plane.buffer_size)
    silence.sample_rate = like.sample_rate
    return silence


def _probe(video: Path) -> tuple[str, list[str]]:
    """The codec of a video and FFmpeg's names of its container."""
    if is_picture(video):
        raise UserError(f"{video} is a picture: give a video, or use it as --portrait of another command")
    try:
        track = find_picture(video)
        if track is None:
            raise UserError(f"{video} has no video track: give a video file")
        with open_media(video) as container:
            context = container.streams[track].codec_context
            if context is None:
                raise UserError(f"{video} is in a codec that cannot be read: convert it to mp4 first")
            return context.codec.canonical_name, container.format.name.split(",")
    except (av.FFmpegError, OSError) as error:
        raise cannot_read(video, "video", error) from error


def _cannot_copy(video: Path, codec: str) -> UserError:
    return UserError(f"{video} cannot be copied to any container ({codec}): convert it to H.264 first")


def _supporting_extensions(video: Path, codec: str, formats: list[str], wanted: str = "") -> Iterator[str]:
    """Extensions of the containers that support a video: `wanted`, mp4, the video's own, Matroska."""
    same = [extension for extension, (name, _) in VIDEO_FILES.items() if name in formats]
    own = sorted(same, key=lambda extension: extension != video.suffix.lower())
    for extension in dict.fromkeys([wanted, ".mp4", *own, ".mkv"]):
        allowed = extension in ANY_VIDEO or extension in own
        playable = codec in MP4_VIDEO or extension not in (".mp4", ".m4v")
        if allowed and playable and _can_copy(extension, video, ordered=extension not in own):
            yield extension


def _can_copy(extension: str, video: Path, ordered: bool) -> bool:
    """Whether the first packets of a video can be written to a container and decoded from it.

    The decoded frames must have the same orientation and the same shape of pixels. With `ordered`, they must
    also be in the order of their timestamps. An AVI file does not say when the frames of H.264 with B-frames
    are shown: such a video must stay in AVI.
    """
    trial = io.BytesIO()
    try:
        with closing(PacketReader(video, "video", Fraction(0))) as source:
            expected = _appearance(islice(_decoded(source.container, source.track), 1), source.track)
        with (
            closing(PacketReader(video, "video", Fraction(0))) as source,
            av.open(trial, "w", format=VIDEO_FILES[extension][0]) as target,
        ):
            stream = add_copy(target, source.track)
            target.start_encoding()  # writing the header is the only check of some muxers
            for _, packet in islice(source.packets(stream), TRIAL_PACKETS):
                target.mux_one(packet)
        trial.seek(0)
        with av.open(trial, "r") as container:
            tracks = container.streams.video  # none, if there was no packet
            frames = [frame for track in tracks for frame in _decoded(container, track)]
            if [seen for track in tracks for seen in _appearance(frames[:1], track)] != expected:
                return False
    except (ValueError, OSError, av.FFmpegError):
        return False
    shown = [frame.pts or 0 for frame in frames]
    return not ordered or shown == sorted(shown)


def _decoded(container: av.container.InputContainer, track: Any) -> Iterator[av.VideoFrame]:
    for _, frames in decode_packets(container, track):
        yield from frames


def _appearance(frames: Iterable[av.VideoFrame], track: Any) -> list[object]:
    """Orientation of decoded frames and their size with square pixels."""
    return [
        (orientation(display_matrix(frame)), square_size(frame.width, frame.height, pixel_aspect(track)))
        for frame in frames
    ]
