"""Fragmented MP4: fragments are complete, times are exact, and the stream equals the file of the whole."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from talker.media.fragments import AAC_SAMPLES, LEAD, FragmentEncoder
from talker.media.provenance import generated_tags
from talker.media.readers import VideoReader

TAGS = generated_tags("synthesised in the voice v", "generated from the portrait p")
SIZE, EVENTS = 64, (3, 20, 41)


def clip(patches: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples and frames with a click and a flash in the frames EVENTS, and moving noise."""
    frames = np.full((4 * patches, SIZE, SIZE, 3), 40, np.uint8)
    frames[:, 8:16, 8:16] = np.random.default_rng(0).integers(0, 255, (4 * patches, 8, 8, 1))
    pcm = np.zeros(3840 * patches, np.float32)
    for frame in EVENTS:
        frames[frame] = 255
        pcm[frame * 960 : frame * 960 + 480] = 0.8 * np.sin(np.arange(480))
    return pcm, frames


def stream(patches: int) -> tuple[FragmentEncoder, list[bytes]]:
    pcm, frames = clip(patches)
    encoder = FragmentEncoder(SIZE, TAGS)
    parts = [
        encoder.encode(pcm[k * 3840 : (k + 1) * 3840], frames[k * 4 : (k + 1) * 4]) for k in range(patches)
    ]
    return encoder, [encoder.init, *parts, encoder.finish()]


def boxes(data: bytes, start: int = 0, end: int | None = None) -> list[tuple[str, int, int]]:
    """(kind, start of the contents, end) of each box."""
    found, end = [], len(data) if end is None else end
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        found.append((kind.decode(), start + 8, start + size))
        start += size
    assert start == end
    return found


def children(data: bytes, *path: str) -> list[tuple[str, int, int]]:
    """All boxes at a path of kinds, from the top level."""
    level = boxes(data)
    for kind in path[:-1]:
        level = [inner for name, start, end in level if name == kind for inner in boxes(data, start, end)]
    return [box for box in level if box[0] == path[-1]]


def test_every_chunk_is_one_fragment() -> None:
    _, parts = stream(12)
    assert [kind for kind, _, _ in boxes(parts[0])] == ["ftyp", "moov"]
    for part in parts[1:]:
        assert [kind for kind, _, _ in boxes(part)] == ["moof", "mdat"]
    assert not children(parts[0], "moov", "trak", "edts")
    assert TAGS["comment"].encode() in parts[0]


def test_decode_times_are_continuous_counts() -> None:
    """And each sample is marked as a keyframe or as dependent on others (ISO 14496-12, 8.8.3.1)."""
    _, parts = stream(12)
    ends, marks = {1: 0, 2: 0}, {1: list[int](), 2: list[int]()}
    for number, part in enumerate(parts[1:], 1):
        ((_, start, _),) = children(part, "moof", "mfhd")
        assert struct.unpack_from(">I", part, start + 4) == (number,)
        for _, start, end in children(part, "moof", "traf"):
            inner = {kind: begin for kind, begin, _ in boxes(part, start, end)}
            (track,) = struct.unpack_from(">I", part, inner["tfhd"] + 4)
            (time,) = struct.unpack_from(">Q", part, inner["tfdt"] + 4)
            (count,) = struct.unpack_from(">I", part, inner["trun"] + 4)
            flags = [struct.unpack_from(">I", part, inner["trun"] + 20 + 12 * k)[0] for k in range(count)]
            marks[track] += flags
            durations = [struct.unpack_from(">I", part, inner["trun"] + 12 + 12 * k)[0] for k in range(count)]
            assert time == ends[track]
            ends[track] += sum(durations)
    assert marks[1] == [0x02000000 if k in (0, 25) else 0x01010000 for k in range(48)]
    assert set(marks[2]) == {0x02000000}
    assert ends[1] == 48 * 960 + LEAD
    assert 0 <= ends[2] - ends[1] <= 2 * AAC_SAMPLES


def decoded(data: bytes) -> tuple[np.ndarray, list[float], np.ndarray]:
    """Frames, their times in seconds, and the samples from time 0 of the stream."""
    with av.open(io.BytesIO(data)) as container:
        pictures = list(container.decode(video=0))
    with av.open(io.BytesIO(data)) as container:
        sound = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    frames = np.stack([frame.to_ndarray(format="rgb24") for frame in pictures])
    return frames, [frame.time for frame in pictures], np.concatenate(sound)


def test_the_stream_is_an_mp4_whose_sound_and_frames_stay_together() -> None:
    _, parts = stream(12)
    pcm, frames = clip(12)
    shown, times, sound = decoded(b"".join(parts))
    assert len(shown) == 48
    assert np.flatnonzero(shown.mean((1, 2, 3)) > 150).tolist() == list(EVENTS)
    assert times[0] == 0
    assert np.allclose(np.array(times[1:]) * 24_000, np.arange(1, 48) * 960 + LEAD, atol=1)
    played = sound[LEAD : LEAD + len(pcm)]
    assert np.corrcoef(played, pcm)[0, 1] > 0.99
    assert abs(shown.astype(int) - frames)[list(EVENTS)].mean() < 3


def test_colours_survive(tmp_path: Path) -> None:
    encoder, colour = FragmentEncoder(SIZE, TAGS), (200, 60, 40)
    frames = np.broadcast_to(np.array(colour, np.uint8), (4, SIZE, SIZE, 3))
    (tmp_path / "a.mp4").write_bytes(encoder.init + encoder.encode(np.zeros(3840, np.float32), frames))
    assert np.abs(next(iter(VideoReader(tmp_path / "a.mp4"))).astype(int) - colour).max() <= 6


def test_a_prefix_of_the_stream_can_be_decoded() -> None:
    _, parts = stream(12)
    shown, _, sound = decoded(b"".join(parts[:4]))
    assert len(shown) == 12
    assert len(sound) >= 3 * 3840 - 2 * AAC_SAMPLES  # the encoder holds back two packets


def test_every_second_starts_with_a_keyframe() -> None:
    _, parts = stream(12)
    with av.open(io.BytesIO(b"".join(parts))) as container:
        keys = [
            k for k, packet in enumerate(p for p in container.demux(video=0) if p.size) if packet.is_keyframe
        ]
    assert keys == [0, 25]


def test_codec_strings_are_those_of_the_tracks() -> None:
    encoder, parts = stream(12)
    start = parts[0].index(b"avcC") + 4
    video, audio = encoder.codecs.split(", ")
    assert video == f"avc1.{parts[0][start + 1]:02X}{parts[0][start + 2]:02X}{parts[0][start + 3]:02X}"
    assert audio == "mp4a.40.2"
    with av.open(io.BytesIO(b"".join(parts))) as container:
        assert container.streams.audio[0].codec_context.profile == "LC"


def test_sound_beyond_full_scale_is_clipped() -> None:
    pcm, silent = clip(11)[0] * 3, np.zeros((0, SIZE, SIZE, 3), np.uint8)
    loud, clipped = (FragmentEncoder(SIZE, TAGS).encode(x, silent) for x in (pcm, pcm.clip(-1, 1)))
    assert loud == clipped


def test_chunks_without_frames_or_without_sound_are_fragments_of_one_track() -> None:
    encoder = FragmentEncoder(SIZE, TAGS)
    part = encoder.encode(np.zeros(3840, np.float32), np.zeros((0, SIZE, SIZE, 3), np.uint8))
    assert len(children(part, "moof", "traf")) == 1
    part = encoder.encode(np.zeros(0, np.float32), np.zeros((4, SIZE, SIZE, 3), np.uint8))
    assert len(children(part, "moof", "traf")) == 1


@pytest.mark.long
def test_ten_minutes_drift_by_less_than_a_frame() -> None:
    encoder = FragmentEncoder(SIZE, TAGS)
    pcm, frames = np.zeros(3840, np.float32), np.zeros((4, SIZE, SIZE, 3), np.uint8)
    data = [encoder.init, *(encoder.encode(pcm, frames) for _ in range(3750)), encoder.finish()]
    with av.open(io.BytesIO(b"".join(data))) as container:
        video = max(p.pts + p.duration for p in container.demux(video=0) if p.size)
    assert video == 3750 * 3840 + LEAD
    assert abs(encoder.samples - video) == 0
