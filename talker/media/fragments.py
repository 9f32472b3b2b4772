"""Live video as fragmented MP4: one encoder for a whole stream, one fragment for each chunk.

The init segment comes from FFmpeg. The fragments are written here, because FFmpeg completes a fragment only
when the following packet arrives, and a live stream cannot wait for it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.media.encoders import AUDIO_BITS_PER_SECOND, BT709

VIDEO_TRACK, AUDIO_TRACK = 1, 2
AAC_SAMPLES = 1024  # per packet
# The stream starts with this many samples of silence, because decoders reconstruct the first packet
# incompletely. Time 0 of the clip is at their end; the first frame is shown from their start.
LEAD = AAC_SAMPLES
# No B-frames: presentation in decoding order. One keyframe per second, none at cuts.
H264 = {
    "crf": "20",
    "preset": "veryfast",
    "tune": "zerolatency",
    "bf": "0",
    "g": str(FRAME_RATE),
    "sc_threshold": "0",
    "threads": "1",
}
OPTIONS = {"movflags": "empty_moov+default_base_moof", "video_track_timescale": str(SAMPLE_RATE)}
KEYFRAME, DEPENDENT = 0x02000000, 0x01010000  # flags of a sample
START_CODE = b"\0\0\1"

# A sample of a track: its bytes, its duration in samples at 24 kHz, and whether it can be decoded alone.
Sample = tuple[bytes, int, bool]


class FragmentEncoder:
    """Encodes chunks of sound and frames to H.264 and AAC in fragmented MP4.

    `init`, the results of `encode` and that of `finish`, concatenated, are an mp4 file. Timestamps are counts
    of samples and frames.

    Attributes:
        init: the init segment.
        codecs: codec string for MediaSource, such as "avc1.64000D, mp4a.40.2".
        samples, frames: numbers encoded so far.
    """

    def __init__(self, size: int, tags: dict[str, str]) -> None:
        """Open the encoders.

        Args:
            size: side of the frames in pixels, even.
            tags: metadata in the init segment, see `generated_tags`.
        """
        assert size % 2 == 0, f"yuv420p needs an even frame size, not {size}"
        header = io.BytesIO()
        self._container = av.open(header, "w", format="mp4", options=OPTIONS)
        self._container.metadata.update(tags)
        video: Any = self._container.add_stream("libx264", rate=FRAME_RATE, options=H264)
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        context = video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        audio: Any = self._container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.bit_rate = AUDIO_BITS_PER_SECOND
        self._container.start_encoding()
        self._video, self._audio = video, audio
        self.init = header.getvalue()
        self.codecs = f"{_avc_codec(self.init)}, {_aac_codec(audio.codec_context.extradata)}"
        self.samples = self.frames = 0
        self._fragments = self._packets = 0
        self._pending = np.zeros(LEAD, np.float32)

    def encode(self, pcm: np.ndarray, frames: np.ndarray) -> bytes:
        """Encode a chunk to one fragment.

        Args:
            pcm: (samples,) float32 in [-1, 1].
            frames: (n, size, size, 3) uint8 RGB.
        """
        video_start = self.frames * HOP + LEAD if self.frames else 0
        pictures = [self._picture(frame) for frame in frames]
        audio_start = self._packets * AAC_SAMPLES
        return self._fragment(video_start, pictures, audio_start, self._sound(pcm))

    def finish(self) -> bytes:
        """Encode the rest of the sound and close the encoders. Empty if nothing is left."""
        audio_start = self._packets * AAC_SAMPLES
        sound = [*self._sound(np.zeros(0, np.float32)), *self._aac(None)]
        self._container.close()
        return self._fragment(0, [], audio_start, sound) if sound else b""

    def _picture(self, pixels: np.ndarray) -> Sample:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", threads=1)
        frame.pts, frame.time_base = self.frames, Fraction(1, FRAME_RATE)
        duration = HOP if self.frames else LEAD + HOP
        self.frames += 1
        (packet,) = self._video.encode(frame)  # zerolatency: one packet per frame
        return _length_prefixed(bytes(packet)), duration, packet.is_keyframe

    def _sound(self, pcm: np.ndarray) -> list[Sample]:
        pcm = np.concatenate([self._pending, np.asarray(pcm, np.float32).clip(-1, 1)])
        self._pending = np.zeros(0, np.float32)
        if not len(pcm):
            return []
        frame = av.AudioFrame.from_ndarray(pcm[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = self.samples, Fraction(1, SAMPLE_RATE)
        self.samples += len(pcm)
        return self._aac(frame)

    def _aac(self, frame: av.AudioFrame | None) -> list[Sample]:
        # The first packet has a negative time and holds no sound. With it, players need an edit list.
        packets = [bytes(packet) for packet in self._audio.encode(frame) if packet.pts >= 0]
        self._packets += len(packets)
        return [(data, AAC_SAMPLES, True) for data in packets]

    def _fragment(
        self, video_start: int, video: Sequence[Sample], audio_start: int, audio: Sequence[Sample]
    ) -> bytes:
        self._fragments += 1
        tracks = [
            (track, start, samples)
            for track, start, samples in (
                (VIDEO_TRACK, video_start, video),
                (AUDIO_TRACK, audio_start, audio),
            )
            if samples
        ]
        size, moof = 0, b""
        for _ in range(2):  # the offsets of the data depend on the size of the box that contains them
            offset, boxes = size + 8, [_full_box(b"mfhd", 0, 0, struct.pack(">I", self._fragments))]
            for track, start, samples in tracks:
                boxes.append(_track_fragment(track, start, samples, offset))
                offset += sum(len(data) for data, _, _ in samples)
            moof = _box(b"moof", *boxes)
            size = len(moof)
        return moof + _box(b"mdat", *(data for _, _, samples in tracks for data, _, _ in samples))


def _track_fragment(track: int, start: int, samples: Sequence[Sample], offset: int) -> bytes:
    """The `traf` box of a track. `offset`: position of its data after the start of the `moof` box."""
    rows = b"".join(
        struct.pack(">III", duration, len(data), KEYFRAME if alone else DEPENDENT)
        for data, duration, alone in samples
    )
    return _box(
        b"traf",
        _full_box(b"tfhd", 0, 0x020000, struct.pack(">I", track)),  # positions are relative to this `moof`
        _full_box(b"tfdt", 1, 0, struct.pack(">Q", start)),
        _full_box(b"trun", 0, 0x000701, struct.pack(">Ii", len(samples), offset) + rows),
    )


def _box(kind: bytes, *contents: bytes) -> bytes:
    data = b"".join(contents)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def _full_box(kind: bytes, version: int, flags: int, data: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), data)


def _length_prefixed(annex_b: bytes) -> bytes:
    """Convert NAL units with start codes (Annex B) to NAL units with lengths, which mp4 contains."""
    units = (unit.rstrip(b"\0") for unit in annex_b.split(START_CODE)[1:])
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units)


def _avc_codec(init: bytes) -> str:
    """The codec string of the H.264 track: profile, constraints and level of its `avcC` box."""
    start = init.index(b"avcC") + 4
    return f"avc1.{init[start + 1 : start + 4].hex().upper()}"


def _aac_codec(config: bytes) -> str:
    """The codec string of the AAC track: the object type in the first five bits of its configuration."""
    return f"mp4a.40.{config[0] >> 3}"
